r"""Samples images: draws new codes, decodes them, keeps the detail of real images, and limits similarity.

Input: a :class:`gae_augment.fitting.FittedModel`, a number and a seed. Output: images in the user's values. The entry
point is :func:`sample`. Imports ``_utils``, ``data``, ``models`` and ``fitting``.
"""

from .sampling import draw_codes, sample
from .similarity import aligned_nearest

__all__ = ["aligned_nearest", "draw_codes", "sample"]
