r"""``python -m benchmarks.membership``: attacks that tell training images from others, by model and class size."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from tqdm.auto import tqdm

from gae_augment import MODELS
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment.evaluation import membership
from gae_augment.fitting import fit_model
from gae_augment.models import GenerativeModel
from gae_augment.synthesis import sample

from .data import load_images
from .machine import device_name, versions
from .records import RecordTable
from .tables import markdown, write_report

RESULTS = Path(__file__).resolve().parent / "results" / "membership"

DATASETS = ("mnist", "fashion_mnist")

SIZES = (10, 30, 100, 300, 1000)

OTHERS = 1000
"""The number of images that are not training images."""

SYNTHETIC = 1000
"""The number of synthetic images that the attacker sees."""

CLASSES = 10


@dataclass(frozen=True)
class Attack:
    r"""The result of an attack on one fitted model; the class is the seed modulo 10.

    ``anchored`` is ``"yes"`` for residual images and ``"no"`` for decoded ones.
    """

    dataset: str
    model: str
    anchored: str
    images: int
    seed: int
    advantage: float
    area: float
    distance_ratio: float
    device: str
    versions: str


def measure(dataset: str, model: str, anchored: str, images: int, seed: int, data_root: Path, cache: Path) -> Attack:
    r"""Fits a model, and attacks it."""
    data = load_images(dataset, data_root, cache)
    class_images = data.train[0][data.train[1] == seed % CLASSES]
    class_images = class_images[torch.randperm(len(class_images), generator=make_generator(seed, "parts"))]
    members, others = class_images[:images], class_images[images : images + OTHERS]
    generative_model = GenerativeModel(model, synthesis="residual" if anchored == "yes" else "decoded")
    synthetic = sample(fit_model(members, generative_model, seed=derive_seed(seed, model)), SYNTHETIC, seed=seed)
    attack = membership(members, others, synthetic)
    return Attack(
        dataset,
        model,
        anchored,
        images,
        seed,
        advantage=round(attack.advantage, 4),
        area=round(attack.area, 4),
        distance_ratio=round(attack.distance_ratio, 4),
        device=device_name(torch.device("cpu")),
        versions=versions("torch", "scikit-learn"),
    )


def _table(attacks: Sequence[Attack], figure: Callable[[Attack], float], digits: int) -> str:
    r"""Returns the mean of a figure over data sets and seeds, and its standard error, by model and class size."""
    lines = []
    for model in MODELS:
        for anchored in ("yes", "no"):
            cells = []
            for images in SIZES:
                key = (model, anchored, images)
                values = [figure(run) for run in attacks if (run.model, run.anchored, run.images) == key]
                error = f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
                cells.append(f"{fmean(values):.{digits}f}{error}" if values else "")
            if any(cells):
                lines.append([f"`{model}`", anchored, *cells])
    return markdown(("model", "anchored", *(f"{images} images" for images in SIZES)), lines)


def report(attacks: Sequence[Attack]) -> str:
    r"""Returns the tables: the attack's advantage in percent, and the ratio of distances."""
    machines = dict.fromkeys(f"{run.device}, {run.versions}" for run in attacks)
    return "\n".join(
        [
            "## Advantage, in percent\n",
            _table(attacks, lambda run: 100 * run.advantage, 0),
            "## Distance to the nearest synthetic image: members, as a part of others\n",
            _table(attacks, lambda run: run.distance_ratio, 2),
            *(f"- {machine}" for machine in machines),
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    r"""Attacks every model; attacks that are in the results are not repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.membership", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=list(SIZES))
    parser.add_argument("--anchored", nargs="+", choices=("yes", "no"), default=["no", "yes"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of torchvision's data sets")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="the folder of decoded images")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    table = RecordTable(options.output / "attacks.csv", Attack, ("dataset", "model", "anchored", "images", "seed"))
    plans = [
        (dataset, model, anchored, images, seed)
        for dataset in options.datasets
        for seed in range(options.seeds)
        for anchored in options.anchored
        for images in options.sizes
        for model in options.models
        if (dataset, model, anchored, str(images), str(seed)) not in table.records
    ]
    for dataset, model, anchored, images, seed in tqdm(plans, unit="attack"):
        table.add(measure(dataset, model, anchored, images, seed, options.data_root, options.cache))
    table_text = report(list(table.records.values()))
    write_report(options.output, "Who was trained on", table_text)
    print(table_text)


if __name__ == "__main__":
    main()
