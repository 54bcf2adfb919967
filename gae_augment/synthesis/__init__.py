r"""From codes to images: draws new codes, decodes them, keeps the detail of real images, and limits similarity.

In comes a :class:`gae_augment.fitting.FittedModel`, a number and a seed. Out go images in the user's values. Imports
``_utils``, ``data``, ``models`` and ``fitting``. A synthetic image is made in :func:`sample`.
"""

from .sampling import draw_codes, sample
from .similarity import aligned_nearest

__all__ = ["aligned_nearest", "draw_codes", "sample"]
