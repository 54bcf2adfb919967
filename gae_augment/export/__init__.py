r"""Exports synthetic images, and optionally real images, from a fitted augmenter to files.

The output is an image folder, WebDataset tar files or Parquet files.
"""

from .formats import FORMATS
from .selection import Chosen, Selection, select_images
from .shards import write_images, write_shards

__all__ = ["FORMATS", "Chosen", "Selection", "select_images", "write_images", "write_shards"]
