r"""The report of the experiment: its figure, the remarks and the tables."""

__all__ = ["write_report"]

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from .cells import MEASURED_ON
from .choices import CHOSEN, chosen_runs, chosen_strategies
from .gains import BALANCED, WITH_IMAGES, StrategyGains, gains, strategy_gains
from .pictures import draw_strategies
from .runs import Run, run_table
from .tables import (
    CellRuns,
    Comparison,
    added_table,
    budgets,
    by_row,
    comparisons,
    fid_and_gain,
    is_ours,
    is_usual,
    overview,
    strategies_table,
    summary,
)

COMPARISONS = "comparisons.csv"

FIGURE = "strategies.png"


def _by_cell(runs: Iterable[Run]) -> CellRuns:
    cells: CellRuns = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    return dict(sorted(cells.items()))


def _write_comparisons(compared: Sequence[Comparison], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Comparison)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, compared))


def caption(measured: StrategyGains) -> str:
    r"""Returns the caption of the figure: what a dot and a line are, over which cells and seeds."""
    datasets, profiles, regimes = (sorted({cell[place] for cell in measured.cells}) for place in range(3))
    return (
        f"Gain in balanced accuracy over {BALANCED} without synthetic images, in points. A dot is the mean over "
        f"{len(measured.cells)} cells ({' and '.join(datasets)}; profiles {' and '.join(profiles)}; augmentation "
        f"{' and '.join(regimes)}) and {len(measured.seeds)} seeds. A line is the 95 % interval: gains are averaged "
        f"over the cells of each seed, and Student's t is taken over the seeds. It covers other seeds in these cells, "
        f"not other data sets. Our images are those of `{WITH_IMAGES}`."
    )


def write_report(output: Path) -> None:
    r"""Writes ``REPORT.md``: the figure, the hand-written ``REMARKS.md``, and the tables.

    The figure ``strategies.png`` is drawn if at least two strategies were measured with and without our images.
    ``comparisons.csv`` is written beside it.
    """
    output.mkdir(parents=True, exist_ok=True)
    remarks = output / "REMARKS.md"
    runs = list(run_table(output / "runs.csv").records.values())
    chosen = chosen_strategies(runs)
    runs += chosen_runs(runs, chosen)
    parts = ["# Imbalance: what a classifier gains\n"]
    figure = strategy_gains(run for run in runs if run.on == "test")
    if figure is not None and len(figure.rows) > 2:
        draw_strategies(figure, output / FIGURE)
        parts.append(f"![Each training strategy without and with synthetic images]({FIGURE})\n\n*{caption(figure)}*\n")
    else:
        figure = None
    if remarks.is_file():
        parts.append(remarks.read_text())
    if figure is not None:
        parts += ["## The numbers of the figure\n", strategies_table(figure)]
    compared: list[Comparison] = []
    for on in MEASURED_ON:
        measured = [run for run in runs if run.on == on]
        if not measured:
            continue
        by_cell = _by_cell(measured)
        if any(is_ours(row) for row in by_row(measured)):
            parts += [
                f"## Ours over all cells; measured on {on} images\n",
                "Compared with the best row of each cell without our images, including the recipe's own strategies:\n",
                overview(list(by_cell.values())),
                "Compared with the best usual remedy, including other libraries' images:\n",
                overview(list(by_cell.values()), is_usual),
            ]
        if len(by_cell) > len({cell[:3] for cell in by_cell}):
            parts += [f"## {BALANCED} with several budgets; measured on {on} images\n", budgets(by_cell)]
        for cell, cell_runs in by_cell.items():
            dataset, profile, regime, settings = cell
            parts += [
                f"## {dataset}, {profile}, {regime}; measured on {on} images\n",
                f"{settings}\n",
                summary(cell_runs),
            ]
            if on == "test" and (often := Counter(what for (place, _), what in chosen.items() if place == cell)):
                parts.append(f"{CHOSEN}: {', '.join(f'{name} ({n})' for name, n in often.most_common())}\n")
            compared += comparisons(cell_runs)
        if gains(measured):
            parts += [f"## What images add to a strategy; measured on {on} images\n", added_table(measured)]
            if table := fid_and_gain(measured):
                parts += [f"## FID and gain of the models, with {BALANCED}; measured on {on} images\n", table]
    if compared:
        _write_comparisons(compared, output / COMPARISONS)
        parts.append(
            f"`{COMPARISONS}` compares each of our rows with each baseline of its cell, with 95 % intervals.\n"
        )
    versions = sorted({f"{run.device}, {run.versions}" for run in runs})
    parts += ["## Machines and versions\n", "\n".join(f"- {line}" for line in versions) + "\n"]
    (output / "REPORT.md").write_text("\n".join(parts))
