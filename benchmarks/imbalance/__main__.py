r"""``python -m benchmarks.imbalance``: what a classifier gains by synthetic images, beside every other remedy."""

import argparse
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

from .cells import BUDGETS, MEASURED_ON, PROFILES, REGIMES, Cell
from .report import write_report
from .runs import Plan, do_runs, run_table
from .sources import NOTHING, SOURCES, parse_source
from .strategies import STRATEGIES
from .tables import summary

HERE = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> None:
    r"""Trains and measures every strategy with images of every source, in every cell, with every seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imbalance", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=BUDGETS, default=["mnist", "fashion_mnist"])
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=["deepsmote", "lt-100"])
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=["plain", "affine"])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument(
        "--sources",
        nargs="+",
        default=[NOTHING, "gae"],
        help=f"{', '.join(SOURCES)}; with arguments, as in gae:synthetic_fraction=0.3",
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument(
        "--on",
        choices=MEASURED_ON,
        default="test",
        help="what is measured on: for choices a tenth of each class before the profile, or a fifth after it",
    )
    budget = parser.add_argument_group("budget", "in place of the tuned ones")
    budget.add_argument("--steps", type=int)
    budget.add_argument("--learning-rate", type=float)
    budget.add_argument("--weight-decay", type=float)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one thread")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "imbalance")
    parser.add_argument("--cache", type=Path, default=HERE / "cache" / "imbalance", help="synthetic images")
    options = parser.parse_args(arguments)
    for source in options.sources:
        try:
            parse_source(source)
        except ValueError as error:
            parser.error(str(error))
    places = product(options.datasets, options.profiles, options.regimes)
    try:
        cells = [Cell(*place) for place in places]
    except ValueError as error:
        parser.error(str(error))
    changed = {
        name: getattr(options, name)
        for name in ("steps", "learning_rate", "weight_decay")
        if getattr(options, name) is not None
    }
    plans = [
        Plan(
            cell,
            strategy,
            source,
            seed,
            options.on,
            replace(BUDGETS[cell.dataset], **changed),
            options.data_root,
            options.cache,
        )
        for cell in cells
        for seed in range(options.seeds)
        for source in options.sources
        for strategy in options.strategies
    ]
    runs = do_runs(plans, run_table(options.output / "runs.csv"), jobs=options.jobs)
    for cell in cells:
        print(f"\n{cell.dataset}, {cell.profile}, {cell.regime}")
        print(summary([run for run, plan in zip(runs, plans, strict=True) if plan.cell == cell]))
    write_report(options.output)


if __name__ == "__main__":
    main()
