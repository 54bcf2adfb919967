r"""Exports real and synthetic images of a fitted augmenter in shards: batches that are written in parallel.

Input: a fitted augmenter, and optionally the image folder of its training set. Output: an image folder, WebDataset tar
files or Parquet files. Imports the augmenter and the packages that the augmenter imports, but not
``evaluation`` or ``report``.
The libraries ``webdataset`` and ``datasets`` are imported only when their formats are written.
"""

from .formats import FORMATS
from .shards import write_shards

__all__ = ["FORMATS", "write_shards"]
