r"""Mixes real and synthetic images in training batches: the augmented dataset, the sampler, and soft labels.

Input: the user's dataset and a source of synthetic images. Output: a dataset of real and synthetic items, from
:class:`AugmentedDataset`, and the indices of mixed batches, from :class:`MixedSampler`. This subpackage imports
``_utils`` and ``data``.
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
