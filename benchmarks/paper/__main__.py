r"""``python -m benchmarks.paper {cosine|fid|time|figures|delta}``: the paper's experiments, reproduced.

``delta`` goes beyond the paper: FID and a classifier's gain against the boundary of the error.
"""

import argparse
import os
from pathlib import Path

from gae_augment._utils.files import read_file
from gae_augment.fitting import FittedModel

from ..data import load_images
from . import boundary
from .cosine import do_trials
from .figures import draw_reconstructions, draw_samples, file_name
from .report import write_report
from .rows import DATASETS, ROWS, settings_for
from .runs import Plan, do_runs, run_table
from .tables import fid_table, time_table

HERE = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> None:
    r"""Runs an experiment."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("experiment", choices=["cosine", "fid", "time", "figures", "delta"])
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["mnist", "fashion_mnist"])
    parser.add_argument("--models", nargs="+", default=list(ROWS), help="rows, such as vae or beta_vae:beta=2")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--train-size", type=int, default=None, help="number of training images (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--validation", action="store_true", help="hold out 10 000 training images and measure on them")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one thread")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "paper")
    parser.add_argument("--cache", type=Path, default=HERE / "cache" / "paper", help="fitted models, unpacked archives")
    options = parser.parse_args(arguments)
    for row in options.models:
        try:
            settings_for(row, 1, 1)
        except ValueError as error:
            parser.error(str(error))
    if options.experiment == "cosine":
        do_trials(options.output)
        write_report(options.output)
        return
    if options.experiment == "delta":
        for dataset in options.datasets:
            data = load_images(dataset, options.data_root, options.cache)
            points = boundary.measure(data, options.seeds, options.output / "delta.csv")
        boundary.draw_figure(points, options.output / "delta.png")
        write_report(options.output)
        return
    plans = [
        Plan(
            dataset,
            model,
            seed,
            options.epochs,
            options.train_size,
            "validation" if options.validation else "test",
            options.data_root,
            options.cache,
            options.jobs,
        )
        for dataset in options.datasets
        for seed in options.seeds
        for model in options.models
    ]
    runs = do_runs(plans, run_table(options.output / "runs.csv"), jobs=options.jobs)
    table = time_table if options.experiment == "time" else fid_table
    for dataset in options.datasets:
        own = [(plan, run) for plan, run in zip(plans, runs, strict=True) if plan.dataset == dataset]
        print(table(dataset, [run for _, run in own]))
        if options.experiment == "figures":
            _draw(options, dataset, {plan.model: plan.fit_path(run.train_images) for plan, run in reversed(own)})
    write_report(options.output)


def _draw(options: argparse.Namespace, dataset: str, paths: dict[str, Path]) -> None:
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise SystemExit(
            f"The fitted models {', '.join(missing)} are missing in '--cache', but the figures need them. Run 'fid' "
            f"with another '--output' to fit them again."
        )
    models = {}
    for row, path in paths.items():
        header, tensors = read_file(path)
        definition = settings_for(row, 1, 1).resolved_definition
        models[row] = FittedModel.from_state_dict(header, tensors, {definition.name: definition})
        draw_samples(models[row], options.output / dataset / f"samples-{file_name(row)}.png")
    test = load_images(dataset, options.data_root, options.cache).test[0]
    draw_reconstructions(models, test, options.output / dataset / "reconstructions.png")


if __name__ == "__main__":
    main()
