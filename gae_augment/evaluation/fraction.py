r"""The choice of the synthetic fraction, on held-out real images; 0 if the gain is not significant."""

__all__ = ["FractionChoice", "choose_synthetic_fraction", "hold_out"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .._utils.seeding import derive_seed
from ..data import choose_images
from .gain import PairedDifference, train_mixed
from .images import Labelled, checked_pair

HELD_OUT = 0.2
"""The held-out fraction of each class."""

CONFIDENCE = 0.95
"""The one-sided confidence that a gain is above 0, required before synthetic images are used.

Only the better of two fractions is tested, so useless images still pass one time in twelve.
"""

Predict = Callable[[Tensor], Tensor]
"""Maps images to labels."""

Train = Callable[[Labelled, Labelled, float, int], Predict]
"""Trains a classifier on real images, synthetic images, a synthetic fraction and a seed."""


@dataclass(frozen=True)
class FractionChoice:
    r"""The chosen synthetic fraction and its reason.

    Attributes:
        fraction: The chosen fraction; 0 if no other was significantly better.
        without: The balanced accuracy of each split without synthetic images, in [0, 1].
        scores: The balanced accuracy of each split with each tested fraction.
    """

    fraction: float
    without: tuple[float, ...]
    scores: dict[float, tuple[float, ...]]

    def difference(self, fraction: float) -> PairedDifference:
        r"""Returns the gain of a fraction over no synthetic images, paired by split, with its 95 % interval."""
        pairs = zip(self.scores[fraction], self.without, strict=True)
        return PairedDifference.of([score - base for score, base in pairs])

    @property
    def best(self) -> float:
        r"""The fraction with the highest mean gain, even if it was not chosen."""
        return max(self.scores, key=lambda fraction: self.difference(fraction).mean)

    @property
    def reason(self) -> str:
        r"""The choice as a sentence, in points of balanced accuracy."""
        gain = self.difference(self.best)
        points = f"{100 * gain.mean:+.2f} points (95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"  # type: ignore[operator]
        change = f"on held-out real images of {len(self.without)} splits the balanced accuracy changed by {points}"
        if self.fraction:
            return f"A synthetic fraction of {self.fraction:g} is used: {change}."
        return f"No synthetic images are used: with the best fraction, {self.best:g}, {change}, which may be chance."

    def as_dict(self) -> dict[str, Any]:
        r"""Returns everything as plain values for JSON."""
        return {**asdict(self), "reason": self.reason}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        r"""Returns the choice from the values of :meth:`as_dict`, also after a round trip through JSON."""
        scores = {float(fraction): tuple(split_scores) for fraction, split_scores in values["scores"].items()}
        return cls(float(values["fraction"]), tuple(values["without"]), scores)


def hold_out(train: Labelled, fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    r"""Splits labelled images into training images and a held-out fraction of each class.

    At least one image is held out of each class with three or more images. A smaller class stays whole, because a model
    needs two images. The split depends on the seed and the labels alone.
    """
    images, labels = train
    counts = dict(enumerate(labels.bincount().tolist()))
    held_out_counts = {label: max(1, round(fraction * count)) if count > 2 else 0 for label, count in counts.items()}
    held_out = torch.from_numpy(choose_images(labels.numpy(), held_out_counts, seed))
    in_training = torch.ones(len(labels), dtype=torch.bool).index_fill(0, held_out, False)
    return (images[in_training], labels[in_training]), (images[held_out], labels[held_out])


def choose_synthetic_fraction(
    train: Labelled,
    synthesise: Callable[[Labelled, int], Labelled],
    *,
    fractions: Sequence[float] = (0.25, 0.5),
    splits: int = 5,
    seed: int = 0,
    train_on: Train | None = None,
    progress: Callable[[int, float, float], None] = lambda split, fraction, score: None,
    **training: Any,
) -> FractionChoice:
    r"""Chooses the best ``synthetic_fraction`` of :class:`gae_augment.MixedSampler` for a classifier, or 0.

    Each split holds out a fifth of each class and creates synthetic images from the other images alone. It trains one
    classifier per fraction and one without synthetic images, and scores them on the held-out images. A fraction is
    chosen only if its mean gain over the splits is above 0 with 95 % confidence, by a one-sided t-test. Otherwise the
    choice is 0. Do not pass test images.

    Args:
        train: The real training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`, and their labels.
        synthesise: A function from real images with labels and a seed to synthetic images with labels. It must learn
            from those real images alone.
        fractions: The fractions to test, each above 0 and at most 1.
        splits: The number of splits, at least 2.
        seed: The seed of everything random.
        train_on: A function that trains your classifier on real images, synthetic images, a fraction and a seed. It
            returns a function from images to labels. By default a small classifier with class-balanced batches.
        progress: Called after each training with the number of the split, the fraction and the score.
        **training: Arguments of :func:`gae_augment.evaluation.train_classifier` for the default classifier, such as
            ``epochs``.

    Raises:
        ValueError: If images, labels or a number are invalid, or no class has three images.

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
    classes = int(labels.max()) + 1

    def train_default(real: Labelled, synthetic: Labelled, fraction: float, seed: int) -> Predict:
        options = {"epochs": 10, **training}
        return train_mixed(real, synthetic, fraction, classes=classes, seed=seed, **options).predict

    scores: dict[float, list[float]] = {fraction: [] for fraction in (0.0, *fractions)}
    for split in range(splits):
        # NumPy and scikit-learn take seeds of 32 bits.
        split_seed = derive_seed(seed, "split", split) % 2**32
        real, held_out = hold_out((images, labels), HELD_OUT, split_seed)
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
    r"""Returns the mean recall of the classes that occur in the labels."""
    is_correct = (predictions.cpu() == labels).double()
    return torch.stack([is_correct[labels == label].mean() for label in labels.unique()]).mean().item()
