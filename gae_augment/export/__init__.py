r"""Exports synthetic images, and optionally real images, from a fitted augmenter to files.

The images are divided into shards: batches of images, written in parallel. Input: a fitted augmenter, and optionally
the image folder of its training set. Output: an image folder, WebDataset tar files or Parquet files. The optional
libraries ``webdataset`` and ``datasets`` are imported only when their formats are written.
"""

from .formats import FORMATS
from .shards import write_shards

__all__ = ["FORMATS", "write_shards"]
