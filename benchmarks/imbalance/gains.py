r"""Gains in balanced accuracy, in points, paired by cell, seed and device."""

__all__ = [
    "BALANCED", "WITH_IMAGES", "AddedByImages", "Gain", "Row", "StrategyGains", "added_by_images", "gains",
    "strategy_gains",
]  # fmt: skip

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from gae_augment.evaluation import PairedDifference

from .runs import CellKey, Run
from .sources import NOTHING

BALANCED = "class-balanced sampling"

WITH_IMAGES = "gae:soft_labels=0.5"
"""The source that the figures show: the default model, with soft labels."""

Row = tuple[str, str]
"""A strategy and a source."""

PointsBySeed = dict[int, dict[CellKey, float]]
"""Gains by seed and cell."""


@dataclass(frozen=True)
class Gain:
    r"""A run, and the run it is compared with, of the same cell, seed and device."""

    run: Run
    base: Run

    @property
    def points(self) -> float:
        r"""The gain in balanced accuracy, in points."""
        return self.run.balanced_accuracy - self.base.balanced_accuracy


def gains(runs: Iterable[Run]) -> list[Gain]:
    r"""Returns each run with synthetic images, paired with the same strategy's run without images."""
    runs = list(runs)

    def pairing(run: Run) -> tuple[object, ...]:
        return run.cell, run.on, run.strategy, run.seed, run.device

    bases = {pairing(run): run for run in runs if run.source == NOTHING}
    return [Gain(run, bases[pairing(run)]) for run in runs if run.source != NOTHING and pairing(run) in bases]


def _points_by_row(pairs: Iterable[Gain]) -> dict[Row, PointsBySeed]:
    rows: dict[Row, PointsBySeed] = {}
    for pair in pairs:
        run = pair.run
        rows.setdefault((run.strategy, run.source), {}).setdefault(run.seed, {})[run.cell] = pair.points
    return rows


def _over_seeds(points: PointsBySeed, seeds: Iterable[int], cells: Iterable[CellKey]) -> PairedDifference:
    cells = list(cells)
    return PairedDifference.of([fmean(points[seed][cell] for cell in cells) for seed in seeds])


@dataclass(frozen=True)
class AddedByImages:
    r"""What the images of a source add to a strategy: the mean over the cells, and its 95 % interval over the seeds."""

    strategy: str
    source: str
    difference: PairedDifference
    cells: int
    seeds: int


def added_by_images(runs: Iterable[Run]) -> list[AddedByImages]:
    r"""Returns what each source adds to each strategy, the largest gain first.

    A cell counts if it was measured with every seed of the row. The interval covers other seeds in these cells, not
    other data sets.
    """
    rows = []
    for (strategy, source), points in _points_by_row(gains(runs)).items():
        if cells := set.intersection(*map(set, points.values())):
            difference = _over_seeds(points, points, cells)
            rows.append(AddedByImages(strategy, source, difference, len(cells), len(points)))
    return sorted(rows, key=lambda row: -row.difference.mean)


@dataclass(frozen=True)
class StrategyGains:
    r"""The gain of each strategy over class-balanced sampling without images, alone and with our images.

    Attributes:
        rows: The gains by strategy and source, the strategy with the largest gain first.
        cells: The cells that all rows share.
        seeds: The seeds that all rows share.
    """

    rows: Mapping[Row, PairedDifference]
    cells: tuple[CellKey, ...]
    seeds: tuple[int, ...]


def strategy_gains(runs: Iterable[Run]) -> StrategyGains | None:
    r"""Returns the gains of all strategies measured with and without our images, or ``None`` if they share no cell.

    A gain is the mean over the cells and seeds that all rows share, and its 95 % interval is over the seeds.
    """
    runs = [run for run in runs if run.source in (NOTHING, WITH_IMAGES)]
    bases = {(run.cell, run.seed, run.device): run for run in runs if (run.strategy, run.source) == (BALANCED, NOTHING)}
    pairs = [Gain(run, bases[key]) for run in runs if (key := (run.cell, run.seed, run.device)) in bases]
    measured = _points_by_row(pairs)
    strategies = [
        strategy for strategy, source in measured if source == WITH_IMAGES and (strategy, NOTHING) in measured
    ]
    shown = {row: measured[row] for row in product(strategies, (NOTHING, WITH_IMAGES))}
    seeds = sorted(set.intersection(*map(set, shown.values()))) if shown else []
    cells = set.intersection(*(set(points[seed]) for points in shown.values() for seed in seeds)) if seeds else set()
    if not cells:
        return None
    differences = {row: _over_seeds(points, seeds, cells) for row, points in shown.items()}
    strategies.sort(key=lambda strategy: -differences[strategy, WITH_IMAGES].mean)
    ordered = {row: differences[row] for row in product(strategies, (NOTHING, WITH_IMAGES))}
    return StrategyGains(ordered, tuple(sorted(cells)), tuple(seeds))
