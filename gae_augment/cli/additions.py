r"""How many synthetic images ``gae-augment balance`` adds to each class."""

__all__ = ["Additions", "plan_additions", "plan_all", "rejections"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torchvision.datasets import ImageFolder

from ..data import FEW_OBJECTS, Label, count_labels, groups_of, moderate_strategy, resolve_strategy
from ..export import Selection

AT_MOST = 3
"""The largest total of a class, real and synthetic images, divided by the number of its real images."""


@dataclass(frozen=True)
class Additions:
    r"""The numbers of images that a balanced copy of a folder gets.

    Attributes:
        names: The name of each class, by label.
        real: The number of real images of each class, by label.
        totals: The number of real and synthetic images of each class, by label.
        bounded: The labels of scarce classes that stay smaller than the largest class, because they have few real
            images.
        objects: The number of independent objects that the real images of each class show, by label.
    """

    names: Mapping[Label, str]
    real: Mapping[Label, int]
    totals: Mapping[Label, int]
    bounded: frozenset[Label] = frozenset()
    objects: Mapping[Label, int] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        r"""Whether no class gets images."""
        return self.totals == self.real

    @property
    def warnings(self) -> list[str]:
        r"""One line for each class that gets images, and has few independent objects."""
        return [
            f"Class {self.names[label]!r} has {number} independent objects in {self.real[label]} images, fewer than "
            f"{FEW_OBJECTS}. Its synthetic images vary these objects and show no others, so a classifier may learn "
            f"them by heart. Collect more, and measure on other objects whether the images help."
            for label, number in self.objects.items()
            if number < FEW_OBJECTS and self.totals[label] > self.real[label]
        ]

    def counts(self, selected: Mapping[Label, Selection] | None = None) -> dict[str, dict[str, int]]:
        r"""Returns the numbers of real and synthetic images of each class, by name.

        Args:
            selected: The synthetic images of each class that has some, by label. ``None`` takes the planned numbers.
        """
        synthetic = {label: total - self.real[label] for label, total in self.totals.items()}
        if selected is not None:
            synthetic = {label: len(selection.chosen) for label, selection in selected.items()}
        return {
            name: {"real": self.real[label], "synthetic": synthetic.get(label, 0)} for label, name in self.names.items()
        }

    def lines(self, selected: Mapping[Label, Selection] | None = None) -> list[str]:
        r"""Returns the numbers of images of each class as text, and how synthetic images compare with real ones."""
        counts = self.counts(selected)
        lines = []
        for label, name in self.names.items():
            line = f"{name}: {counts[name]['real']} real, {counts[name]['synthetic']} synthetic"
            if label in self.bounded:
                line += f" (in total at most {AT_MOST} times the real ones; --per-class sets another number)"
            lines.append(line)
            if selected is not None and label in selected:
                lines += _describe(selected[label])
        return lines

    def values(self, selected: Mapping[Label, Selection] | None = None) -> dict[str, Any]:
        r"""Returns the content of :meth:`lines` as values that JSON supports."""
        values: dict[str, Any] = {
            "classes": self.counts(selected),
            "bounded": [name for label, name in self.names.items() if label in self.bounded],
            "objects": {self.names[label]: number for label, number in self.objects.items()},
            "warnings": self.warnings,
        }
        if selected is not None:
            values["like real"] = {self.names[label]: dict(one.like_real) for label, one in selected.items()}
            values["rejected"] = {self.names[label]: one.rejected for label, one in selected.items()}
            values["left out"] = {self.names[label]: one.left_out for label, one in selected.items()}
            values["warnings"] += rejections(self, selected)
        return values


def _describe(selection: Selection) -> list[str]:
    figures = ", ".join(f"{name} {ratio:.2f}" for name, ratio in selection.like_real.items())
    parts = [f"like real: {figures}"] if figures else []
    if selection.is_poor:
        parts.append("too poor, none written")
    elif selection.rejected:
        parts.append(f"{selection.rejected} rejected, {selection.left_out} left out")
    return [f"  {'; '.join(parts)}"] if parts else []


def rejections(additions: Additions, selected: Mapping[Label, Selection]) -> list[str]:
    r"""Returns one line for each class that gets fewer images than planned, with the reason."""
    lines = []
    for label, selection in selected.items():
        name, figures = additions.names[label], selection.like_real
        if selection.is_poor:
            worse = min(("sharpness", "resolution"), key=lambda figure: figures[figure])
            lines.append(
                f"Class {name!r} gets no images, because synthetic ones have {figures[worse]:.2f} times the {worse} of "
                f"the real ones. Try another --model or --size, or move images in the training instead."
            )
        elif selection.left_out:
            lines.append(
                f"Class {name!r} gets {selection.left_out} images fewer than planned, because they were outside the "
                f"real images' range of brightness, sharpness or distance to the nearest real image in every draw."
            )
    return lines


def plan_additions(
    dataset: ImageFolder, *, per_class: int | None = None, tolerance: float = 0.1, groups: str | None = None
) -> Additions:
    r"""Returns the numbers of images that a balanced copy of a folder gets.

    Args:
        dataset: The images of the folder.
        per_class: The number of images that each class has in the end, if it has not more real ones. ``None`` lets
            scarce classes grow to the size of the largest, but to at most three times their real images.
        tolerance: The lack of images, as a fraction of the largest class, up to which a class is not scarce.
        groups: A regular expression on the path of an image, whose match names the object, as for
            :func:`gae_augment.data.groups_of`. ``None`` counts each image as an object.

    Raises:
        ValueError: If there are fewer than two classes, or an argument is invalid.
    """
    labels = np.asarray(dataset.targets)
    real = count_labels(labels)
    totals = moderate_strategy(real, at_most=AT_MOST, tolerance=tolerance, per_class=per_class)
    # Checks the classes too.
    added = resolve_strategy(totals, labels)
    largest = max(real.values())
    bounded = frozenset(label for label, n in added.items() if n and per_class is None and totals[label] < largest)
    objects = real
    if groups is not None:
        names = groups_of([path for path, _ in dataset.samples], dataset.root, groups)
        objects = count_labels(np.array([label for label, _ in {*zip(dataset.targets, names, strict=True)}]))
    return Additions(dict(enumerate(dataset.classes)), real, totals, bounded, objects)


def plan_all(dataset: ImageFolder) -> Additions:
    r"""Returns the numbers of images that make all classes of a folder as large as the largest.

    Raises:
        ValueError: If there are fewer than two classes.
    """
    labels = np.asarray(dataset.targets)
    real, added = count_labels(labels), resolve_strategy("auto", labels)
    totals = {label: n + added.get(label, 0) for label, n in real.items()}
    return Additions(dict(enumerate(dataset.classes)), real, totals)
