r"""Splits of images into training and held-out images, which keep images of one object together."""

__all__ = ["check_groups", "grouped_folds", "near_duplicates"]

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from ..._utils.seeding import derive_seed

ATTEMPTS = 20
"""The maximum number of random splits that are tried, until each class has training images in each."""


DUPLICATE = 0.85
"""Two images are near-duplicates if the cosine of their centred features is above this value.

Of 722 photographs of 124 magnetic tiles, 59 % have such a photograph of the same tile, and 3 % one of another tile of
their class (features of EfficientNet-Lite0).
"""


def check_groups(groups: Sequence[Any], images: int) -> None:
    r"""Checks that there is one group for each image.

    Raises:
        ValueError: If the numbers differ.
    """
    if len(groups) != images:
        raise ValueError(f"'groups' has {len(groups)} values, but must have one for each of {images} images.")


def grouped_folds(labels: np.ndarray, groups: Sequence[Any] | np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    r"""Returns the rows that each fold holds out. Images of one group are held out together.

    Classes are spread over the folds as evenly as their groups allow. Each image is held out once, except the images of
    classes with a single group, which are never held out.

    Args:
        labels: The labels of the images.
        groups: The group of each image, such as the object that it shows.
        n_folds: The number of folds.
        seed: The seed of the folds.

    Raises:
        ValueError: If fewer than two classes have several groups, there are fewer groups than folds, or no split leaves
            training images of each class in each fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    codes = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]
    groups_of_class = [np.unique(codes[labels == label]) for label in np.unique(labels)]
    single = [own[0] for own in groups_of_class if len(own) == 1]
    # A group may show several classes. Where it is all that a class has, it stays in training.
    rows = np.flatnonzero(~np.isin(codes, single))
    n_held_out, n_classes = len(np.unique(labels[rows])), len(np.unique(labels))
    if n_held_out < 2:
        raise ValueError(
            f"Only {n_held_out} of {n_classes} classes show more than one object, but 2 are needed, because whole "
            f"objects are held out. Add images of other objects."
        )
    n_groups = len(np.unique(codes[rows]))
    if n_groups < n_folds:
        raise ValueError(
            f"The images show {n_groups} objects that can be held out, but {n_folds} folds need at least as many. Add "
            f"images of other objects, or check 'groups'."
        )
    for attempt in range(ATTEMPTS):
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=derive_seed(seed, attempt) % 2**32)
        with warnings.catch_warnings():
            # Scarce classes may have fewer images than there are folds.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            folds = [rows[held_out] for _, held_out in splitter.split(rows, labels[rows], codes[rows])]
        classes = len(np.unique(labels))
        if all(len(np.unique(np.delete(labels, held_out))) == classes for held_out in folds):
            return folds
    raise ValueError(
        f"In {ATTEMPTS} random splits, all images of some class were held out together. Its images are of too few "
        f"objects for {n_folds} folds. Check 'groups'."
    )


def near_duplicates(features: Tensor, labels: np.ndarray, groups: np.ndarray) -> float:
    r"""Returns the fraction of images with a near-duplicate of the same class in another group.

    Args:
        features: The features of the images from a pretrained network, with shape :math:`(N, F)`.
        labels: The labels.
        groups: The group of each image, as an integer.
    """
    x = functional.normalize(features - features.mean(dim=0), dim=1)
    found = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        similar = (x[rows] @ x[rows].t() > DUPLICATE).numpy()
        found += int((similar & (groups[rows][:, None] != groups[rows])).any(axis=1).sum())
    return found / len(labels)
