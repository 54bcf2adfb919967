r"""Demonstrates how synthetic images change a classifier's scores on a long-tailed data set."""

__all__ = ["DEFAULT_PROFILE", "DemoResult", "LabelledSet", "load_data", "picture", "run_demo", "table"]

from .data import LabelledSet, load_data
from .run import DEFAULT_PROFILE, DemoResult, run_demo
from .show import picture, table
