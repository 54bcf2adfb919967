r"""Sampling strategies: the number of images to add to each class, by the rules of imbalanced-learn's over-samplers."""

__all__ = ["Label", "SamplingStrategy", "checked_label", "count_labels", "moderate_strategy", "resolve_strategy"]

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from .._utils.checks import check_integer

Label = int | str
SamplingStrategy = str | float | Mapping[Any, int] | Callable[[np.ndarray], Mapping[Any, int]]

WORDS = ("auto", "all", "minority", "not majority", "not minority")


def count_labels(y: np.ndarray) -> dict[Label, int]:
    r"""Returns a mapping from each label in ``y`` to its number of occurrences, in ascending order of the labels."""
    labels, counts = np.unique(y, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def checked_label(label: Any) -> Label:
    r"""Checks that a label, for example from a file, is an integer or a string, and returns it unchanged.

    Raises:
        ValueError: If the label has another type.
    """
    if not isinstance(label, int | str):
        raise ValueError(f"a label is {label!r}, but must be an integer or text")
    return label


def resolve_strategy(strategy: SamplingStrategy, y: np.ndarray) -> dict[Label, int]:
    r"""Returns a mapping from each class that the strategy selects to the number of images to add.

    Args:
        strategy: One of the following, as for the over-samplers of imbalanced-learn.

            - A word that selects classes: ``"minority"`` (the smallest class), ``"not minority"``, ``"not majority"``
              (all but the largest class), ``"all"``, or ``"auto"``, a synonym of ``"not majority"``. Each selected
              class grows to the size of the largest class. If several classes tie, the one with the lowest
              label counts as the largest or smallest.
            - A number in (0, 1], for two classes only: the size of the smaller class divided by the size of the larger
              class, after augmentation.
            - A mapping from labels to the total number of images after augmentation.
            - A function that takes ``y`` and returns a mapping from labels to totals.
        y: The labels of all :math:`N` images, with shape :math:`(N,)`.

    Raises:
        ValueError: If there are fewer than two classes, or the strategy is invalid or would remove images.
        TypeError: If the strategy has another type, such as a list of classes without totals.
    """
    counts = count_labels(y)
    if len(counts) < 2:
        raise ValueError(
            f"The target 'y' needs to have more than 1 class. Got {len(counts)} class instead. "
            f"With a single class, no class is scarce."
        )
    majority = max(counts, key=lambda label: counts[label])
    minority = min(counts, key=lambda label: counts[label])

    if callable(strategy):
        strategy = strategy(y)
    if isinstance(strategy, str):
        if strategy == "majority":
            raise ValueError(
                "'sampling_strategy' is 'majority', but the largest class already has the target size. "
                "Use 'auto', or a mapping of labels to totals."
            )
        if strategy not in WORDS:
            raise ValueError(
                f"'sampling_strategy' is {strategy!r}, but must be one of {', '.join(map(repr, WORDS))}, a ratio, a "
                f"mapping or a function."
            )
        selected = {
            "all": set(counts),
            "minority": {minority},
            "not minority": set(counts) - {minority},
        }.get(strategy, set(counts) - {majority})
        return {label: counts[majority] - count for label, count in counts.items() if label in selected}
    if isinstance(strategy, Mapping):
        return _from_totals(strategy, counts)
    if isinstance(strategy, Real) and not isinstance(strategy, bool):
        return _from_ratio(float(strategy), counts, majority)
    raise TypeError(
        f"'sampling_strategy' is {strategy!r}, but must be a word, a ratio, a mapping of labels to totals, or a "
        f"function that returns such a mapping. Replace a list by a mapping: {{label: total, …}}."
    )


def moderate_strategy(
    counts: Mapping[Label, int], *, at_most: int = 3, tolerance: float = 0.1, per_class: int | None = None
) -> dict[Label, int]:
    r"""Returns the total number of images of every class after a moderate augmentation.

    A class is scarce if it lacks more than ``tolerance`` times the size of the largest class. A scarce class grows to
    the size of the largest class, but to at most ``at_most`` times its real images. Other classes keep their size.

    Args:
        counts: The number of real images of each class, by label.
        at_most: The largest total of a class, divided by its number of real images.
        tolerance: The lack of images, as a fraction of the largest class, up to which a class is not scarce.
        per_class: The total of every class, in place of the rules above. Classes with more real images keep them.

    Raises:
        ValueError: If ``at_most`` or ``per_class`` is no integer of at least 1, or ``tolerance`` is not in [0, 1).
    """
    check_integer(at_most, "at_most", 1)
    if not 0 <= tolerance < 1:
        raise ValueError(f"'tolerance' is {tolerance}, but must be at least 0 and below 1. 0.1 is a good first choice.")
    if per_class is not None:
        check_integer(per_class, "per_class", 1)
        return {label: max(count, int(per_class)) for label, count in counts.items()}
    largest = max(counts.values(), default=0)
    return {
        label: min(largest, at_most * count) if largest - count > tolerance * largest else count
        for label, count in counts.items()
    }


def _from_totals(totals: Mapping[Any, int], counts: dict[Label, int]) -> dict[Label, int]:
    unknown = [label for label in totals if label not in counts]
    if unknown:
        raise ValueError(
            f"The target class {unknown} of 'sampling_strategy' is not present in the data. Its classes are "
            f"{list(counts)}."
        )
    for label, total in totals.items():
        if not isinstance(total, Integral) or isinstance(total, bool):
            raise ValueError(
                f"The total of class {label!r} in 'sampling_strategy' is {total!r}, but must be an integer."
            )
        if total < 0:
            raise ValueError(
                f"The total of class {label!r} in 'sampling_strategy' is {total}. The number of samples in a class "
                f"cannot be negative."
            )
        if total < counts[label]:
            raise ValueError(
                f"Class {label!r} has {counts[label]} images, but 'sampling_strategy' gives it a total of {total}. "
                f"The numbers are final totals, not images to add."
            )
    return {label: int(totals[label]) - count for label, count in counts.items() if label in totals}


def _from_ratio(ratio: float, counts: dict[Label, int], majority: Label) -> dict[Label, int]:
    if not 0 < ratio <= 1:
        raise ValueError(f"'sampling_strategy' is {ratio}, but a ratio must be in (0, 1].")
    if len(counts) > 2:
        raise ValueError(
            f"'sampling_strategy' is a ratio, but there are {len(counts)} classes. A ratio is for two classes only. "
            f"Use 'auto', or a mapping of labels to totals."
        )
    to_add = {label: int(counts[majority] * ratio - count) for label, count in counts.items() if label != majority}
    for label, number in to_add.items():
        if number <= 0:
            raise ValueError(
                f"A ratio of {ratio} adds no images to class {label!r}, which already has {counts[label]} compared to "
                f"{counts[majority]} in the larger class. Increase 'sampling_strategy'."
            )
    return to_add
