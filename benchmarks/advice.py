r"""``python -m benchmarks.advice``: whether ``advise`` is right, on data sets whose gains the benchmarks have measured.

For each cell, ``advise`` sees the training images alone. Its prior leaves out the runs of the cell's data set. Its
verdict is compared with what motions gain on other images of the set (``benchmarks/results/motion/runs.csv``).
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torchvision.transforms import v2
from tqdm.auto import tqdm

from gae_augment.augmenter import motion_learner
from gae_augment.data import ImageDataset
from gae_augment.evaluation import advise
from gae_augment.evaluation.advice import prior
from gae_augment.evaluation.advice.compare import Arm
from gae_augment.evaluation.advice.verdict import PROBABILITY, TRANSFER, prior_of_ours

from .data import load_images
from .gains import differences, gains, rows_of
from .imbalance.cells import split
from .machine import device_name
from .photos.network import load_network
from .photos.sets import load_photos, training_rows
from .records import RecordTable
from .tables import markdown

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "results" / "advice"
PHOTO_RUNS = HERE / "results" / "photos" / "runs.csv"
MOTION_RUNS = HERE / "results" / "motion" / "runs.csv"

STRATEGY_OF_PHOTOS = "balanced softmax"
"""The best strategy of the benchmark of photographs."""

STRATEGIES = {
    "plain training": "plain",
    "class-balanced sampling": "class-balanced sampling",
    "square-root sampling with balanced softmax": "square-root sampling",
    "balanced softmax": "balanced softmax",
    "balanced softmax with τ = 1.5": "balanced softmax, τ = 1.5",
}
"""The names of strategies in the benchmark of motions, by those of ``advise``."""

ARMS = {"motions": "motion", "synthetic images": "motion:classes=scarce"}
"""The arms of the benchmark of motions, by what ``advise`` proposes."""

ARMS_OF_PHOTOS = {"motions": "motion:classes=all", "synthetic images": "motion"}
"""The arms of the benchmark of photographs, which have as many more standard views without motions."""

HARM = 0.2
"""A verdict that uses motions must not lose more than this number of points."""

REVISION = 2
"""Raise it when the same names give other verdicts."""


class Cell(NamedTuple):
    r"""A data set, its profile, and the user's transform."""

    dataset: str
    profile: str
    regime: str


PHOTOS = "photographs"
"""The profile of cells with a frozen pretrained network, whose classes are scarce by nature or by ``COUNTS``."""

CELLS = (
    Cell("fashion_mnist", "deepsmote", "none"),
    Cell("fashion_mnist", "deepsmote", "affine"),
    Cell("cifar10", "lt-100", "flipcrop"),
    Cell("cifar10", "lt-100", "none"),
    Cell("mnist", "deepsmote", "none"),
    Cell("mnist", "deepsmote", "affine"),
    Cell("fashion_mnist", "lt-100", "none"),
    Cell("mnist", "lt-100", "none"),
    Cell("digits", "lt-20", "none"),
    Cell("cifar10", "lt-100", "strong"),
    Cell("leaves", PHOTOS, "standard"),
    Cell("tiles", PHOTOS, "standard"),
)

CROP_AND_FLIP = (v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip())

TRANSFORMS: dict[str, Callable[[Any], Any] | bool] = {
    "none": False,
    "affine": v2.RandomAffine(12, translate=(0.1, 0.1), scale=(0.9, 1.1)),
    "flipcrop": v2.Compose(CROP_AND_FLIP),
    "strong": v2.Compose([*CROP_AND_FLIP, v2.TrivialAugmentWide()]),
}
"""The user's transforms, as in the benchmark of motions."""


@dataclass(frozen=True)
class Verdict:
    r"""What ``advise`` measured, and its verdict.

    ``strategy`` is the best remedy for imbalance without motions and synthetic images. With ``ours`` and the remedy
    ``with_strategy``, the score was better by ``measured`` points; ``error`` is the standard error.
    ``base_accuracy`` is the balanced accuracy without ours. The verdict depends on the prior and the rule of the day,
    so that the report takes it from these figures anew.
    """

    dataset: str
    profile: str
    regime: str
    seed: int
    revision: int
    strategy: str
    ours: str
    with_strategy: str
    measured: float
    error: float
    base_accuracy: float
    splits: int
    seconds: float
    device: str


def verdict_table(path: Path) -> RecordTable[Verdict]:
    r"""Returns the table of verdicts in a file."""
    return RecordTable(path, Verdict, ("dataset", "profile", "regime", "seed", "revision"))


