r"""The figure of the results page: each strategy without and with synthetic images."""

__all__ = ["WITH", "WITHOUT", "dots", "draw_strategies", "points_label", "strategy_label"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gae_augment.evaluation import PairedDifference

from .choices import CHOSEN
from .gains import BALANCED, WITH_IMAGES, StrategyGains
from .sources import NOTHING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WITHOUT, WITH = "#3b82c4", "#e0822d"
"""The colours of results without and with synthetic images; colour-blind readers can tell them apart."""

LABELS = {
    "plain": "plain training",
    "cutmix": "CutMix",
    "balanced softmax, cutmix": "balanced softmax + CutMix",
    "square-root sampling, half cutmix": "square-root sampling + half CutMix",
    CHOSEN: "chosen on held-out images",
}


def strategy_label(strategy: str) -> str:
    r"""Returns the name of a strategy for readers of a figure."""
    return LABELS.get(strategy, strategy)


def points_label(value: float, position: float = 0) -> str:
    r"""Returns the label of a tick on an axis of gains; it has the form that Matplotlib asks for."""
    return f"{value:+g}" if value else "0"


def dots(
    axes: "Axes",
    differences: Sequence[PairedDifference],
    heights: Sequence[float],
    *,
    colour: str,
    label: str,
    filled: bool,
) -> None:
    r"""Draws means as dots, and their 95 % intervals as horizontal lines."""
    for difference, height in zip(differences, heights, strict=True):
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [height, height], color=colour, linewidth=2.2, zorder=2)
    means = [difference.mean for difference in differences]
    (line,) = axes.plot(means, heights, "o", color=colour, markersize=8.5, markeredgewidth=2, label=label, zorder=3)
    if not filled:
        line.set_markerfacecolor("white")


def draw_strategies(gains: StrategyGains, path: Path) -> None:
    r"""Draws one row for each strategy: its gain without images (hollow dot) and with our images (filled dot)."""
    from matplotlib.figure import Figure

    strategies = list(dict.fromkeys(strategy for strategy, _ in gains.rows))
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(strategies)), layout="constrained")
    axes = figure.subplots()
    heights = list(range(len(strategies), 0, -1))
    for source, offset, colour, label in (
        (NOTHING, 0.14, WITHOUT, "without synthetic images"),
        (WITH_IMAGES, -0.14, WITH, "with our synthetic images"),
    ):
        differences = [gains.rows[strategy, source] for strategy in strategies]
        places = [height + offset for height in heights]
        dots(axes, differences, places, colour=colour, label=label, filled=source != NOTHING)
    for height in heights[::2]:
        axes.axhspan(height - 0.5, height + 0.5, color="0.96", zorder=0)
    axes.axvline(0, color="0.45", linewidth=1, zorder=1)
    axes.set_yticks(heights, [strategy_label(strategy) for strategy in strategies])
    axes.set_ylim(0.5, len(strategies) + 0.5)
    axes.tick_params(labelsize=11, length=0)
    axes.xaxis.set_major_formatter(points_label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=11, frameon=True, facecolor="white", framealpha=1, edgecolor="0.8")
    figure.suptitle("Training strategies without and with synthetic images", fontsize=14, weight="bold")
    baseline = f"points of balanced accuracy above or below {BALANCED} without images"
    figure.supxlabel(f"{baseline};\ndots are means, lines 95 % intervals over {len(gains.seeds)} seeds", fontsize=11)
    figure.savefig(path, dpi=150)
