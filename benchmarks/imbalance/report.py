r"""The report of the experiment: tables and pictures of what the runs came to."""

__all__ = ["BALANCED", "differences", "summary", "write_report"]

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from gae_augment.evaluation import Difference

from ..paper.tables import markdown
from .cells import MEASURED_ON
from .pictures import draw_gains, gains
from .runs import Run, run_table
from .sources import NOTHING

BALANCED = "class-balanced sampling"

Row = tuple[str, str]
"""A strategy and a source."""


def _by_row(runs: Iterable[Run]) -> dict[Row, dict[int, Run]]:
    rows: dict[Row, dict[int, Run]] = {}
    for run in runs:
        rows.setdefault((run.strategy, run.source), {})[run.seed] = run
    return rows


def differences(runs: dict[int, Run], base: dict[int, Run]) -> Difference | None:
    r"""Returns the difference of the balanced accuracy, paired by the seeds that both have, in points."""
    common = sorted(runs.keys() & base.keys())
    if not common:
        return None
    return Difference.of([runs[seed].balanced_accuracy - base[seed].balanced_accuracy for seed in common])


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return ""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"


def _name(row: Row) -> str:
    strategy, source = row
    return strategy if source == NOTHING else f"{strategy} + {source}"


def _mean(runs: Iterable[Run], name: str, form: str = ".2f") -> str:
    value = fmean(getattr(run, name) for run in runs)
    return "" if math.isnan(value) else format(value, form)


def summary(runs: Sequence[Run], ours: str = "gae") -> str:
    r"""Returns the table of one cell, the best first, with differences paired by seed and their 95 % intervals.

    The baselines are all rows but those of our models; the best of them is the one with the highest mean.
    """
    rows = _by_row(runs)
    means = {row: fmean(run.balanced_accuracy for run in own.values()) for row, own in rows.items()}
    without = {row: mean for row, mean in means.items() if row[1] == NOTHING}
    best = max(without, key=without.__getitem__) if without else None
    balanced = rows.get((BALANCED, NOTHING), {})
    lines = []
    for row in sorted(means, key=means.__getitem__, reverse=True):
        own = rows[row]
        lines.append(
            [
                _name(row),
                f"{means[row]:.2f}",
                _signed(differences(own, balanced)) if row != (BALANCED, NOTHING) else "",
                _signed(differences(own, rows[best])) if best not in (None, row) else "",
                *(_mean(own.values(), name) for name in ("head", "middle", "tail", "macro_f1", "fid")),
                _mean(own.values(), "memorised", ".1%"),
                _mean(own.values(), "source_seconds", ".0f"),
                _mean(own.values(), "training_seconds", ".0f"),
                str(len(own)),
            ]
        )
    head = (
        "row", "balanced accuracy", f"to {BALANCED}", "to the best strategy alone", "head", "middle", "tail",
        "macro F1", "FID (classifier features)", "memorised", "seconds to make images", "to train", "seeds",
    )  # fmt: skip
    return markdown(head, lines)


def composed(runs: Sequence[Run]) -> str:
    r"""Returns what each source adds to each strategy, over all cells and seeds that have both."""
    pairs: dict[Row, list[float]] = {}
    for gain in gains(runs):
        pairs.setdefault((gain.run.strategy, gain.run.source), []).append(gain.points)
    lines = [
        [strategy, source, _signed(Difference.of(points)), str(len(points))]
        for (strategy, source), points in sorted(pairs.items(), key=lambda pair: -fmean(pair[1]))
    ]
    return markdown(("strategy", "with images of", "gain, points", "cells and seeds"), lines)


def write_report(output: Path) -> None:
    r"""Writes ``REPORT.md``: the remarks of ``REMARKS.md``, which a person writes, and the tables below them."""
    output.mkdir(parents=True, exist_ok=True)
    remarks = output / "REMARKS.md"
    parts = ["# Imbalance: what a classifier gains\n"]
    if remarks.is_file():
        parts.append(remarks.read_text())
    runs = list(run_table(output / "runs.csv").records.values())
    for on in MEASURED_ON:
        measured = [run for run in runs if run.on == on]
        if not measured:
            continue
        for cell in sorted({(run.dataset, run.profile, run.regime, run.settings) for run in measured}):
            own = [run for run in measured if (run.dataset, run.profile, run.regime, run.settings) == cell]
            dataset, profile, regime, settings = cell
            parts += [f"## {dataset}, {profile}, {regime}; measured on {on} images\n", f"{settings}\n", summary(own)]
        parts += [f"## What images add to a strategy; measured on {on} images\n", composed(measured)]
        if found := gains(measured):
            draw_gains(found, output / f"gains-{on}.png")
            parts.append(f"`gains-{on}.png` shows them by class size, imbalance, number of images and FID.\n")
    versions = sorted({f"{run.device}, {run.versions}" for run in runs})
    parts += ["## Machines and versions\n", "\n".join(f"- {line}" for line in versions) + "\n"]
    (output / "REPORT.md").write_text("\n".join(parts))
