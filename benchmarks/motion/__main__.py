r"""``python -m benchmarks.motion``: what a classifier gains if learned motions move its real training images."""

import argparse
import os
from pathlib import Path

from ..imbalance.cells import BUDGETS as DATASETS
from ..imbalance.cells import MEASURED_ON, PROFILES
from .arms import parse_arm
from .images import images_rows, measure_images
from .programme import STAGES, Stage, plans_of
from .report import report
from .runs import BUDGETS, do_runs, run_table
from .training import BALANCED, REGIMES, STRATEGIES

HERE = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> None:
    r"""Does the missing runs of the programme, or of the arms and sets that are named, and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.motion", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("run", "images", "report"), default="run")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="parts of the programme")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--on", choices=MEASURED_ON, default="development", help="the images that are measured on")
    named = parser.add_argument_group("arms in place of the programme")
    named.add_argument("--arms", nargs="+", help="base, residual, motion:classes=scarce,strength=0.5, ...")
    named.add_argument("--datasets", nargs="+", choices=DATASETS, default=["fashion_mnist"])
    named.add_argument("--profiles", nargs="+", choices=PROFILES, default=["deepsmote"])
    named.add_argument("--regimes", nargs="+", choices=REGIMES, default=["none"])
    named.add_argument("--budgets", nargs="+", choices=BUDGETS, default=["short"])
    named.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=[BALANCED])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one thread")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "motion")
    parser.add_argument("--cache", type=Path, default=HERE / "cache" / "motion", help="motions and synthetic images")
    options = parser.parse_args(arguments)
    runs, images = run_table(options.output / "runs.csv"), images_rows(options.output / "images.csv")
    if options.action != "report":
        stages = [STAGES[name] for name in options.stages]
        try:
            if options.arms:
                arms = [str(parse_arm(arm)) for arm in options.arms]
                places = [(dataset, profile) for dataset in options.datasets for profile in options.profiles]
                stages = [
                    Stage(regime, budget, arms, places, options.strategies)
                    for regime in options.regimes
                    for budget in options.budgets
                ]
            places_of = {"on": options.on, "data_root": options.data_root, "cache": options.cache}
            plans = plans_of(stages, seeds=options.seeds, **places_of)
        except (TypeError, ValueError) as error:
            parser.error(str(error))
        options.cache.mkdir(parents=True, exist_ok=True)
        if options.action == "images":
            # Images do not depend on the training.
            arms_of = {(plan.place, plan.arm, plan.seed): plan for plan in plans}
            measure_images(list(arms_of.values()), images)
        else:
            do_runs(plans, runs, jobs=options.jobs)
    report(options.output, runs, images)


if __name__ == "__main__":
    main()
