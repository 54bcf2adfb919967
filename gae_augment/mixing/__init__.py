r"""From a dataset and an augmenter to training batches: the augmented dataset, the sampler that mixes, soft labels.

In come the user's dataset and a source of synthetic images. Out go a dataset of real and synthetic items, and the
indices of batches: they are mixed in :class:`MixedSampler`. Imports ``_utils`` and ``data``.
"""

from .dataset import AugmentedDataset, ImageSource
from .sampler import LabelledImages, MixedSampler
from .teachers import Teacher, check_teacher, check_weight, soft_labels

__all__ = [
    "AugmentedDataset",
    "ImageSource",
    "LabelledImages",
    "MixedSampler",
    "Teacher",
    "check_teacher",
    "check_weight",
    "soft_labels",
]
