r"""The tables of the report."""

__all__ = [
    "CellRuns", "Comparison", "added_table", "budgets", "by_row", "comparisons", "differences", "fid_and_gain",
    "is_ours", "is_usual", "overview", "strategies_table", "summary",
]  # fmt: skip

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from gae_augment import MODELS
from gae_augment.evaluation import PairedDifference

from ..tables import markdown, signed
from .choices import CHOSEN
from .gains import BALANCED, WITH_IMAGES, Gain, Row, StrategyGains, added_by_images, gains
from .pictures import strategy_label
from .runs import CellKey, Run
from .sources import NOTHING
from .strategies import OWN

ENOUGH_SEEDS = 3

ENOUGH_MODELS = 3

CellRuns = dict[CellKey, list[Run]]
"""The runs of each cell."""


def by_row(runs: Iterable[Run]) -> dict[Row, dict[int, Run]]:
    r"""Returns the runs of one cell by row and seed."""
    rows: dict[Row, dict[int, Run]] = {}
    for run in runs:
        rows.setdefault((run.strategy, run.source), {})[run.seed] = run
    return rows


def _common_seeds(runs: dict[int, Run], base: dict[int, Run]) -> list[int]:
    r"""Returns the seeds that both rows have on the same device: rounding differs between devices."""
    return sorted(seed for seed in runs.keys() & base.keys() if runs[seed].device == base[seed].device)


def differences(runs: dict[int, Run], base: dict[int, Run], *, at_least: int = 1) -> PairedDifference | None:
    r"""Returns the difference in balanced accuracy, in points, paired by seed, or ``None`` for too few common seeds."""
    common = _common_seeds(runs, base)
    if len(common) < at_least:
        return None
    return PairedDifference.of([runs[seed].balanced_accuracy - base[seed].balanced_accuracy for seed in common])


def _name(row: Row) -> str:
    strategy, source = row
    return strategy if source == NOTHING else f"{strategy} + {source}"


def _mean(runs: Iterable[Run], name: str, form: str = ".2f") -> str:
    value = fmean(getattr(run, name) for run in runs)
    return "" if math.isnan(value) else format(value, form)


def is_ours(row: Row) -> bool:
    r"""Returns whether a row has images of one of our models."""
    return row[1].partition(":")[0] in MODELS


def is_baseline(row: Row) -> bool:
    r"""Returns whether a row has no images of our models; rows with other libraries' images are baselines."""
    return not is_ours(row)


def is_usual(row: Row) -> bool:
    r"""Returns whether a row is a baseline and its strategy a usual one, not one of the recipe's own."""
    return is_baseline(row) and row[0] not in (*OWN, CHOSEN)


def to_best_baseline(
    rows: dict[Row, dict[int, Run]], ours: Row, counts: Callable[[Row], bool] = is_baseline
) -> PairedDifference | None:
    r"""Returns the difference between one of our rows and the best baseline of its cell.

    A baseline needs enough seeds in common with the row. Otherwise one measured on easy seeds alone could win.
    """
    gaps = [differences(rows[ours], rows[row], at_least=ENOUGH_SEEDS) for row in rows if counts(row)]
    return min((gap for gap in gaps if gap is not None), key=lambda gap: gap.mean, default=None)


def _accuracy(runs: dict[int, Run]) -> float:
    return fmean(run.balanced_accuracy for run in runs.values())


def summary(runs: Sequence[Run]) -> str:
    r"""Returns the table of one cell, best row first, with paired differences and their 95 % intervals."""
    rows = by_row(runs)
    balanced = rows.get((BALANCED, NOTHING), {})
    lines = []
    for row in sorted(rows, key=lambda row: _accuracy(rows[row]), reverse=True):
        by_seed = rows[row]
        lines.append(
            [
                _name(row),
                f"{_accuracy(by_seed):.2f}",
                signed(differences(by_seed, balanced)) if row != (BALANCED, NOTHING) else "",
                signed(to_best_baseline(rows, row)) if is_ours(row) else "",
                *(_mean(by_seed.values(), name) for name in ("head", "middle", "tail", "macro_f1", "fid")),
                _mean(by_seed.values(), "memorised", ".1%"),
                _mean(by_seed.values(), "source_seconds", ".0f"),
                _mean(by_seed.values(), "training_seconds", ".0f"),
                str(len(by_seed)),
            ]
        )
    head = (
        "row", "balanced accuracy", f"to {BALANCED}", "to the best baseline", "head", "middle", "tail",
        "macro F1", "FID (classifier features)", "memorised", "seconds to make images", "to train", "seeds",
    )  # fmt: skip
    return markdown(head, lines)


