r"""The augmenter: one generative model for each scarce class of a training set."""

from .augmenter import GAEAugmenter

__all__ = ["GAEAugmenter"]
