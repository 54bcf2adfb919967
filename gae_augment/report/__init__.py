r"""Measures the quality of an augmenter's synthetic images, and writes reports as HTML pages.

An augmenter holds one generative model for each class with too few images. Input: a :class:`gae_augment.GAEAugmenter`
and its training set, optionally with held-out images. Output: metrics, a text table, a forecast of the fit's duration,
or a self-contained HTML file. Only :func:`write_report` imports Jinja and matplotlib.
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
