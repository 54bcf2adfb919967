r"""Assesses a fitted augmenter, and writes the assessment as one HTML page.

Input: a fitted augmenter and its training set, optionally with held-out images. Output: metrics, a text table, or an
HTML file that needs no network. Imports the augmenter, ``evaluation`` and the rooms below them. Only ``write_report``
imports Jinja and matplotlib.
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
)
from .forecasting import Forecast, forecast
from .write import write_report

__all__ = [
    "Assessment",
    "Forecast",
    "assess",
    "forecast",
    "gain_table",
    "measure_gain",
    "open_data",
    "open_training_data",
    "strategy_images",
    "training_budget",
    "write_report",
]
