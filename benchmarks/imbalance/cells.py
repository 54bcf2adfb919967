r"""The cells of the experiment: a data set, made long-tailed by a profile."""

__all__ = ["BUDGETS", "PROFILES", "REGIMES", "Budget", "Cell", "choose_training", "thirds"]

from dataclasses import dataclass

import torch

from gae_augment.demo import LabelledSet
from gae_augment.evaluation.images import Labelled
from gae_augment.longtail import choose_images, profile_counts

PROFILES = ("natural", "lt-10", "lt-20", "lt-100", "deepsmote")

REGIMES = ("plain", "affine", "strong")
"""What is done to every training image, real and synthetic: nothing, a random affine map, or that of TrivialAugment."""


@dataclass(frozen=True)
class Cell:
    r"""A data set with a profile and a regime."""

    dataset: str
    profile: str
    regime: str


@dataclass(frozen=True)
class Budget:
    r"""How long a classifier is trained: the same for all strategies, with and without synthetic images.

    Attributes:
        steps: The optimiser's steps.
        batch_size: The images in a batch.
        learning_rate: The peak of the learning rate.
    """

    steps: int
    batch_size: int
    learning_rate: float


BUDGETS = {
    "digits": Budget(500, 64, 5e-3),
    "bccd": Budget(1000, 64, 5e-3),
    "mnist": Budget(1500, 128, 5e-3),
    "fashion_mnist": Budget(1500, 128, 5e-3),
    "cifar10": Budget(2000, 128, 1e-2),
}


def choose_training(data: LabelledSet, profile: str, seed: int) -> Labelled:
    r"""Returns the training images that a profile leaves; which ones depends on the seed alone.

    Raises:
        ValueError: If the profile does not suit the data set.
    """
    images, labels = data.train
    counts = profile_counts(profile, labels.bincount(minlength=len(data.classes)).tolist())
    chosen = torch.from_numpy(choose_images(labels.numpy(), dict(enumerate(counts)), seed))
    return images[chosen], labels[chosen]


def thirds(counts: list[int]) -> tuple[list[int], list[int], list[int]]:
    r"""Returns the classes with the most images, the middle ones and the scarcest, a third each."""
    order = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    part = max(1, round(len(order) / 3))
    return order[:part], order[part : len(order) - part], order[len(order) - part :]
