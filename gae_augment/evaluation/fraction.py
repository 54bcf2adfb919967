r"""Chooses the fraction of synthetic images in training batches, by scoring a classifier on held-out real images."""

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
    r"""The chosen fraction of synthetic images in training batches, and the scores that led to the choice.

    A classifier was trained and scored on several random splits of the real images into training and held-out images.

    Attributes:
        fraction: The chosen fraction; 0 if the best tested fraction was not significantly better than 0.
        without: The balanced accuracy without synthetic images, one value per split, in [0, 1].
        scores: For each tested fraction, the balanced accuracy, one value per split, in [0, 1].
    """

    fraction: float
    without: tuple[float, ...]
    scores: dict[float, tuple[float, ...]]

    def difference(self, fraction: float) -> PairedDifference:
        r"""Returns the mean gain in balanced accuracy from synthetic images, with its 95 % confidence interval.

        Args:
            fraction: One of the tested fractions.
        """
        pairs = zip(self.scores[fraction], self.without, strict=True)
        return PairedDifference.of([score - base for score, base in pairs])

    @property
    def best(self) -> float:
        r"""The tested fraction with the highest mean balanced accuracy, whether or not it is the chosen one."""
        return max(self.scores, key=lambda fraction: self.difference(fraction).mean)

    @property
    def reason(self) -> str:
        r"""A sentence that explains the choice, with the best fraction's gain in balanced accuracy."""
        gain = self.difference(self.best)
        points = f"{100 * gain.mean:+.2f} points (95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"  # type: ignore[operator]
        change = f"on held-out real images of {len(self.without)} splits the balanced accuracy changed by {points}"
        if self.fraction:
            return f"A synthetic fraction of {self.fraction:g} is used: {change}."
        return f"No synthetic images are used: with the best fraction, {self.best:g}, {change}, which may be chance."

    def as_dict(self) -> dict[str, Any]:
        r"""Returns all attributes and the text ``reason`` as a dictionary that the ``json`` module can write."""
        return {**asdict(self), "reason": self.reason}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        r"""Restores a choice from the result of :meth:`as_dict`, which may have been saved as JSON."""
        scores = {float(fraction): tuple(split_scores) for fraction, split_scores in values["scores"].items()}
        return cls(float(values["fraction"]), tuple(values["without"]), scores)


def hold_out(train: Labelled, fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    r"""Splits labelled images at random into training images and held-out images.

    At least one image is held out from each class with three or more images. No image is held out from a smaller
    class, because a generative model needs at least two training images.

    Args:
        train: The images, with shape :math:`(N, C, H, W)`, and their labels, with shape :math:`(N,)`.
        fraction: The fraction of each class's images to hold out.
        seed: The seed of the split.

    Returns:
        The training images and their labels, and the held-out images and their labels.
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

    The real images are split several times at random. Each split holds out a fifth of each class with at least three
    images. From the images that are not held out, ``synthesise`` creates synthetic images. One classifier is trained
    for each fraction, and one without synthetic images. A classifier's score is its balanced accuracy on the held-out
    images.

    The gain of a fraction is its score minus the score without synthetic images. The fraction with the highest mean
    gain over the splits is chosen if a one-sided t-test finds this gain above 0 with 95 % confidence. Otherwise the
    choice is 0.

    Args:
        train: The real training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`, and their labels. Do not
            include test images.
        synthesise: A function ``synthesise(real, seed)`` that returns synthetic images and their labels. ``real`` is a
            pair of images and labels, and the function must learn from these images alone.
        fractions: The values of ``synthetic_fraction`` to test, each above 0 and at most 1. Nearly this fraction of the
            images drawn from the scarcest class is synthetic.
        splits: The number of splits, at least 2.
        seed: The seed of the splits, from which the seeds for ``synthesise`` and ``train_on`` are derived.
        train_on: A function ``train_on(real, synthetic, fraction, seed)`` that trains your classifier and returns a
            function from images to labels. ``real`` and ``synthetic`` are pairs of images and labels. By default a
            small convolutional classifier is trained on class-balanced batches.
        progress: A function that is called after each training. Its arguments are the split's index, the fraction and
            the score.
        **training: Arguments of :func:`gae_augment.evaluation.train_classifier` for the default classifier, such as
            ``epochs``, which is 10 by default.

    Raises:
        ValueError: If images, labels or a numeric argument are invalid, no class has three images, or both ``train_on``
            and arguments of the default classifier are passed.

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
    r"""Returns the mean recall over the classes that occur in ``labels``, the true labels."""
    is_correct = (predictions.cpu() == labels).double()
    return torch.stack([is_correct[labels == label].mean() for label in labels.unique()]).mean().item()
