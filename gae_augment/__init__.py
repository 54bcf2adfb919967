r"""Synthetic images for the scarce classes of a PyTorch classifier, from generative autoencoders."""

from .augmenter import GAEAugmenter
from .datasets import AugmentedDataset
from .objectives import MODELS
from .samplers import MixedSampler

__all__ = ["MODELS", "AugmentedDataset", "GAEAugmenter", "MixedSampler"]
__version__ = "0.1.0"
