r"""How many synthetic images a classifier is to see: decided on real images that are held out, and none if in doubt."""

__all__ = ["FractionChoice", "choose_synthetic_fraction", "hold_out"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .._utils.seeding import derive_seed
from ..data import choose_images
from .gain import Difference, train_mixed
from .images import Labelled, checked_pair

HELD_OUT = 0.2
"""The part of each class that a choice is made on."""

CERTAINTY = 0.95
"""How sure a gain above 0 has to be, one-sided, before synthetic images are used.

The better of two fractions is looked at, so that images of no use pass one time in twelve.
"""

Predict = Callable[[Tensor], Tensor]
"""From images to labels."""

Train = Callable[[Labelled, Labelled, float, int], Predict]
"""From real and synthetic images, the synthetic fraction and a seed, a trained classifier."""


@dataclass(frozen=True)
class FractionChoice:
    r"""The synthetic fraction that was chosen, and why.

    Attributes:
        fraction: The fraction; 0 if no other was surely better.
        without: The balanced accuracy of each split without synthetic images, in [0, 1].
        scores: That of each split with each fraction that was tried.
    """

    fraction: float
    without: tuple[float, ...]
    scores: dict[float, tuple[float, ...]]

    def difference(self, fraction: float) -> Difference:
        r"""Returns by how much a fraction is above none, split by split, with its 95 % interval."""
        return Difference.of([a - b for a, b in zip(self.scores[fraction], self.without, strict=True)])

    @property
    def best(self) -> float:
        r"""The fraction with the highest mean gain, be it used or not."""
        return max(self.scores, key=lambda fraction: self.difference(fraction).mean)

    @property
    def reason(self) -> str:
        r"""The choice as a sentence, in points of balanced accuracy."""
        found = self.difference(self.best)
        points = f"{100 * found.mean:+.2f} points (95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f})"  # type: ignore[operator]
        measured = f"on held-out real images of {len(self.without)} splits the balanced accuracy changed by {points}"
        if self.fraction:
            return f"A synthetic fraction of {self.fraction:g} is used: {measured}."
        return f"No synthetic images are used: with the best fraction, {self.best:g}, {measured}, which may be chance."

    def as_dict(self) -> dict[str, Any]:
        r"""Returns everything as plain values for JSON."""
        return {**asdict(self), "reason": self.reason}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        r"""Returns the choice that :meth:`as_dict` gave, also after JSON has made text of the fractions."""
        scores = {float(fraction): tuple(own) for fraction, own in values["scores"].items()}
        return cls(float(values["fraction"]), tuple(values["without"]), scores)


def hold_out(train: Labelled, part: float, seed: int) -> tuple[Labelled, Labelled]:
    r"""Returns labelled images without a part of each class, and that part.

    One image at least is held out of each class of three and more, and none of a smaller one, which a generator needs
    whole. Which ones depends on the seed and the labels alone.
    """
    images, labels = train
    counts = dict(enumerate(labels.bincount().tolist()))
    parts = {label: max(1, round(part * count)) if count > 2 else 0 for label, count in counts.items()}
    held_out = torch.from_numpy(choose_images(labels.numpy(), parts, seed))
    kept = torch.ones(len(labels), dtype=torch.bool).index_fill(0, held_out, False)
    return (images[kept], labels[kept]), (images[held_out], labels[held_out])


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
    r"""Returns the ``synthetic_fraction`` of :class:`gae_augment.MixedSampler` that helps a classifier most, or 0.

    Every split holds a fifth of each class out, makes synthetic images from the rest alone, trains one classifier for
    each fraction and one without synthetic images, and scores them on what was held out. A fraction is taken only if
    the mean gain of the splits is above 0 with a one-sided certainty of 95 %, by Student's t: where synthetic images
    do not help, none are used. Test images are not needed, and not to be passed.

    Args:
        train: The real training images, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`, and their labels.
        synthesise: What makes synthetic images and their labels from such a pair and a seed. It must learn from that
            pair alone.
        fractions: The fractions that are tried, each above 0 and at most 1.
        splits: How many splits, 2 at least.
        seed: What everything random depends on.
        train_on: What trains your own classifier: from real and synthetic images, the fraction and a seed to a function
            from images to labels. By default a small one with class-balanced batches.
        progress: Called after each training with the number of the split, the fraction and the score.
        **training: For the default classifier, arguments of :func:`gae_augment.evaluation.train_classifier`, such as
            ``epochs``.

    Raises:
        ValueError: If images, labels or a number are not as above, or no class has three images.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, labels = (torch.from_numpy(array) for array in load_digits(n_class=2, return_X_y=True))
        >>> train = images[:80].view(-1, 1, 8, 8).float() / 16, labels[:80]
        >>> choice = choose_synthetic_fraction(train, lambda real, seed: real, splits=2, epochs=1)
        >>> choice.fraction  # the real images once more, which are of no use
        0.0
    """
    images, labels = checked_pair(train, "train")
    fractions = tuple(float(fraction) for fraction in fractions)
    if not fractions or len(set(fractions)) < len(fractions) or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(
            f"'fractions' holds numbers above 0 and at most 1, none twice, and it is {fractions}. Use (0.25, 0.5)."
        )
    if splits < 2:
        raise ValueError(f"'splits' is at least 2, for one split does not show the noise, and it is {splits}.")
    if labels.bincount().max() < 3:
        raise ValueError(
            "A choice needs a class of at least three images, to hold one of them out, and every class has fewer. Set "
            "the fraction yourself: 0.5 is a good first choice."
        )
    if train_on is not None and training:
        raise ValueError(f"{sorted(training)} are arguments of the default classifier, and 'train_on' is another.")
    classes = int(labels.max()) + 1

    def by_default(real: Labelled, synthetic: Labelled, fraction: float, seed: int) -> Predict:
        options = {"epochs": 10, **training}
        return train_mixed(real, synthetic, fraction, classes=classes, seed=seed, **options).predict

    scores: dict[float, list[float]] = {fraction: [] for fraction in (0.0, *fractions)}
    for split in range(splits):
        # Of 32 bits, as numpy and scikit-learn take seeds.
        own = derive_seed(seed, "split", split) % 2**32
        real, held_out = hold_out((images, labels), HELD_OUT, own)
        synthetic = checked_pair(synthesise(real, own), "synthetic", classes, like=images, at_least=0)
        for fraction in scores:
            predict = (train_on or by_default)(real, synthetic, fraction, own)
            scores[fraction].append(_balanced_accuracy(held_out[1], predict(held_out[0])))
            progress(split, fraction, scores[fraction][-1])
    without = tuple(scores.pop(0.0))
    choice = FractionChoice(0.0, without, {fraction: tuple(own) for fraction, own in scores.items()})
    gains = np.subtract(choice.scores[choice.best], without)
    return FractionChoice(choice.best, without, choice.scores) if _surely_above_zero(gains) else choice


def _surely_above_zero(gains: np.ndarray) -> bool:
    from scipy.stats import t

    error = gains.std(ddof=1) / len(gains) ** 0.5
    return bool(gains.mean() > t.ppf(CERTAINTY, len(gains) - 1) * error)


def _balanced_accuracy(labels: Tensor, predictions: Tensor) -> float:
    r"""Returns the mean recall of the classes that have images."""
    right = (predictions.cpu() == labels).double()
    return torch.stack([right[labels == label].mean() for label in labels.unique()]).mean().item()