@dataclass(frozen=True)
class Comparison:
    r"""The difference between one of our rows and a baseline of its cell, in points, paired by seed.

    With one common seed there is no 95 % interval, and ``low`` and ``high`` are ``None``.
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
    r"""Returns the comparison of each of our rows of one cell with each baseline."""
    rows = by_row(runs)
    compared = []
    for ours, baseline in product(filter(is_ours, sorted(rows)), filter(is_baseline, sorted(rows))):
        if difference := differences(rows[ours], rows[baseline]):
            seeds = len(_common_seeds(rows[ours], rows[baseline]))
            low, high = (None if end is None else round(end, 3) for end in (difference.low, difference.high))
            points = round(difference.mean, 3)
            names = _name(ours), _name(baseline)
            compared.append(Comparison(runs[0].on, *runs[0].cell, *names, points, low, high, seeds))
    return compared


def overview(cells: Sequence[Sequence[Run]], counts: Callable[[Row], bool] = is_baseline) -> str:
    r"""Returns the comparison of each of our rows with the best baseline of each cell, over all cells.

    A cell counts for a row if a baseline has at least three seeds in common with it; another budget is another cell.
    "Surely" means that the 95 % interval excludes 0.
    """
    verdicts: dict[Row, list[PairedDifference]] = {}
    gained: dict[Row, dict[str, list[float]]] = {}
    for runs in cells:
        rows = by_row(runs)
        balanced = rows.get((BALANCED, NOTHING), {})
        for row, by_seed in rows.items():
            difference = to_best_baseline(rows, row, counts) if is_ours(row) else None
            if difference is None:
                continue
            verdicts.setdefault(row, []).append(difference)
            gains_by_set, gain = gained.setdefault(row, {}), differences(by_seed, balanced, at_least=ENOUGH_SEEDS)
            if gain is not None:
                gains_by_set.setdefault(runs[0].dataset, []).append(gain.mean)
    datasets = sorted({name for means in gained.values() for name in means})
    lines = []
    for row in sorted(verdicts, key=lambda row: -fmean(verdict.mean for verdict in verdicts[row])):
        in_cells = verdicts[row]
        lines.append(
            [
                _name(row),
                str(len(in_cells)),
                f"{fmean(verdict.mean for verdict in in_cells):+.2f}",
                str(sum(verdict.mean >= 0 for verdict in in_cells)),
                str(sum(verdict.low is not None and verdict.low > 0 for verdict in in_cells)),
                str(sum(verdict.high is not None and verdict.high < 0 for verdict in in_cells)),
                *(f"{fmean(gained[row][name]):+.2f}" if name in gained[row] else "" for name in datasets),
            ]
        )
    head = ("row", "cells", "to the best baseline", "at or above it in", "surely above in", "surely below in")
    return markdown((*head, *(f"to {BALANCED}, {name}" for name in datasets)), lines)


def added_table(runs: Iterable[Run]) -> str:
    r"""Returns the table of what each source's images add to each strategy."""
    lines = [
        [row.strategy, row.source, signed(row.difference), str(row.cells), str(row.seeds)]
        for row in added_by_images(runs)
    ]
    return markdown(("strategy", "with images of", "gain, points", "cells", "seeds"), lines)


def strategies_table(measured: StrategyGains) -> str:
    r"""Returns the numbers of the figure that :func:`.pictures.draw_strategies` draws."""
    strategies = dict.fromkeys(strategy for strategy, _ in measured.rows)
    lines = [
        [strategy_label(strategy), *(signed(measured.rows[strategy, source]) for source in (NOTHING, WITH_IMAGES))]
        for strategy in strategies
    ]
    return markdown(("strategy", "without synthetic images", "with our synthetic images"), lines)


def fid_and_gain(runs: Iterable[Run]) -> str:
    r"""Returns the FID and the gain of each of our models, and their rank correlation, for each training set.

    The gain is over class-balanced sampling without images, in the regimes and seeds that all models share. Training
    sets with fewer than three models are left out.
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
        fids = {model: fmean(by_place[place].run.fid for place in common) for model, by_place in models.items()}
        points = {
            model: PairedDifference.of([by_place[k].points for k in common]) for model, by_place in models.items()
        }
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
    measured = {key: alone for key, runs in cells.items() if (alone := by_row(runs).get((BALANCED, NOTHING)))}
    columns = sorted({key[:3] for key in measured})
    lines = []
    for settings in sorted({key[3] for key in measured}):
        row = [measured.get((*column, settings)) for column in columns]
        lines.append([settings, *(f"{_accuracy(alone):.2f} ({len(alone)})" if alone else "" for alone in row)])
    return markdown(("budget", *(f"{', '.join(column)} (seeds)" for column in columns)), lines)
