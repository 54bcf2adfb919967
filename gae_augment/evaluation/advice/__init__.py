r"""Advice on synthetic images: whether they help on a training set, and which training is best."""

from .prior import Posterior
from .run import advise
from .verdict import Advice, AdviceRow

__all__ = ["Advice", "AdviceRow", "Posterior", "advise"]