def priors_without(dataset: str) -> dict[str, prior.Prior]:
    r"""Returns the priors from the runs of all other data sets."""
    return {
        name: prior.Prior(row["mean"], row["deviation"], int(row["sets"]))
        for name, row in gains(without=dataset).items()
    }


def posterior(verdict: Verdict) -> prior.Posterior:
    r"""Returns what is known of the gain, from the measured figures and the prior of other data sets."""
    pretrained, standard = verdict.profile == PHOTOS, verdict.regime != "none"
    base, arm = Arm(verdict.strategy, standard), Arm(verdict.with_strategy, standard, verdict.ours, strength=1.0)
    with patch.object(prior, "_table", lambda: priors_without(verdict.dataset)):
        known = prior_of_ours(arm, base, verdict.base_accuracy, pretrained=pretrained)
    return known.update(verdict.measured, verdict.error if pretrained else math.hypot(verdict.error, TRANSFER))


def question(cell: Cell, seed: int, data_root: Path, cache: Path) -> dict[str, Any]:
    r"""Returns the training images of a cell, and how they are trained on, as arguments of ``advise``."""
    if cell.profile == PHOTOS:
        photos = load_photos(cell.dataset, "train", data_root)
        rows = training_rows(photos, seed, validated=True)
        return {
            "train": ImageDataset(list(photos.images[rows]), labels=photos.labels[rows].numpy()),
            "groups": [photos.groups[row] for row in rows.tolist()],
            "backbone": load_network(),
            "strategy": STRATEGY_OF_PHOTOS,
            "standard_views": True,
        }
    real, _ = split(load_images(cell.dataset, data_root, cache), cell.profile, seed, "development")
    return {
        "train": ImageDataset(list(real[0]), labels=real[1].numpy()),
        "backbone": None,
        "standard_views": TRANSFORMS[cell.regime],
    }


def judge(cell: Cell, seed: int, minutes: float, data_root: Path, cache: Path) -> Verdict:
    r"""Asks for advice on the training images of a cell."""
    asked = question(cell, seed, data_root, cache)

    start = time.monotonic()
    with patch.object(prior, "_table", lambda: priors_without(cell.dataset)):
        advice = advise(
            **asked,
            learn_motions=motion_learner(device="cpu"),
            strengths=(1.0,),
            minutes=minutes,
            seed=seed,
            device="cpu",
        )
    best = next(row for row in advice.rows if row.name == advice.best)
    return Verdict(
        *cell,
        seed=seed,
        revision=REVISION,
        strategy=advice.over.partition(" + ")[0],
        ours=advice.ours,
        with_strategy=advice.best.partition(" + ")[0],
        measured=round(best.measured, 3),
        error=round(best.standard_error, 3),
        base_accuracy=round(next(row for row in advice.rows if row.name == best.over).balanced_accuracy, 2),
        splits=advice.splits,
        seconds=round(time.monotonic() - start, 1),
        device=device_name(torch.device("cpu")),
    )


def true_gain(
    verdict: Verdict, budget: str, *, motion_runs: Path = MOTION_RUNS, photo_runs: Path = PHOTO_RUNS
) -> list[float]:
    r"""Returns the gains of what is proposed in balanced accuracy on other images, in points, one per seed.

    Heads of a frozen network have one budget, ``"short"``, and several penalties, of which the mean is taken.
    """
    cell = _cell(verdict)
    if cell.profile == PHOTOS:
        rows = [
            row
            for row in rows_of(photo_runs)
            if (row["dataset"], row["regime"], row["on"], row["head"])
            == (cell.dataset, cell.regime, "validation", STRATEGY_OF_PHOTOS)
        ]
        by_seed = [
            differences(
                [row for row in rows if row["seed"] == seed],
                lambda row: row["arm"] == ARMS_OF_PHOTOS[verdict.ours],
                lambda row: row["arm"] == "more_views",
                ("penalty",),
            ).get(cell.dataset, [])
            for seed in sorted({row["seed"] for row in rows})
        ]
        return [fmean(values) for values in by_seed if values and budget == "short"]
    rows = [
        row
        for row in rows_of(motion_runs)
        if (row["dataset"], row["profile"], row["regime"]) == cell
        and (row["budget"], row["on"]) == (budget, "development")
    ]
    before, after = STRATEGIES[verdict.strategy], STRATEGIES[verdict.with_strategy]
    found = differences(
        rows,
        lambda row: (row["arm"], row["strategy"]) == (ARMS[verdict.ours], after),
        lambda row: (row["arm"], row["strategy"]) == ("base", before),
        ("seed", "settings"),
    )
    return found.get(cell.dataset, [])


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{fmean(values):+.2f}{error} ({len(values)})"


