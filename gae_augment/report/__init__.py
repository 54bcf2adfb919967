r"""Measures the quality of an augmenter's synthetic images, and writes reports as HTML pages.

The input is a :class:`gae_augment.GAEAugmenter` and its training set. The results are metrics, text tables, forecasts
of durations, and HTML files.
"""

from .assessment import (
    Assessment,
    assess,
    gain_table,
    measure_gain,
    open_data,
    open_training_data,
    strategy_images,
    training_budget,
    working_size_of,
)
from .forecasting import Forecast, forecast
from .sheet import contact_sheet
from .write import write_report

__all__ = [
    "Assessment",
    "Forecast",
    "assess",
    "contact_sheet",
    "forecast",
    "gain_table",
    "measure_gain",
    "open_data",
    "open_training_data",
    "strategy_images",
    "training_budget",
    "working_size_of",
    "write_report",
]
