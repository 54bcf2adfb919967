r"""Exports synthetic images, and optionally real images, from a fitted augmenter to files.

The output is an image folder, WebDataset tar files or Parquet files.
"""

from .formats import FORMATS
from .shards import write_images, write_shards

__all__ = ["FORMATS", "write_images", "write_shards"]
