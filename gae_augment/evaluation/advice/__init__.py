r"""Advice on synthetic images: whether they help on a training set, and which training is best."""

from .run import advise
from .verdict import Advice

__all__ = ["Advice", "advise"]
