r"""The report: every table that there are runs for, and what was said about them."""

__all__ = ["write_report"]

import csv
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from gae_augment.evaluation import PairedDifference

from ..tables import markdown, signed
from .boundary import DELTAS, Point, point_table
from .cosine import PUBLISHED, Trial
from .rows import DATASETS
from .runs import run_table
from .tables import fid_table, time_table


def _cosine_table(path: Path) -> str:
    with path.open(newline="") as file:
        lines_read: list[dict[str, Any]] = list(csv.DictReader(file))
    trials = [Trial(**line | {key: float(line[key]) for key in line if key != "model"}) for line in lines_read]
    lines = [
        "| model | reconstruction error | the paper's | regularisation error | samples near the curve | all near |",
        "|---|---|---|---|---|---|",
    ]
    for model in dict.fromkeys(trial.model for trial in trials):
        own = [trial for trial in trials if trial.model == model]
        errors = [trial.reconstruction_error for trial in own]
        published = "{:.4f} ± {:.4f}".format(*PUBLISHED[model]) if model in PUBLISHED else ""
        divergence = mean(trial.regularisation_error for trial in own)
        near = ", ".join(f"{trial.near:.1%}" for trial in own)
        lines.append(
            f"| {model} | {mean(errors):.4f} ± {stdev(errors):.4f} | {published} | "
            f"{'' if divergence != divergence else f'{divergence:.4f}'} | {near} | "
            f"{sum(trial.near >= 0.99 for trial in own)} of {len(own)} |"
        )
    return "\n".join(lines) + "\n"


def _delta_table(points: list[Point]) -> str:
    head = ("data set", "delta", "classes that reached it", "error", "epochs", "FID", "gain, points", "seeds")
    lines = []
    for dataset in sorted({point.dataset for point in points}):
        of_set = [point for point in points if point.dataset == dataset]
        for delta in sorted({point.delta for point in of_set}, key=DELTAS.index):
            own = [point for point in of_set if point.delta == delta]
            gain = PairedDifference.of([point.gain for point in own])
            lines.append(
                (
                    dataset,
                    delta,
                    f"{mean(point.reached for point in own):.0%}",
                    f"{mean(point.reconstruction_error for point in own):.4f}",
                    f"{mean(point.epochs for point in own):.0f}",
                    f"{mean(point.fid for point in own):.2f}",
                    signed(gain),
                    str(len(own)),
                )
            )
    return markdown(head, lines)


def write_report(output: Path) -> None:
    r"""Writes ``REPORT.md``: the remarks of ``REMARKS.md``, which a person writes, and the tables below them."""
    remarks = output / "REMARKS.md"
    parts = ["# The paper's experiments, done again\n"]
    if remarks.is_file():
        parts.append(remarks.read_text())
    if (output / "cosine.csv").is_file():
        parts += ["## Cosine curve (Table 2; Figure 4 is `cosine.png`)\n", _cosine_table(output / "cosine.csv")]
    points = list(point_table(output / "delta.csv").records.values())
    if points:
        parts += ["## The boundary of the reconstruction error (`delta.png`)\n", _delta_table(points)]
    runs = list(run_table(output / "runs.csv").records.values())
    for on in ("test", "validation"):
        for dataset in DATASETS:
            sizes = sorted({(run.epochs, run.train_images) for run in runs if (run.dataset, run.on) == (dataset, on)})
            for epochs, size in reversed(sizes):
                key = (dataset, on, epochs, size)
                own = [run for run in runs if (run.dataset, run.on, run.epochs, run.train_images) == key]
                title = f"{dataset}: {epochs} epochs of {size} images, measured on {on} images"
                parts += [f"## {title}\n", fid_table(dataset, own), time_table(dataset, own)]
    versions = sorted({f"{run.device}, {run.threads} thread, {run.arithmetic}, {run.versions}" for run in runs})
    if versions:
        parts += ["## Machines and versions\n", "\n".join(f"- {line}" for line in versions) + "\n"]
    output.mkdir(parents=True, exist_ok=True)
    (output / "REPORT.md").write_text("\n".join(parts))
