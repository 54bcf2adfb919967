r"""Selection of long-tailed subsets of balanced training sets."""

__all__ = ["choose_images", "profile_counts"]

import re

import numpy as np
import torch

from .._utils.seeding import make_generator

DEEPSMOTE_COUNTS = (4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40)
"""The number of images of each class in the DeepSMOTE paper (arXiv 2105.02340), for MNIST and Fashion-MNIST."""

MIN_IMAGES = 2
"""The minimum number of images of a class in an exponential profile, because a model needs two images."""


def profile_counts(profile: str, available: list[int]) -> list[int]:
    r"""Returns the number of images to keep of each class, for an imbalanced subset.

    Args:
        profile: One of the following.

            - ``"natural"`` keeps all images.
            - ``"lt-R"``, such as ``"lt-100"``, is the exponential profile of LDAM-DRW (arXiv 1906.07413). The integer
              :math:`R \geq 1` is the imbalance ratio. Of :math:`C` classes, class :math:`c = 0 \dots C - 1` keeps
              :math:`\lfloor n R^{-c/(C-1)} \rfloor` images, but at least 2, the minimum for a model. Here :math:`n` is
              the smallest number in ``available``, so that every class has enough images.
            - ``"deepsmote"`` keeps the class counts of the DeepSMOTE paper (arXiv 2105.02340), from 4000 down to 40
              images. It needs ten classes.
        available: The number of available images of each class.

    Raises:
        ValueError: If the profile is unknown, or ``"deepsmote"`` is used without ten classes that have enough images.
    """
    if profile == "natural":
        return list(available)
    if profile == "deepsmote":
        if len(available) != len(DEEPSMOTE_COUNTS) or any(
            n < count for n, count in zip(available, DEEPSMOTE_COUNTS, strict=True)
        ):
            raise ValueError(
                f"The classes have {available} images, but the profile 'deepsmote' needs ten classes of at least "
                f"{DEEPSMOTE_COUNTS} images. Use 'lt-100' or 'natural'."
            )
        return list(DEEPSMOTE_COUNTS)
    match = re.fullmatch(r"lt-(\d+)", profile)
    if not match or int(match[1]) < 1:
        raise ValueError(
            f"The profile is {profile!r}, but must be 'natural', 'deepsmote' or 'lt-R' with an imbalance ratio R, such "
            f"as 'lt-100'."
        )
    largest, ratio, last = min(available), int(match[1]), max(len(available) - 1, 1)
    return [max(MIN_IMAGES, int(largest * (1 / ratio) ** (c / last) + 1e-9)) for c in range(len(available))]


def choose_images(labels: np.ndarray, counts: dict[int, int], seed: int) -> np.ndarray:
    r"""Returns the sorted indices of a random subset with given class counts, drawn without replacement.

    The choice in one class does not depend on the other classes.

    Args:
        labels: The integer labels of all :math:`N` images, with shape :math:`(N,)`.
        counts: The number of images to keep, by label. Classes without an entry keep no images.
        seed: The seed of the random choice.
    """
    subsets = []
    for label, count in counts.items():
        indices = np.flatnonzero(labels == label)
        order = torch.randperm(len(indices), generator=make_generator(seed, "long tail", int(label))).numpy()
        subsets.append(indices[order[:count]])
    return np.sort(np.concatenate(subsets))
