r"""Exports the images of a fitted augmenter as files, many at a time and in parallel.

Input: a fitted augmenter, and optionally the image folder of its training set. Output: an image folder, WebDataset tar
files or Parquet files. Imports the augmenter and the rooms below it, but neither ``evaluation`` nor ``report``.
``webdataset`` and ``datasets`` are imported only when their format is written.
"""

from .formats import FORMATS
from .shards import write_shards

__all__ = ["FORMATS", "write_shards"]
