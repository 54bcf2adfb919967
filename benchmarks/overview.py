r"""``python -m benchmarks.overview``: the README's figure and table of results, from the committed tables of runs."""

__all__ = ["Overview", "draw_models", "draw_overview", "overview_table", "read_results"]

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from gae_augment import MODELS

from .imbalance.gains import WITH_IMAGES, AddedByImages, added_by_images
from .imbalance.pictures import WITH, dots, points_label, strategy_label
from .imbalance.runs import run_table as imbalance_runs
from .imbalance.strategies import STRATEGIES
from .paper.runs import run_table as paper_runs
from .tables import markdown, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).resolve().parent / "results"

DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}

PROTOCOL = {"on": "test", "epochs": 30, "train_images": 60_000}
"""The runs of the paper's protocol."""


@dataclass(frozen=True)
class Overview:
    r"""The results that the README shows.

    Attributes:
        added: What images of the default model with soft labels add to each strategy, the largest gain first.
        fid: The FID (classifier features) by data set and model, a mean over seeds.
        seconds: The CPU seconds of one fit by data set and model, a mean over seeds.
        models: The models, the lowest mean FID first.
    """

    added: list[AddedByImages]
    fid: dict[str, dict[str, float]]
    seconds: dict[str, dict[str, float]]
    models: list[str]


def read_results(results: Path = RESULTS) -> Overview:
    r"""Returns the results from the tables of runs in a folder."""
    measured = imbalance_runs(results / "imbalance" / "runs.csv").records.values()
    added = added_by_images(
        run
        for run in measured
        if run.on == "test" and run.source in ("nothing", WITH_IMAGES) and run.strategy in STRATEGIES
    )
    fits = [
        run
        for run in paper_runs(results / "paper" / "runs.csv").records.values()
        if all(getattr(run, name) == value for name, value in PROTOCOL.items())
    ]

    def means(quantity: str) -> dict[str, dict[str, float]]:
        return {
            dataset: {
                model: fmean(getattr(run, quantity) for run in fits if (run.dataset, run.model) == (dataset, model))
                for model in MODELS
            }
            for dataset in DATASETS
        }

    fid = means("fid")
    models = sorted(MODELS, key=lambda model: fmean(fid[dataset][model] for dataset in DATASETS))
    return Overview(added, fid, means("cpu_seconds"), models)


def overview_table(results: Overview) -> str:
    r"""Returns the numbers of the figure in Markdown: strategies at the left, models at the right."""
    lines = []
    for place in range(max(len(results.added), len(results.models))):
        left, right = ["", ""], ["", "", "", ""]
        if place < len(results.added):
            row = results.added[place]
            left = [strategy_label(row.strategy), signed(row.difference)]
        if place < len(results.models):
            model = results.models[place]
            fids, seconds = (
                [table[dataset][model] for dataset in DATASETS] for table in (results.fid, results.seconds)
            )
            right = [f"`{model}`", *(f"{fid:.2f}" for fid in fids), " / ".join(f"{value:.0f}" for value in seconds)]
        lines.append([*left, *right])
    head = (
        "training strategy", "our images add, points", "model",
        *(f"FID, {name}" for name in DATASETS.values()), "seconds of one fit",
    )  # fmt: skip
    return markdown(head, lines)


def _tidy(axes: "Axes") -> None:
    axes.tick_params(axis="y", length=0)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_models(fid_axes: "Axes", time_axes: "Axes", results: Overview) -> None:
    heights = range(len(results.models), 0, -1)
    for axes, table in ((fid_axes, results.fid), (time_axes, results.seconds)):
        for dataset, colour, marker in (("mnist", "0.25", "o"), ("fashion_mnist", "#55a868", "D")):
            values = [table[dataset][model] for model in results.models]
            axes.plot(values, heights, marker, color=colour, markersize=6, alpha=0.9, label=DATASETS[dataset])
        axes.set_xlim(0, 1.08 * axes.dataLim.xmax)
        _tidy(axes)
    fid_axes.set_yticks(heights, results.models, family="monospace")
    fid_axes.set_title("Quality of the images", fontsize=11, weight="bold")
    fid_axes.set_xlabel("FID (classifier features),\nlower is better")
    fid_axes.legend(fontsize=9, loc="upper right")
    time_axes.set_yticks(heights, [""] * len(heights))
    time_axes.set_title("Time of one fit", fontsize=11, weight="bold")
    time_axes.set_xlabel("seconds on one CPU thread,\n60 000 images, 30 epochs")


def draw_models(results: Overview, path: Path) -> None:
    r"""Draws the FID and the time of each model, for the report on the paper's experiments."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    fid_axes, time_axes = figure.subplots(1, 2)
    _draw_models(fid_axes, time_axes, results)
    figure.savefig(path, dpi=150)


def draw_overview(results: Overview, path: Path) -> None:
    r"""Draws three panels: what images add to each strategy, and the FID and time of each model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4), layout="constrained")
    gain_axes, fid_axes, time_axes = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    heights = range(len(results.added), 0, -1)
    seeds = min(row.seeds for row in results.added)
    dots(gain_axes, [row.difference for row in results.added], heights, colour=WITH, label="", filled=True)
    gain_axes.axvline(0, color="0.45", linewidth=1, zorder=1)
    gain_axes.set_yticks(heights, [strategy_label(row.strategy) for row in results.added])
    gain_axes.xaxis.set_major_formatter(points_label)
    gain_axes.set_title("What our images add", fontsize=11, weight="bold")
    gain_axes.set_xlabel(f"points of balanced accuracy,\n95 % interval over {seeds} seeds")
    _tidy(gain_axes)
    _draw_models(fid_axes, time_axes, results)
    figure.savefig(path, dpi=160)


def main() -> None:
    r"""Draws ``results/overview.png`` and ``results/paper/models.png``, and prints the table."""
    results = read_results()
    draw_models(results, RESULTS / "paper" / "models.png")
    draw_overview(results, RESULTS / "overview.png")
    print(overview_table(results), end="")


if __name__ == "__main__":
    main()
