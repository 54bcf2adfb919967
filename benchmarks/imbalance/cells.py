r"""The cells of the experiment: a data set with a long-tailed profile and a regime of image transforms."""

__all__ = ["BUDGETS", "MEASURED_ON", "PROFILES", "REGIMES", "Budget", "Cell", "choose_training", "split", "thirds"]

from dataclasses import dataclass, replace
from typing import Literal

import torch

from gae_augment.data import choose_images, profile_counts
from gae_augment.demo import LabelledSet
from gae_augment.evaluation.fraction import HELD_OUT, hold_out
from gae_augment.evaluation.images import Labelled

PROFILES = ("natural", "lt-10", "lt-20", "lt-100", "deepsmote")

REGIMES = ("plain", "affine", "strong")
"""The transform of every training image, real and synthetic: none, a random affine map, or TrivialAugment."""


GREY = ("digits", "mnist", "fashion_mnist")
"""The data sets of grey images."""


@dataclass(frozen=True)
class Cell:
    r"""A data set with a profile and a regime.

    Raises:
        ValueError: If the regime does not suit the data set.
    """

    dataset: str
    profile: str
    regime: str

    def __post_init__(self) -> None:
        if self.regime == "strong" and self.dataset in GREY:
            raise ValueError(
                f"The regime 'strong' mirrors images and shifts their colours, but {self.dataset!r} has grey images. "
                f"Use 'affine'."
            )


@dataclass(frozen=True)
class Budget:
    r"""The training budget of a classifier, equal for all strategies, with and without synthetic images.

    Soft labels double it, since their teacher is trained for as long.

    Attributes:
        steps: The optimiser steps.
        batch_size: The images in a batch.
        learning_rate: The peak of the learning rate.
        weight_decay: The weight decay of AdamW.
        precision: The precision, in Lightning's terms.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: Literal["32-true", "bf16-mixed"] = "32-true"


BUDGETS = {
    "digits": Budget(500, 64, 5e-3, 0.01),
    "bccd": Budget(1000, 64, 5e-3, 0.01),
    "mnist": Budget(1500, 128, 0.04, 0.1),
    "fashion_mnist": Budget(1500, 128, 0.04, 0.1),
    # In bfloat16 the residual network takes half the time, on processors with instructions for it.
    "cifar10": Budget(1500, 128, 0.02, 0.1, "bf16-mixed"),
}
"""Budgets; MNIST's and Fashion-MNIST's are tuned for class-balanced sampling, see ``tuning/REPORT.md``."""

MEASURED_ON = ("test", "development", "validation")
"""The images that runs are measured on.

Choices are made on the last two. ``"development"`` is a tenth of every class, held out before the profile is applied,
so that scarce classes have many images. No user has such images, but they are enough to tell methods apart.
``"validation"`` is a fifth of the images after the profile, as a user would hold out.
"""

DEVELOPMENT = 0.1


def choose_training(data: LabelledSet, profile: str, seed: int) -> Labelled:
    r"""Returns the training images after a profile; the choice depends on the seed alone.

    Raises:
        ValueError: If the profile does not suit the data set.
    """
    images, labels = data.train
    counts = profile_counts(profile, labels.bincount(minlength=len(data.classes)).tolist())
    chosen = torch.from_numpy(choose_images(labels.numpy(), dict(enumerate(counts)), seed))
    return images[chosen], labels[chosen]


def split(data: LabelledSet, profile: str, seed: int, on: str) -> tuple[Labelled, Labelled]:
    r"""Returns the training images of a run, and the images to measure on.

    Raises:
        ValueError: If the profile does not suit the data set.
    """
    if on == "test":
        return choose_training(data, profile, seed), data.test
    if on == "validation":
        real, held_out = hold_out(choose_training(data, profile, seed), HELD_OUT, seed)
        if bare := sorted(set(range(len(data.classes))) - set(held_out[1].tolist())):
            raise ValueError(
                f"After the profile {profile!r} class {bare[0]} of {data.name!r} has fewer than three images, but a "
                f"fifth of each class must be held out. Measure on 'development' images, or use another profile."
            )
        return real, held_out
    rest, development = hold_out(data.train, DEVELOPMENT, seed)
    return choose_training(replace(data, train=rest), profile, seed), development


def thirds(counts: list[int]) -> tuple[list[int], list[int], list[int]]:
    r"""Returns the classes with the most images, the middle ones and the scarcest, a third each."""
    order = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    size = max(1, round(len(order) / 3))
    return order[:size], order[size : len(order) - size], order[len(order) - size :]
