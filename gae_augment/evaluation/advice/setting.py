r"""What a comparison is about: the labels, the ways of training, the splits, and the time that it may take."""

__all__ = ["FOLDS", "PARTNERS", "LearnMotions", "Setting", "Split"]

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._utils.files import read_file, write_file
from ..._utils.seeding import derive_seed
from ...data import ImageDataset
from .compare import Arm, SplitScores
from .heads import STRATEGIES
from .splits import grouped_folds
from .views import View, standard_views, whole_view

FOLDS = 3
MAX_REPETITIONS = 10

PARTNERS = ("square-root sampling with balanced softmax", "class-balanced sampling")
"""The strategies that suit motions, also where another one is best without them.

They draw images of scarce classes more often, and motions show these in new ways
(``benchmarks/results/motion/REPORT.md``).
"""

SCARCE = 0.9
"""Classes with fewer images than this fraction of the largest class are scarce."""

FITTED_CLASSES, FITTED_IMAGES = 10, 100
"""Motions are learned from this number of the largest classes, and of images of each."""

LearnMotions = Callable[[Any, int], Callable[..., Any]]
"""From a dataset and a seed to a function ``(strength=…, p=…)`` that returns a transform.

The method ``motion`` of a fitted augmenter is such a function.
"""


class Split(NamedTuple):
    r"""A split of the images: its number among all splits, the rows of both parts, and its seed."""

    number: int
    in_training: np.ndarray
    held_out: np.ndarray
    seed: int


