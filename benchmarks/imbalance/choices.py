r"""The strategy that a user would choose: the best one on held-out training images, seed by seed."""

__all__ = ["CHOSEN", "chosen_runs", "chosen_strategies"]

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .runs import CellKey, Run
from .sources import NOTHING
from .strategies import STRATEGIES

CHOSEN = "chosen strategy"
"""The name of the rows, which hold the runs of the chosen strategies; nothing is trained for them."""


Place = tuple[CellKey, int]
"""A cell with its budget, and a seed."""


def chosen_strategies(runs: Iterable[Run]) -> dict[Place, str]:
    r"""Returns the best strategy without synthetic images on the validation images of each cell, budget and seed.

    The candidates are the strategies that were measured there, at least two. If they are equal, the first one of
    ``STRATEGIES`` is chosen.
    """
    scores: dict[Place, dict[str, float]] = {}
    for run in runs:
        if run.on == "validation" and run.source == NOTHING:
            scores.setdefault((run.cell, run.seed), {})[run.strategy] = run.balanced_accuracy
    order = list(STRATEGIES)
    return {
        place: max(sorted(accuracies, key=order.index), key=accuracies.__getitem__)
        for place, accuracies in scores.items()
        if len(accuracies) > 1
    }


def chosen_runs(runs: Iterable[Run], chosen: Mapping[Place, str]) -> list[Run]:
    r"""Returns the runs on test images of the strategies that :func:`chosen_strategies` chose, under the choice's name.

    The same choice, made without synthetic images, applies to runs with and without them. A source counts if it was
    measured with every seed of the cell and budget that has a choice.
    """
    by_source: dict[tuple[CellKey, str], list[Run]] = {}
    for run in runs:
        if run.on == "test" and chosen.get((run.cell, run.seed)) == run.strategy:
            by_source.setdefault((run.cell, run.source), []).append(replace(run, strategy=CHOSEN))
    seeds = Counter(cell for cell, _ in chosen)
    return [run for (cell, _), selected in by_source.items() if len(selected) == seeds[cell] for run in selected]
