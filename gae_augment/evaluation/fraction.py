r"""Chooses the fraction of synthetic images in training batches."""

__all__ = ["FractionChoice", "choose_synthetic_fraction", "hold_out"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .._utils.seeding import derive_seed
from ..data import choose_images
from .advice.splits import check_groups, grouped_folds
from .gain import PairedDifference, train_mixed
from .images import Labelled, checked_pair

HELD_OUT = 0.2
"""The fraction of each class's images that a split holds out of the training."""

CONFIDENCE = 0.95
"""The confidence of the one-sided t-test that the best fraction must pass; otherwise the choice is 0.

The best fraction is selected on the same splits on which it is tested. If there are two fractions, useless synthetic
images therefore pass the test one time in twelve, not one time in twenty.
"""

Predict = Callable[[Tensor], Tensor]
"""A function from images to predicted labels."""

Train = Callable[[Labelled, Labelled, float, int], Predict]
"""A function that trains a classifier.

Its arguments are real images, synthetic images, a synthetic fraction and a seed. It returns a function from images to
predicted labels.
"""


@dataclass(frozen=True)
class FractionChoice:
    r"""The chosen fraction of synthetic images in training batches, and the scores behind the choice.

    Each fraction was scored on several random splits of the real images into training and held-out images.

    Attributes:
        fraction: The chosen fraction. It is 0 if the best tested fraction did not significantly improve the scores.
        without: The balanced accuracies without synthetic images, in [0, 1], one value per split.
        scores: A mapping from each tested fraction to its balanced accuracies, in [0, 1], one value per split.
    """

    fraction: float
    without: tuple[float, ...]
    scores: dict[float, tuple[float, ...]]

    def difference(self, fraction: float) -> PairedDifference:
        r"""Returns the mean gain in balanced accuracy over training without synthetic images, with its 95 % interval.

        Args:
            fraction: One of the tested fractions.
        """
        pairs = zip(self.scores[fraction], self.without, strict=True)
        return PairedDifference.of([score - base for score, base in pairs])

    @property
    def best(self) -> float:
        r"""The tested fraction with the highest mean balanced accuracy, chosen or not."""
        return max(self.scores, key=lambda fraction: self.difference(fraction).mean)

    @property
    def reason(self) -> str:
        r"""A sentence that explains the choice."""
        gain = self.difference(self.best)
        points = f"{100 * gain.mean:+.2f} points (95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"  # type: ignore[operator]
        change = f"on held-out real images of {len(self.without)} splits the balanced accuracy changed by {points}"
        if self.fraction:
            return f"A synthetic fraction of {self.fraction:g} is used: {change}."
        return f"No synthetic images are used: with the best fraction, {self.best:g}, {change}, which may be chance."

    def as_dict(self) -> dict[str, Any]:
        r"""Returns the attributes and ``reason`` as a dictionary that the ``json`` module can write."""
        return {**asdict(self), "reason": self.reason}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        r"""Restores a choice from a dictionary that :meth:`as_dict` returned."""
        scores = {float(fraction): tuple(split_scores) for fraction, split_scores in values["scores"].items()}
        return cls(float(values["fraction"]), tuple(values["without"]), scores)


def hold_out(
    train: Labelled, fraction: float, seed: int, groups: Sequence[Any] | None = None
) -> tuple[Labelled, Labelled]:
    r"""Splits labelled images at random into training images and held-out images.

    Without groups, classes with fewer than three images stay in the training set, and at least one image of each other
    class is held out. With groups, classes with one group stay in the training set.

    Args:
        train: The images, with shape :math:`(N, C, H, W)`, and their labels, with shape :math:`(N,)`.
        fraction: The fraction of each class's images to hold out; with groups, about this fraction.
        seed: The seed of the split.
        groups: The group of each image. Images of one group stay together. ``None`` treats images as independent.

    Returns:
        The training images and their labels, and the held-out images and their labels.
    """
    images, labels = train
    if groups is None:
        counts = dict(enumerate(labels.bincount().tolist()))
        numbers = {label: max(1, round(fraction * count)) if count > 2 else 0 for label, count in counts.items()}
        held_out = torch.from_numpy(choose_images(labels.numpy(), numbers, seed))
    else:
        held_out = torch.from_numpy(grouped_folds(labels.numpy(), groups, round(1 / fraction), seed)[0])
    in_training = torch.ones(len(labels), dtype=torch.bool).index_fill(0, held_out, False)
    return (images[in_training], labels[in_training]), (images[held_out], labels[held_out])


def choose_synthetic_fraction(
    train: Labelled,
    synthesise: Callable[[Labelled, int], Labelled],
    *,
    fractions: Sequence[float] = (0.25, 0.5),
    splits: int = 5,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    train_on: Train | None = None,
    progress: Callable[[int, float, float], None] = lambda split, fraction, score: None,
    **training: Any,
) -> FractionChoice:
    r"""Chooses the ``synthetic_fraction`` of :class:`gae_augment.MixedSampler` for a classifier.

    Each random split of the real images holds out a fifth of each class with at least three images. From the other
    images, ``synthesise`` creates synthetic images. A classifier is trained for each fraction, and one without
    synthetic images. Its score is the balanced accuracy on the held-out images.

    The fraction with the highest mean score is chosen. If a one-sided t-test with 95 % confidence does not find it
    better than no synthetic images, the choice is 0.

    Args:
        train: Real training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`, and their labels. Do not
            include test images.
        synthesise: A function that receives a pair of images and labels, and a seed. It learns from these images alone,
            and returns synthetic images and their labels.
        fractions: The values of ``synthetic_fraction`` to test, above 0 and at most 1.
        splits: The number of splits, at least 2.
        groups: The object that each image shows, one value per image. Images of one object are then held out together.
            ``None`` treats images as independent.
        seed: The seed of the splits, the synthetic images and the classifiers.
        train_on: A function ``train_on(real, synthetic, fraction, seed)``, where ``real`` and ``synthetic`` are pairs
            of images and labels. It trains your classifier, and returns a function from images to labels. The default
            trains a small convolutional classifier.
        progress: A function that is called after each training with the split's index, the fraction and the score.
        **training: Arguments of :func:`gae_augment.evaluation.train_classifier` for the default classifier. ``epochs``
            is 10 by default.

    Raises:
        ValueError: If an argument is invalid, no class has three images, or ``train_on`` and arguments of the default
            classifier are both passed.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, labels = (torch.from_numpy(array) for array in load_digits(n_class=2, return_X_y=True))
        >>> train = images[:80].view(-1, 1, 8, 8).float() / 16, labels[:80]
        >>> choice = choose_synthetic_fraction(train, lambda real, seed: real, splits=2, epochs=1)
        >>> choice.fraction  # copies of the real images do not help
        0.0
    """
    images, labels = checked_pair(train, "train")
    fractions = tuple(float(fraction) for fraction in fractions)
    if not fractions or len(set(fractions)) < len(fractions) or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(
            f"'fractions' is {fractions}, but must hold different numbers above 0 and at most 1. Use (0.25, 0.5)."
        )
    if splits < 2:
        raise ValueError(f"'splits' is {splits}, but must be at least 2. One split does not show the noise.")
    if labels.bincount().max() < 3:
        raise ValueError(
            "Every class has fewer than three images, so none can be held out. "
            "Set the fraction yourself: 0.5 is a good first choice."
        )
    if train_on is not None and training:
        raise ValueError(f"{sorted(training)} apply only to the default classifier. Leave them or 'train_on' out.")
    if groups is not None:
        check_groups(groups, len(labels))
    classes = int(labels.max()) + 1

    def train_default(real: Labelled, synthetic: Labelled, fraction: float, seed: int) -> Predict:
        options = {"epochs": 10, **training}
        return train_mixed(real, synthetic, fraction, classes=classes, seed=seed, **options).predict

    scores: dict[float, list[float]] = {fraction: [] for fraction in (0.0, *fractions)}
    for split in range(splits):
        # NumPy and scikit-learn take seeds of 32 bits.
        split_seed = derive_seed(seed, "split", split) % 2**32
        real, held_out = hold_out((images, labels), HELD_OUT, split_seed, groups)
        synthetic = checked_pair(synthesise(real, split_seed), "synthetic", classes, like=images, at_least=0)
        for fraction in scores:
            predict = (train_on or train_default)(real, synthetic, fraction, split_seed)
            scores[fraction].append(_balanced_accuracy(held_out[1], predict(held_out[0])))
            progress(split, fraction, scores[fraction][-1])
    without = tuple(scores.pop(0.0))
    choice = FractionChoice(0.0, without, {fraction: tuple(values) for fraction, values in scores.items()})
    gains = np.subtract(choice.scores[choice.best], without)
    return FractionChoice(choice.best, without, choice.scores) if _significantly_above_zero(gains) else choice


def _significantly_above_zero(gains: np.ndarray) -> bool:
    from scipy.stats import t

    standard_error = gains.std(ddof=1) / len(gains) ** 0.5
    return bool(gains.mean() > t.ppf(CONFIDENCE, len(gains) - 1) * standard_error)


def _balanced_accuracy(labels: Tensor, predictions: Tensor) -> float:
    r"""Returns the mean recall over the classes of the true labels."""
    is_correct = (predictions.cpu() == labels).double()
    return torch.stack([is_correct[labels == label].mean() for label in labels.unique()]).mean().item()
