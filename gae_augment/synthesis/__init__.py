r"""Samples images: draws codes, decodes them, adds the detail of training images, and limits similarity to these.

Input: a :class:`gae_augment.fitting.FittedModel`, a number of images and a seed. Output: images in the type and value
range of the training images. The entry point is :func:`sample`. This subpackage imports ``_utils``, ``data``,
``models`` and ``fitting``.
"""

from .sampling import draw_codes, sample
from .similarity import aligned_nearest

__all__ = ["aligned_nearest", "draw_codes", "sample"]
