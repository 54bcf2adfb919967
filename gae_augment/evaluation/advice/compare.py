r"""Compares ways of training by what their classifiers know of held-out images."""

__all__ = ["TEMPERATURES", "Arm", "Comparison", "SplitScores", "score_split"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

TEMPERATURES = tuple(2 ** (k / 4) for k in range(-16, 13))
"""The divisors of logits that are tried to calibrate the probabilities of a way of training."""

SHARPENED = 4
"""The score uses half of the best temperature, four steps of ``TEMPERATURES`` lower.

Calibrated probabilities of the right class are lower than the accuracy, even in the mean. With half of the temperature
their differences are closer to those of the accuracy, and still less noisy.
"""


@dataclass(frozen=True, order=True)
class Arm:
    r"""A way of training.

    Attributes:
        strategy: The remedy for imbalance, a name in ``STRATEGIES``.
        standard: Whether training images have standard views: crops, mirror images and colours.
        ours: ``"none"``, ``"motions"`` (learned motions of all classes), or ``"synthetic images"`` (moved images are
            added to the scarce classes).
        strength: The strength of the motions.
        more_views: Whether images of scarce classes have two standard views, and those of other classes one.
    """

    strategy: str
    standard: bool = False
    ours: str = "none"
    strength: float = 0.0
    more_views: bool = False


@dataclass(frozen=True)
class SplitScores:
    r"""What the classifiers of one split know of its held-out images.

    Attributes:
        rows: The held-out images.
        log_probabilities: By arm, the logarithm of the probability of the right class, with shape :math:`(P, T, n)`
            for :math:`P` penalties and the :math:`T` temperatures.
        correct: By arm, whether the prediction is right, with shape :math:`(P, n)`.
    """

    rows: np.ndarray
    log_probabilities: Mapping[Arm, np.ndarray]
    correct: Mapping[Arm, np.ndarray]

    def __or__(self, other: "SplitScores") -> "SplitScores":
        r"""Returns the arms of both, scored on the same images."""
        assert np.array_equal(self.rows, other.rows)
        return SplitScores(
            self.rows, {**self.log_probabilities, **other.log_probabilities}, {**self.correct, **other.correct}
        )

    def only(self, arms: Sequence[Arm]) -> "SplitScores":
        r"""Returns the scores of some arms."""
        return SplitScores(
            self.rows, {arm: self.log_probabilities[arm] for arm in arms}, {arm: self.correct[arm] for arm in arms}
        )


def score_split(rows: np.ndarray, labels: Tensor, logits: Mapping[Arm, Tensor]) -> SplitScores:
    r"""Returns the scores of one split.

    Args:
        rows: The held-out images.
        labels: Their labels.
        logits: By arm, the logits with each penalty, with shape :math:`(P, C, n)`.
    """
    log_probabilities, correct = {}, {}
    for arm, of_penalties in logits.items():
        stack = of_penalties.mT.double()
        # Far below what matters, so that one image cannot decide the temperature.
        right = [(stack / t).log_softmax(dim=-1)[:, range(len(labels)), labels].clamp(min=-20) for t in TEMPERATURES]
        log_probabilities[arm] = torch.stack(right, dim=1).float().numpy()
        correct[arm] = (stack.argmax(dim=-1) == labels).numpy()
    return SplitScores(rows, log_probabilities, correct)


class Comparison:
    r"""Ways of training, compared over repeated splits, paired by image.

    The score of an arm is the mean probability of the right class on held-out images, each class counting alike. The
    probabilities are those of half of the temperature that calibrates the arm. Their differences are close to those of
    the balanced accuracy, with less noise. Each arm takes the penalty of its best score.

    Args:
        labels: The labels of all images, 0 to :math:`C - 1`.
        groups: The group of each image, an integer. Images of one group are not independent.
        repetitions: The splits of each repetition, which together hold out each image at most once.
    """

    def __init__(self, labels: np.ndarray, groups: np.ndarray, repetitions: Sequence[Sequence[SplitScores]]) -> None:
        self.labels, self.groups = labels, groups
        self.repetitions = [list(splits) for splits in repetitions]
        scored = np.zeros(len(labels), dtype=bool)
        for splits in self.repetitions:
            for split in splits:
                scored[split.rows] = True
        self.scored = np.flatnonzero(scored)
        self.classes = np.unique(labels[self.scored])

    @cached_property
    def arms(self) -> list[Arm]:
        r"""The arms, in the order in which they were scored."""
        return list(self.repetitions[0][0].correct)

    def _gather(self, arm: Arm, kind: str) -> np.ndarray:
        r"""Returns the values of an arm, with shape (R, ..., N), NaN where an image was not held out."""
        first = getattr(self.repetitions[0][0], kind)[arm]
        values = np.full((len(self.repetitions), *first.shape[:-1], len(self.labels)), np.nan, dtype=np.float64)
        for r, splits in enumerate(self.repetitions):
            for split in splits:
                values[r, ..., split.rows] = np.moveaxis(getattr(split, kind)[arm], -1, 0)
        return values[..., self.scored]

    def class_means(self, values: np.ndarray) -> np.ndarray:
        r"""Returns the means over the images of each class, with shape (..., C), for values of shape (..., N)."""
        labels = self.labels[self.scored]
        return np.stack([np.nanmean(values[..., labels == label], axis=-1) for label in self.classes], axis=-1)

    @cached_property
    def _chosen(self) -> dict[Arm, tuple[int, np.ndarray]]:
        r"""By arm, the best penalty, and the probabilities of the right class, with shape (R, N)."""
        chosen = {}
        for arm in self.arms:
            logs = self._gather(arm, "log_probabilities")
            likelihood = self.class_means(logs).mean(axis=(0, -1))
            best, score = 0, -1.0
            for penalty, of_penalty in enumerate(likelihood):
                probabilities = np.exp(_between(logs[:, penalty], max(_peak(of_penalty) - SHARPENED, 0.0)))
                mean = float(self.class_means(probabilities).mean())
                if mean > score:
                    best, score = penalty, mean
                    chosen[arm] = best, probabilities
        return chosen

    def score(self, arm: Arm) -> float:
        r"""Returns the score of an arm, in percent."""
        return float(100 * self.class_means(self._chosen[arm][1]).mean())

    def recalls(self, arm: Arm) -> np.ndarray:
        r"""Returns the fraction of held-out images of each class that are recognised, in percent."""
        correct = self._gather(arm, "correct")[:, self._chosen[arm][0]]
        return 100 * self.class_means(correct).mean(axis=0)

    def balanced_accuracy(self, arm: Arm) -> float:
        r"""Returns the balanced accuracy of an arm on held-out images, in percent."""
        return float(self.recalls(arm).mean())

    def beats_chance(self, arm: Arm) -> bool:
        r"""Returns whether the balanced accuracy of an arm is above chance by more than two standard errors."""
        correct = 100 * self._gather(arm, "correct")[:, self._chosen[arm][0]].mean(axis=0)
        return self.balanced_accuracy(arm) - 100 / len(self.classes) > 2 * self._variance_of_images(correct) ** 0.5

    def difference(self, arm: Arm, base: Arm) -> tuple[float, float]:
        r"""Returns the difference of two scores in points, and its standard error.

        The standard error has two parts: the images, of which those of one group count as one, and the training, which
        differs between repetitions.
        """
        d = 100 * (self._chosen[arm][1] - self._chosen[base][1])
        means, of_images = self.class_means(d).mean(axis=-1), d.mean(axis=0)
        variance = self._variance_of_images(of_images)
        if len(d) > 1:
            # Each training changes single images at random too, which is part of the variance of the images.
            n = len(d)
            of_single_images = sum(self._variance_of_images(row - of_images) for row in d) / (n - 1)
            variance += max(0.0, float(means.var(ddof=1)) - of_single_images) / n
        return float(means.mean()), max(variance**0.5, 1e-3)

    def _variance_of_images(self, values: np.ndarray) -> float:
        return sum(self.class_variance(values, label) for label in self.classes) / len(self.classes) ** 2

    def recall_error(self, arm: Arm, base: Arm, label: Any) -> float:
        r"""Returns the standard error of the difference of two recalls of a class, in points."""
        correct = [self._gather(a, "correct")[:, self._chosen[a][0]].mean(axis=0) for a in (arm, base)]
        return float(self.class_variance(100 * (correct[0] - correct[1]), label) ** 0.5)

    def class_variance(self, values: np.ndarray, label: Any) -> float:
        r"""Returns the variance of the mean of a class, from its groups, for values of shape (N,).

        A class with one group gets the variance of its images.
        """
        rows = self.labels[self.scored] == label
        own, groups = values[rows], self.groups[self.scored][rows]
        codes = np.unique(groups, return_inverse=True)[1]
        sums = np.bincount(codes, weights=own - own.mean())
        n_groups = len(sums)
        if n_groups < 2:
            return float(own.var())
        return float(n_groups / (n_groups - 1) * (sums**2).sum() / len(own) ** 2)


def _peak(values: np.ndarray) -> float:
    r"""Returns the position of the maximum of values, between two of them: that of a parabola through the largest."""
    k = int(values.argmax())
    if k in (0, len(values) - 1):
        return float(k)
    left, top, right = values[k - 1 : k + 2]
    curvature = left - 2 * top + right
    return k + 0.5 * float((left - right) / curvature) if curvature < 0 else float(k)


def _between(values: np.ndarray, position: float) -> np.ndarray:
    r"""Returns values at a position between two entries of the second axis, by linear interpolation."""
    k = min(int(position), values.shape[1] - 2)
    return values[:, k] + (position - k) * (values[:, k + 1] - values[:, k])