@dataclass(frozen=True)
class Setting:
    r"""What is compared, on which images, and for how long.

    Attributes:
        labels: The labels of the images, 0 to :math:`C - 1`.
        counts: The number of images of each class in the user's training set, of which some may be left out here.
        groups: The object that each image shows, an integer.
        strengths: The strengths of the motions.
        learn_motions: The function that learns motions; ``None`` compares no motions.
        synthetic_images: Whether moved images of the scarce classes alone are compared too.
        strategy: The remedy for imbalance of the user; ``None`` chooses one.
        standard_views: Whether the user's training has standard views; ``None`` chooses.
        transform: The user's transform in place of standard views, or ``None``.
        seed: The seed.
        device: The device of small networks.
        minutes: The time that the comparison may take, from ``start`` on.
        folder: A folder for finished splits, or ``None``.
        progress: A function that is called with lines of text.
        start: When the comparison began, in seconds of ``time.monotonic``.
    """

    labels: np.ndarray
    counts: np.ndarray
    groups: np.ndarray
    strengths: tuple[float, ...]
    learn_motions: LearnMotions | None
    synthetic_images: bool
    strategy: str | None
    standard_views: bool | None
    transform: View | None
    seed: int
    device: torch.device | str
    minutes: float
    folder: Path | None
    progress: Callable[[str], None]
    start: float = field(default_factory=time.monotonic)

    @property
    def classes(self) -> int:
        r"""The number of classes."""
        return len(self.counts)

    @property
    def is_scarce(self) -> np.ndarray:
        r"""Whether each image is of a scarce class."""
        return (self.counts < SCARCE * self.counts.max())[self.labels]

    @property
    def strategies(self) -> list[str]:
        r"""The remedies for imbalance among which to choose."""
        return list(STRATEGIES) if self.strategy is None else [self.strategy]

    @property
    def seconds(self) -> float:
        r"""The seconds since the start."""
        return time.monotonic() - self.start

    def view(self, size: int, *, standard: bool) -> View:
        r"""Returns the transform of images to a size, with or without standard views."""
        return standard_views(size, self.transform) if standard else whole_view(size)

    def ours(self, base: Arm) -> list[Arm]:
        r"""Returns the arms that add motions or synthetic images to an arm without them, or motions to ``PARTNERS``."""
        if self.learn_motions is None or not self.strengths:
            return []
        arms = [Arm(base.strategy, base.standard, "motions", strength) for strength in self.strengths]
        if self.synthetic_images and self.is_scarce.any():
            arms.append(Arm(base.strategy, base.standard, "synthetic images", max(self.strengths)))
        if self.strategy is None:
            others = [partner for partner in PARTNERS if partner != base.strategy]
            arms += [Arm(other, base.standard, "motions", max(self.strengths)) for other in others]
        return arms

    def learned(self, images: Sequence[Tensor], rows: np.ndarray, seed: int) -> Callable[..., Any]:
        r"""Learns motions from the training images of a split, and returns the function that makes transforms."""
        assert self.learn_motions is not None
        labels = self.labels[rows]
        classes = np.argsort(-np.bincount(labels), kind="stable")[:FITTED_CLASSES]
        chosen: list[int] = []
        for label in np.sort(classes):
            own = rows[labels == label]
            chosen += own[np.linspace(0, len(own) - 1, min(len(own), FITTED_IMAGES)).round().astype(int)].tolist()
        return self.learn_motions(ImageDataset([images[row] for row in chosen], labels=self.labels[chosen]), seed)

    def splits(self, repetition: int) -> Iterator[Split]:
        r"""Yields the splits of a repetition, which together hold out each image at most once."""
        every = np.arange(len(self.labels))
        folds = grouped_folds(self.labels, self.groups, FOLDS, derive_seed(self.seed, repetition))
        for fold, held_out in enumerate(folds):
            seed = derive_seed(self.seed, "split", repetition, fold)
            yield Split(FOLDS * repetition + fold, np.setdiff1d(every, held_out), held_out, seed)

    def score_splits(
        self,
        repetition: int,
        name: str,
        arms: Sequence[Arm],
        score: Callable[[Split], SplitScores],
        done: Callable[[Split], None] = lambda split: None,
    ) -> list[SplitScores]:
        r"""Returns the scores of the splits of a repetition, from their files if there are some.

        Args:
            repetition: The number of the repetition.
            name: The name of the files, without the number of the split.
            arms: The arms, in the order of the scores.
            score: A function that computes the scores of a split.
            done: A function that is called after each split.
        """
        found = []
        for split in self.splits(repetition):
            tensors = self.keep(f"{name}-{split.number}", lambda split=split: _to_tensors(score(split)))  # type: ignore[misc]
            found.append(_from_tensors(tensors, arms))
            done(split)
        return found

    def repeat(
        self, name: str, run: Callable[[int, Callable[[Split], None]], list[SplitScores]]
    ) -> list[list[SplitScores]]:
        r"""Repeats the splits while the minutes last, at least once.

        The number of repetitions is kept, so that a later call with as many minutes has the same result.

        Args:
            name: The name of the file with the number of repetitions.
            run: A function that scores the splits of a repetition. It calls its second argument after each split.
        """
        name = f"repetitions-{name}-{self.minutes:g}"
        repetitions: list[list[SplitScores]] = []
        finished = self._kept(name)
        planned = 1 if finished is None else int(finished["repetitions"])
        while len(repetitions) < planned:
            start, of = self.seconds, FOLDS * planned

            def done(split: Split, of: int = of) -> None:
                self.progress(f"split {split.number + 1} of {of}: {self.seconds:.0f} s")

            repetitions.append(run(len(repetitions), done))
            if finished is not None:
                continue
            more = int((60 * self.minutes - self.seconds) / (self.seconds - start))
            planned = min(MAX_REPETITIONS, len(repetitions) + max(0, more))
        self.keep(name, lambda: {"repetitions": torch.tensor(len(repetitions))})
        return repetitions

    def keep(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        r"""Returns tensors that a file of the folder keeps, or computes them."""
        if self.folder is None:
            return make()
        kept = self._kept(name)
        if kept is None:
            kept = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self.folder / f"{name}.safetensors", {}, kept)
        return kept

    def _kept(self, name: str) -> dict[str, Tensor] | None:
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        return read_file(path)[1] if path is not None and path.is_file() else None


def _to_tensors(scores: SplitScores) -> dict[str, Tensor]:
    return {
        "rows": torch.from_numpy(scores.rows),
        "log_probabilities": torch.from_numpy(np.stack(list(scores.log_probabilities.values()))),
        "correct": torch.from_numpy(np.stack(list(scores.correct.values()))),
    }


def _from_tensors(tensors: dict[str, Tensor], arms: Sequence[Arm]) -> SplitScores:
    return SplitScores(
        tensors["rows"].numpy(),
        dict(zip(arms, tensors["log_probabilities"].numpy(), strict=True)),
        dict(zip(arms, tensors["correct"].numpy(), strict=True)),
    )
