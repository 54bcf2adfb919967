r"""Samples new images from a fitted model.

:func:`sample` draws codes and decodes them. Depending on the settings of the model, new images receive detail of
training images, and new images that are too similar to a training image are redrawn. This subpackage imports
``_utils``, ``data``, ``models`` and ``fitting``.
"""

from .sampling import draw_codes, sample
from .similarity import aligned_nearest

__all__ = ["aligned_nearest", "draw_codes", "sample"]