def report(output: Path, verdicts: Sequence[Verdict]) -> str:
    r"""Writes the report, and returns its text."""
    lines, followed, harms, missed, transfers = [], [], [], [], []
    for verdict in sorted(verdicts, key=lambda verdict: CELLS.index(_cell(verdict))):
        cell, gain = _cell(verdict), posterior(verdict)
        use = gain.probability >= PROBABILITY
        truth = {budget: true_gain(verdict, budget) for budget in ("short", "long")}
        name = f"{cell.dataset}, {cell.profile}, {cell.regime}, seed {verdict.seed}"
        for budget, values in truth.items():
            if not values:
                continue
            true = fmean(values)
            followed.append(true if use else 0.0)
            transfers.append(verdict.measured - true)
            if use and true < -HARM:
                harms.append(f"{name}, {budget}: {true:+.2f}")
            if not use and true > HARM:
                missed.append(f"{name}, {budget}: {true:+.2f}")
        lines.append(
            [
                f"{cell.dataset}, {cell.profile}",
                cell.regime,
                str(verdict.seed),
                verdict.strategy,
                f"{verdict.base_accuracy:.1f}",
                f"{verdict.measured:+.2f} ± {verdict.error:.2f}",
                f"{gain.mean:+.2f} ({gain.low:+.1f} to {gain.high:+.1f})",
                f"{gain.probability:.2f}",
                f"{'use' if use else 'do not use'} {_proposal(verdict)}",
                _shown(truth["short"]),
                _shown(truth["long"]),
                f"{verdict.seconds:.0f}",
            ]
        )
    head = (
        "data set", "transform", "seed", "best strategy", "without, %", "measured", "posterior", "P(gain > 0)",
        "verdict", "gain, short training", "gain, long training", "seconds",
    )  # fmt: skip
    remarks = output / "REMARKS.md"
    text = "\n\n".join(
        [
            "# Is `advise` right?",
            *([remarks.read_text(encoding="utf-8").strip()] if remarks.is_file() else []),
            "    python -m benchmarks.advice --data-root data --minutes 4\n    python -m benchmarks.advice report",
            "`advise` sees the training images alone, and trains small networks from scratch with the user's "
            "transform. It chooses the best of five strategies against imbalance, and compares motions and images on "
            "top of it, and motions with class-balanced and square-root sampling. Its prior leaves out the runs of the "
            "cell's data set. The last columns are what its proposal gains over the best strategy on other images of "
            "the set, in points of balanced accuracy, ± the standard error, over the seeds of the benchmark of "
            "motions. Leaves and tiles have a frozen pretrained network, balanced softmax and standard views. Their "
            "gain is that over as many more standard views.",
            markdown(head, lines),
            f"Who follows the verdicts gains {fmean(followed):+.2f} points on average over {len(followed)} measured "
            f"cells and budgets, and loses more than {HARM} points in {len(harms)}"
            f"{': ' + '; '.join(harms) if harms else ''}. Verdicts against a gain of more than {HARM} points: "
            f"{len(missed)}{': ' + '; '.join(missed) if missed else ''}. What `advise` measured differs from the gain "
            f"by a median of {median(map(abs, transfers)):.1f} points.",
            "Processors: " + "; ".join(sorted({verdict.device for verdict in verdicts})),
        ]
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "REPORT.md").write_text(text + "\n", encoding="utf-8")
    return text


def _proposal(verdict: Verdict) -> str:
    changed = "" if verdict.strategy == verdict.with_strategy else f" with {verdict.with_strategy}"
    return f"{verdict.ours}{changed}"


def _cell(verdict: Verdict) -> Cell:
    return Cell(verdict.dataset, verdict.profile, verdict.regime)


def main(arguments: list[str] | None = None) -> None:
    r"""Asks for the verdicts that are missing in the table, and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each verdict")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("GAE_DATA_ROOT", "data")))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--cache", type=Path, default=HERE / "cache" / "motion")
    options = parser.parse_args(arguments)
    table = verdict_table(options.output / "verdicts.csv")
    if options.action == "run":
        keys = [(cell, seed) for seed in range(options.seeds) for cell in CELLS]
        missing = [(c, s) for c, s in keys if (*c, str(s), str(REVISION)) not in table.records]
        print(f"{len(missing)} verdicts are missing, about {len(missing) * options.minutes:.0f} minutes.", flush=True)
        for cell, seed in tqdm(missing, unit="verdict"):
            table.add(judge(cell, seed, options.minutes, options.data_root, options.cache))
    print(report(options.output, list(table.records.values())))


if __name__ == "__main__":
    main()
