r"""The demonstration: a long-tailed data set, a classifier with and without synthetic images, a table and a picture."""

__all__ = ["DEFAULT_PROFILE", "DemoResult", "LabelledSet", "load_data", "picture", "run_demo", "table"]

from .data import LabelledSet, load_data
from .run import DEFAULT_PROFILE, DemoResult, run_demo
from .show import picture, table
