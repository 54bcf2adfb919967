r"""Samples new images from a fitted model.

This subpackage imports ``_utils``, ``data``, ``models`` and ``fitting``.
"""

from .sampling import check_out, draw_codes, sample, to_nchw
from .similarity import aligned_nearest

__all__ = ["aligned_nearest", "check_out", "draw_codes", "sample", "to_nchw"]
