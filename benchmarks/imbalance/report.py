r"""The report of the experiment: tables and pictures of what the runs came to."""

__all__ = ["BALANCED", "differences", "summary", "write_report"]

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import fmean

from gae_augment import MODELS
from gae_augment.evaluation import Difference

from ..tables import markdown, signed
from .cells import MEASURED_ON
from .choices import CHOSEN, chosen_runs, chosen_strategies
from .pictures import Gain, draw_gains, gains
from .runs import CellKey, Run, run_table
from .sources import NOTHING
from .strategies import OWN

BALANCED = "class-balanced sampling"

ENOUGH_SEEDS = 3

ENOUGH_MODELS = 3

COMPARISONS = "comparisons.csv"

Row = tuple[str, str]
"""A strategy and a source."""

CellRuns = dict[CellKey, list[Run]]
"""The runs by cell and budget."""


def _by_cell(runs: Iterable[Run]) -> CellRuns:
    cells: CellRuns = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    return dict(sorted(cells.items()))


def _by_row(runs: Iterable[Run]) -> dict[Row, dict[int, Run]]:
    rows: dict[Row, dict[int, Run]] = {}
    for run in runs:
        rows.setdefault((run.strategy, run.source), {})[run.seed] = run
    return rows


def _common_seeds(runs: dict[int, Run], base: dict[int, Run]) -> list[int]:
    r"""Returns the seeds that both have, on one kind of device: others differ in every last bit."""
    return sorted(seed for seed in runs.keys() & base.keys() if runs[seed].device == base[seed].device)


def differences(runs: dict[int, Run], base: dict[int, Run], *, at_least: int = 1) -> Difference | None:
    r"""Returns the difference of the balanced accuracy, in points, paired by the seeds that both have, if enough."""
    common = _common_seeds(runs, base)
    if len(common) < at_least:
        return None
    return Difference.of([runs[seed].balanced_accuracy - base[seed].balanced_accuracy for seed in common])


def _name(row: Row) -> str:
    strategy, source = row
    return strategy if source == NOTHING else f"{strategy} + {source}"


def _mean(runs: Iterable[Run], name: str, form: str = ".2f") -> str:
    value = fmean(getattr(run, name) for run in runs)
    return "" if math.isnan(value) else format(value, form)


def is_ours(row: Row) -> bool:
    r"""Returns whether a row has images of one of our models; all others are baselines, those of peers included."""
    return row[1].partition(":")[0] in MODELS


def is_baseline(row: Row) -> bool:
    r"""Returns whether a row is without images of our models."""
    return not is_ours(row)


def is_usual(row: Row) -> bool:
    r"""Returns whether a baseline is what others do, and not a strategy of the recipe."""
    return is_baseline(row) and row[0] not in (*OWN, CHOSEN)


def to_best_baseline(
    rows: dict[Row, dict[int, Run]], ours: Row, counts: Callable[[Row], bool] = is_baseline
) -> Difference | None:
    r"""Returns by how much one of our rows is above the baseline of its cell that is hardest for it.

    Only baselines with enough seeds in common with the row count, paired by them, so that one that was measured on easy
    seeds alone is not the best for that.
    """
    found = [differences(rows[ours], own, at_least=ENOUGH_SEEDS) for row, own in rows.items() if counts(row)]
    return min((one for one in found if one is not None), key=lambda one: one.mean, default=None)


def _accuracy(runs: dict[int, Run]) -> float:
    return fmean(run.balanced_accuracy for run in runs.values())


def summary(runs: Sequence[Run]) -> str:
    r"""Returns the table of one cell, the best first, with differences paired by seed and their 95 % intervals."""
    rows = _by_row(runs)
    balanced = rows.get((BALANCED, NOTHING), {})
    lines = []
    for row in sorted(rows, key=lambda row: _accuracy(rows[row]), reverse=True):
        own = rows[row]
        lines.append(
            [
                _name(row),
                f"{_accuracy(own):.2f}",
                signed(differences(own, balanced)) if row != (BALANCED, NOTHING) else "",
                signed(to_best_baseline(rows, row)) if is_ours(row) else "",
                *(_mean(own.values(), name) for name in ("head", "middle", "tail", "macro_f1", "fid")),
                _mean(own.values(), "memorised", ".1%"),
                _mean(own.values(), "source_seconds", ".0f"),
                _mean(own.values(), "training_seconds", ".0f"),
                str(len(own)),
            ]
        )
    head = (
        "row", "balanced accuracy", f"to {BALANCED}", "to the best baseline", "head", "middle", "tail",
        "macro F1", "FID (classifier features)", "memorised", "seconds to make images", "to train", "seeds",
    )  # fmt: skip
    return markdown(head, lines)


