r"""The augmenter: one generative model for each scarce class of a training set."""

from .augmenter import GAEAugmenter
from .motion_learner import motion_learner

__all__ = ["GAEAugmenter", "motion_learner"]
