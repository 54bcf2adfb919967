r"""Mixes real and synthetic images in training batches.

:class:`AugmentedDataset` appends synthetic images to the user's dataset. :class:`MixedSampler` draws the indices of
batches with real and synthetic images. :func:`soft_labels` replaces integer labels by class probabilities. From the
rest of ``gae_augment``, this subpackage imports only ``_utils``, ``data`` and ``motion``.
"""

from .dataset import AugmentedDataset
from .ranks import SharedSampler
from .sampler import LabelledImages, MixedSampler
from .synthetic import ImageSource, apply_motion
from .teachers import Teacher, check_teacher, check_weight, soft_labels

__all__ = [
    "AugmentedDataset",
    "ImageSource",
    "LabelledImages",
    "MixedSampler",
    "SharedSampler",
    "Teacher",
    "apply_motion",
    "check_teacher",
    "check_weight",
    "soft_labels",
]
