r"""Pictures of what synthetic images add, against what it may depend on."""

__all__ = ["Gain", "draw_gains", "gains"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from .runs import Run
from .sources import NOTHING


@dataclass(frozen=True)
class Gain:
    r"""A run with synthetic images, and the one of the same strategy, cell and seed without."""

    run: Run
    base: Run

    @property
    def points(self) -> float:
        r"""The gain in balanced accuracy, in points."""
        return self.run.balanced_accuracy - self.base.balanced_accuracy

    @property
    def counts(self) -> list[int]:
        r"""The real images of each class."""
        return [int(count) for count in self.run.counts.split()]

    def by_class(self) -> list[tuple[int, float]]:
        r"""Returns the real images and the gain in recall of each class."""
        recalls = zip(self.run.recall.split(), self.base.recall.split(), strict=True)
        return [
            (count, float(recall) - float(base)) for count, (recall, base) in zip(self.counts, recalls, strict=True)
        ]


def gains(runs: Iterable[Run]) -> list[Gain]:
    r"""Returns every run with synthetic images beside the one without, where there is one from the same device."""
    runs = list(runs)

    def pairing(run: Run) -> tuple[object, ...]:
        return run.cell, run.on, run.strategy, run.seed, run.device

    bases = {pairing(run): run for run in runs if run.source == NOTHING}
    return [Gain(run, bases[pairing(run)]) for run in runs if run.source != NOTHING and pairing(run) in bases]


def draw_gains(found: list[Gain], path: Path) -> None:
    r"""Draws gains by class size, by imbalance, by the number of synthetic images and by their FID, source by source.

    A point is a mean over seeds, strategies and regimes; in the first picture one of a class, else of a source in a
    data set with a profile.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    sources = sorted({gain.run.source for gain in found})
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    for number, source in enumerate(sources):
        own = [gain for gain in found if gain.run.source == source]
        classes: dict[tuple[str, str, int], list[tuple[int, float]]] = {}
        cells: dict[tuple[str, str], list[Gain]] = {}
        for gain in own:
            cells.setdefault((gain.run.dataset, gain.run.profile), []).append(gain)
            for label, pair in enumerate(gain.by_class()):
                classes.setdefault((gain.run.dataset, gain.run.profile, label), []).append(pair)
        by_class = [(float(pairs[0][0]), fmean(points for _, points in pairs)) for pairs in classes.values()]

        def over_cells(
            x: Callable[[Gain], float], cells: dict[tuple[str, str], list[Gain]] = cells
        ) -> list[tuple[float, float]]:
            return [(fmean(map(x, some)), fmean(gain.points for gain in some)) for some in cells.values()]

        series = (
            by_class,
            over_cells(lambda gain: max(gain.counts) / max(1, min(gain.counts))),
            over_cells(lambda gain: gain.run.synthetic_images),
            over_cells(lambda gain: gain.run.fid),
        )
        for axis, points in zip(axes, series, strict=True):
            x, y = zip(*points, strict=True)
            axis.plot(x, y, "o", color=colours[number % len(colours)], markersize=4, alpha=0.7, label=source)
    titles = ("real images of the class", "largest to smallest class", "synthetic images", "FID (classifier features)")
    for axis, title in zip(axes, titles, strict=True):
        axis.axhline(0, color="0.7", linewidth=1)
        axis.set(xlabel=title, ylabel="gain, points")
        low, high = axis.dataLim.intervalx
        # On a short logarithmic axis there would be one tick or none.
        if high > 10 * low > 0:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("gain in recall, points")
    axes[1].legend(fontsize="small")
    figure.savefig(path, dpi=90)
