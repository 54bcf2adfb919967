r"""What a user would have taken: the strategy that is best on held-out training images, seed by seed."""

__all__ = ["CHOSEN", "chosen_runs", "chosen_strategies"]

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .runs import CellKey, Run
from .sources import NOTHING
from .strategies import STRATEGIES

CHOSEN = "chosen strategy"
"""The name of the rows. They hold the runs of the strategies that were chosen, and nothing is trained for them."""


Place = tuple[CellKey, int]
"""A cell with its budget, and a seed."""


def chosen_strategies(runs: Iterable[Run]) -> dict[Place, str]:
    r"""Returns the best strategy without synthetic images on the validation images of each cell, budget and seed.

    The candidates are the strategies that were measured there, two at least. With equal ones the first of
    ``STRATEGIES`` is taken.
    """
    scores: dict[Place, dict[str, float]] = {}
    for run in runs:
        if run.on == "validation" and run.source == NOTHING:
            scores.setdefault((run.cell, run.seed), {})[run.strategy] = run.balanced_accuracy
    order = list(STRATEGIES)
    return {
        place: max(sorted(own, key=order.index), key=own.__getitem__) for place, own in scores.items() if len(own) > 1
    }


def chosen_runs(runs: Iterable[Run], chosen: Mapping[Place, str]) -> list[Run]:
    r"""Returns the runs on test images of the strategies that :func:`chosen_strategies` chose, under the choice's name.

    They are with synthetic images and without; the choice is the same for both, and knows of none. Sources count that
    were measured with every seed of the cell and budget that has a choice.
    """
    found: dict[tuple[CellKey, str], list[Run]] = {}
    for run in runs:
        if run.on == "test" and chosen.get((run.cell, run.seed)) == run.strategy:
            found.setdefault((run.cell, run.source), []).append(replace(run, strategy=CHOSEN))
    seeds = Counter(cell for cell, _ in chosen)
    return [run for (cell, _), own in found.items() if len(own) == seeds[cell] for run in own]