@dataclass(frozen=True)
class Comparison:
    r"""By how much one of our rows is above a baseline of its cell, in points, paired by the seeds that both have.

    The bounds of the 95 % interval are missing where they have one seed in common.
    """

    on: str
    dataset: str
    profile: str
    regime: str
    settings: str
    row: str
    baseline: str
    points: float
    low: float | None
    high: float | None
    seeds: int


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    r"""Returns each of our rows of one cell beside each baseline."""
    rows = _by_row(runs)
    found = []
    for ours, baseline in product(filter(is_ours, sorted(rows)), filter(is_baseline, sorted(rows))):
        if difference := differences(rows[ours], rows[baseline]):
            seeds = len(_common_seeds(rows[ours], rows[baseline]))
            low, high = (None if end is None else round(end, 3) for end in (difference.low, difference.high))
            points = round(difference.mean, 3)
            found.append(Comparison(runs[0].on, *runs[0].cell, _name(ours), _name(baseline), points, low, high, seeds))
    return found


def _write_comparisons(found: Sequence[Comparison], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Comparison)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, found))


def overview(cells: Sequence[Sequence[Run]], counts: Callable[[Row], bool] = is_baseline) -> str:
    r"""Returns how each of our rows does over all cells: against the best baseline of each, and by data set.

    A cell counts for a row only if a baseline has at least three seeds in common with it; another budget is another
    cell. "Surely" is where the 95 % interval excludes 0.
    """
    verdicts: dict[Row, list[Difference]] = {}
    gained: dict[Row, dict[str, list[float]]] = {}
    for runs in cells:
        rows = _by_row(runs)
        balanced = rows.get((BALANCED, NOTHING), {})
        for row, own in rows.items():
            difference = to_best_baseline(rows, row, counts) if is_ours(row) else None
            if difference is None:
                continue
            verdicts.setdefault(row, []).append(difference)
            gains_by_set, gain = gained.setdefault(row, {}), differences(own, balanced, at_least=ENOUGH_SEEDS)
            if gain is not None:
                gains_by_set.setdefault(runs[0].dataset, []).append(gain.mean)
    datasets = sorted({name for means in gained.values() for name in means})
    lines = []
    for row in sorted(verdicts, key=lambda row: -fmean(found.mean for found in verdicts[row])):
        found = verdicts[row]
        lines.append(
            [
                _name(row),
                str(len(found)),
                f"{fmean(one.mean for one in found):+.2f}",
                str(sum(one.mean >= 0 for one in found)),
                str(sum(one.low is not None and one.low > 0 for one in found)),
                str(sum(one.high is not None and one.high < 0 for one in found)),
                *(f"{fmean(gained[row][name]):+.2f}" if name in gained[row] else "" for name in datasets),
            ]
        )
    head = ("row", "cells", "to the best baseline", "at or above it in", "surely above in", "surely below in")
    return markdown((*head, *(f"to {BALANCED}, {name}" for name in datasets)), lines)


def composed(runs: Iterable[Run]) -> str:
    r"""Returns what each source adds to each strategy: the mean over the cells, and its 95 % interval over the seeds.

    Cells count that were measured with every seed of the row. They are taken as they are: the interval is for other
    seeds in these cells, not for other data sets.
    """
    rows: dict[Row, dict[int, dict[CellKey, float]]] = {}
    for gain in gains(runs):
        run = gain.run
        of_seed = rows.setdefault((run.strategy, run.source), {}).setdefault(run.seed, {})
        of_seed[run.cell] = gain.points
    found = []
    for (strategy, source), seeds in rows.items():
        if cells := set.intersection(*map(set, seeds.values())):
            of_seeds = [fmean(own[cell] for cell in cells) for own in seeds.values()]
            found.append((Difference.of(of_seeds), strategy, source, len(cells), len(seeds)))
    lines = [
        [strategy, source, signed(difference), str(cells), str(seeds)]
        for difference, strategy, source, cells, seeds in sorted(found, key=lambda row: -row[0].mean)
    ]
    return markdown(("strategy", "with images of", "gain, points", "cells", "seeds"), lines)


