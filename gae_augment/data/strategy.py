r"""The sampling strategy: how many images each class is to get, by imbalanced-learn's rules for over-sampling."""

__all__ = ["Label", "SamplingStrategy", "checked_label", "count_labels", "resolve_strategy"]

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

Label = int | str
SamplingStrategy = str | float | Mapping[Any, int] | Callable[[np.ndarray], Mapping[Any, int]]

WORDS = ("auto", "all", "minority", "not majority", "not minority")


def count_labels(y: np.ndarray) -> dict[Label, int]:
    r"""Returns the number of images of each class, in the order of the labels."""
    labels, counts = np.unique(y, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def checked_label(label: Any) -> Label:
    r"""Returns a label, such as that of a file.

    Raises:
        ValueError: If it is neither an integer nor text.
    """
    if not isinstance(label, int | str):
        raise ValueError(f"a label is {label!r}, but must be an integer or text")
    return label


def resolve_strategy(strategy: SamplingStrategy, y: np.ndarray) -> dict[Label, int]:
    r"""Returns the number of images to add to each class that the strategy names.

    Args:
        strategy: As for the over-samplers of imbalanced-learn. A word: ``"minority"``, ``"not minority"``,
            ``"not majority"``, ``"all"``, or ``"auto"``, which is ``"not majority"``; the classes meant are filled up
            to the largest one, and the first of several largest ones is the majority. A number :math:`\alpha` in
            (0, 1], for two classes: the wished ratio of the smaller to the larger. A mapping: the final total of each
            class. A function of ``y`` that returns such a mapping.
        y: The labels, with shape :math:`(N,)`.

    Raises:
        ValueError: If there are fewer than two classes, or the strategy is none of these, or it would remove images.
        TypeError: If the strategy is a list, which says which classes but not how many.
    """
    counts = count_labels(y)
    if len(counts) < 2:
        raise ValueError(
            f"The target 'y' needs to have more than 1 class. Got {len(counts)} class instead. "
            f"With one class nothing is scarce."
        )
    majority = max(counts, key=lambda label: counts[label])
    minority = min(counts, key=lambda label: counts[label])

    if callable(strategy):
        strategy = strategy(y)
    if isinstance(strategy, str):
        if strategy == "majority":
            raise ValueError(
                "'sampling_strategy' cannot be 'majority' where images are added: the largest class is the measure. "
                "Use 'auto', or a mapping of labels to totals."
            )
        if strategy not in WORDS:
            raise ValueError(
                f"'sampling_strategy' is one of {', '.join(map(repr, WORDS))}, a ratio, a mapping or a function, "
                f"and it is {strategy!r}."
            )
        meant = {
            "all": set(counts),
            "minority": {minority},
            "not minority": set(counts) - {minority},
        }.get(strategy, set(counts) - {majority})
        return {label: counts[majority] - count for label, count in counts.items() if label in meant}
    if isinstance(strategy, Mapping):
        return _from_totals(strategy, counts)
    if isinstance(strategy, Real) and not isinstance(strategy, bool):
        return _from_ratio(float(strategy), counts, majority)
    raise TypeError(
        f"'sampling_strategy' is a word, a ratio, a mapping of labels to totals or a function that returns one, and it "
        f"is {strategy!r}. Where a list was meant, say how many: {{label: total, …}}."
    )


def _from_totals(totals: Mapping[Any, int], counts: dict[Label, int]) -> dict[Label, int]:
    unknown = [label for label in totals if label not in counts]
    if unknown:
        raise ValueError(
            f"The target class {unknown} of 'sampling_strategy' is not present in the data, whose classes are "
            f"{list(counts)}."
        )
    for label, total in totals.items():
        if not isinstance(total, Integral) or isinstance(total, bool):
            raise ValueError(f"The total of class {label!r} in 'sampling_strategy' is an integer, and it is {total!r}.")
        if total < 0:
            raise ValueError(
                f"The number of samples in a class cannot be negative, and for class {label!r} 'sampling_strategy' "
                f"asks for {total}."
            )
        if total < counts[label]:
            raise ValueError(
                f"With over-sampling methods the number of samples in a class is at least the original number. "
                f"Class {label!r} has {counts[label]} and 'sampling_strategy' asks for a total of {total}. "
                f"The numbers are final totals, not images to add."
            )
    return {label: int(totals[label]) - count for label, count in counts.items() if label in totals}


def _from_ratio(ratio: float, counts: dict[Label, int], majority: Label) -> dict[Label, int]:
    if not 0 < ratio <= 1:
        raise ValueError(f"As a ratio 'sampling_strategy' is in (0, 1], and it is {ratio}.")
    if len(counts) > 2:
        raise ValueError(
            f"'sampling_strategy' can be a ratio for two classes only, and there are {len(counts)}. "
            f"Use 'auto', or a mapping of labels to totals."
        )
    to_add = {label: int(counts[majority] * ratio - count) for label, count in counts.items() if label != majority}
    for label, number in to_add.items():
        if number <= 0:
            raise ValueError(
                f"A ratio of {ratio} asks for no more images of class {label!r} than there are, {counts[label]} "
                f"beside {counts[majority]}. Increase 'sampling_strategy'."
            )
    return to_add
