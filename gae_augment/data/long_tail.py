r"""Long-tailed training sets, made from balanced ones by rule."""

__all__ = ["choose_images", "profile_counts"]

import re

import numpy as np
import torch

from .._utils.seeding import make_generator

DEEPSMOTE_COUNTS = (4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40)
"""The counts of the DeepSMOTE paper (2105.02340) for MNIST and Fashion-MNIST."""

LEAST = 2
"""No profile leaves a class fewer images than a generator needs."""


def profile_counts(profile: str, available: list[int]) -> list[int]:
    r"""Returns how many images of each class a long-tailed set keeps.

    Args:
        profile: ``"natural"`` keeps all. ``"lt-R"`` is the exponential profile of LDAM-DRW (1906.07413) with ratio R:
            class :math:`c` of :math:`C` keeps :math:`\lfloor n_{\max} R^{-c/(C-1)} \rfloor`, where :math:`n_{\max}` is
            the count of the smallest class that there is, so that any class could come first. ``"deepsmote"`` are the
            counts of that paper, for ten classes.
        available: The images that there are of each class.

    Raises:
        ValueError: If the profile is unknown, or does not suit the number of classes or images.
    """
    if profile == "natural":
        return list(available)
    if profile == "deepsmote":
        if len(available) != len(DEEPSMOTE_COUNTS) or any(
            have < keep for have, keep in zip(available, DEEPSMOTE_COUNTS, strict=True)
        ):
            raise ValueError(
                f"The profile 'deepsmote' is for ten classes of at least {DEEPSMOTE_COUNTS} images, and there are "
                f"{available}. Use 'lt-100' or 'natural'."
            )
        return list(DEEPSMOTE_COUNTS)
    match = re.fullmatch(r"lt-(\d+)", profile)
    if not match or int(match[1]) < 1:
        raise ValueError(
            f"A profile is 'natural', 'deepsmote' or 'lt-R' with a ratio R, such as 'lt-100', and it is {profile!r}."
        )
    largest, ratio, last = min(available), int(match[1]), max(len(available) - 1, 1)
    return [max(LEAST, int(largest * (1 / ratio) ** (place / last) + 1e-9)) for place in range(len(available))]


def choose_images(labels: np.ndarray, counts: dict[int, int], seed: int) -> np.ndarray:
    r"""Returns the sorted indices of so many images of each class, drawn without replacement from the seed alone.

    Args:
        labels: The labels of all images, with shape :math:`(N,)`.
        counts: How many to keep of each label.
        seed: The seed.
    """
    chosen = []
    for label, count in counts.items():
        own = np.flatnonzero(labels == label)
        order = torch.randperm(len(own), generator=make_generator(seed, "long tail", int(label))).numpy()
        chosen.append(own[order[:count]])
    return np.sort(np.concatenate(chosen))