def fid_and_gain(runs: Iterable[Run]) -> str:
    r"""Returns the FID and the gain of our models beside each other, and how their ranks agree, for each training set.

    The gain is that over class-balanced sampling without images, in the regimes and with the seeds that all models
    have; training sets of three models at least are shown.
    """
    from scipy.stats import spearmanr

    sets: dict[tuple[str, str, str], dict[str, dict[tuple[str, int], Gain]]] = {}
    for gain in gains(runs):
        run = gain.run
        if run.strategy == BALANCED and run.source in MODELS:
            models = sets.setdefault((run.dataset, run.profile, run.settings), {})
            models.setdefault(run.source, {})[run.regime, run.seed] = gain
    parts = []
    for (dataset, profile, settings), models in sorted(sets.items()):
        common = set.intersection(*map(set, models.values()))
        if len(models) < ENOUGH_MODELS or not common:
            continue
        fids = {model: fmean(own[place].run.fid for place in common) for model, own in models.items()}
        points = {model: Difference.of([own[place].points for place in common]) for model, own in models.items()}
        order = sorted(models, key=fids.__getitem__)
        lines = [[model, f"{fids[model]:.2f}", signed(points[model])] for model in order]
        rank = spearmanr([fids[model] for model in order], [points[model].mean for model in order]).statistic
        seeds = {seed for _, seed in common}
        parts += [
            f"{dataset}, {profile}, {settings}; {', '.join(sorted({regime for regime, _ in common}))}; "
            f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}:\n",
            markdown(("model", "FID (classifier features)", "gain, points"), lines),
            f"Spearman's rank correlation of FID and gain is {rank:+.2f}; at -1 a lower FID would mean more gain.\n",
        ]
    return "\n".join(parts)


def budgets(cells: CellRuns) -> str:
    r"""Returns the balanced accuracy of class-balanced sampling alone, by budget and cell."""
    values = {key: _by_row(runs).get((BALANCED, NOTHING)) for key, runs in cells.items()}
    measured = {key: own for key, own in values.items() if own}
    columns = sorted({key[:3] for key in measured})
    lines = []
    for settings in sorted({key[3] for key in measured}):
        row = [measured.get((*column, settings)) for column in columns]
        lines.append([settings, *(f"{_accuracy(own):.2f} ({len(own)})" if own else "" for own in row)])
    return markdown(("budget", *(f"{', '.join(column)} (seeds)" for column in columns)), lines)


def write_report(output: Path) -> None:
    r"""Writes ``REPORT.md``: the remarks of ``REMARKS.md``, which a person writes, and the tables below them.

    Beside it go the pictures, and ``comparisons.csv``.
    """
    output.mkdir(parents=True, exist_ok=True)
    remarks = output / "REMARKS.md"
    parts = ["# Imbalance: what a classifier gains\n"]
    if remarks.is_file():
        parts.append(remarks.read_text())
    runs = list(run_table(output / "runs.csv").records.values())
    chosen = chosen_strategies(runs)
    runs += chosen_runs(runs, chosen)
    compared: list[Comparison] = []
    for on in MEASURED_ON:
        measured = [run for run in runs if run.on == on]
        if not measured:
            continue
        by_cell = _by_cell(measured)
        if any(is_ours(row) for row in _by_row(measured)):
            parts += [
                f"## Ours over all cells; measured on {on} images\n",
                "Against the best row of each cell without our images, the recipe's own strategies included:\n",
                overview(list(by_cell.values())),
                "Against the best of the usual remedies and of the peers' images alone:\n",
                overview(list(by_cell.values()), is_usual),
            ]
        if len(by_cell) > len({cell[:3] for cell in by_cell}):
            parts += [f"## {BALANCED} with several budgets; measured on {on} images\n", budgets(by_cell)]
        for own_cell, own in by_cell.items():
            dataset, profile, regime, settings = own_cell
            parts += [f"## {dataset}, {profile}, {regime}; measured on {on} images\n", f"{settings}\n", summary(own)]
            if on == "test" and (often := Counter(what for (cell, _), what in chosen.items() if cell == own_cell)):
                parts.append(f"{CHOSEN}: {', '.join(f'{name} ({n})' for name, n in often.most_common())}\n")
            compared += comparisons(own)
        if found := gains(measured):
            parts += [f"## What images add to a strategy; measured on {on} images\n", composed(measured)]
            if table := fid_and_gain(measured):
                parts += [f"## FID and gain of the models, with {BALANCED}; measured on {on} images\n", table]
            draw_gains([gain for gain in found if gain.run.strategy != CHOSEN], output / f"gains-{on}.png")
            parts.append(f"`gains-{on}.png` shows them by class size, imbalance, number of images and FID.\n")
    if compared:
        _write_comparisons(compared, output / COMPARISONS)
        parts.append(f"`{COMPARISONS}` has each of our rows beside each baseline of its cell, with 95 % intervals.\n")
    versions = sorted({f"{run.device}, {run.versions}" for run in runs})
    parts += ["## Machines and versions\n", "\n".join(f"- {line}" for line in versions) + "\n"]
    (output / "REPORT.md").write_text("\n".join(parts))
