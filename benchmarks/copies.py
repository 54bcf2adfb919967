r"""``python -m benchmarks.copies``: detected copies of training images, and false alarms.

The images of each class are divided into three groups: training images, held-out images for the threshold, and images
for an honest model, which has never seen the training images. Planted copies are made of training images.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment.evaluation import memorisation
from gae_augment.evaluation.memorisation import Distance
from gae_augment.fitting import fit_model
from gae_augment.models import GenerativeModel
from gae_augment.synthesis import sample

from .data import load_images
from .machine import device_name, versions
from .records import RecordTable
from .tables import markdown, write_report

RESULTS = Path(__file__).resolve().parent / "results" / "copies"

DATASETS = ("mnist", "fashion_mnist", "cifar10", "bccd")

EACH = 500
"""The maximum number of images in a group."""

PLANTED = 200
"""The number of copies of each kind."""

EXACT, MOVED, NOISY, BRIGHTER = (
    "exact copies",
    "moved by up to 2 pixels",
    "noise of up to 5 %",
    "brightness and contrast",
)
IMAGES, SAMPLES = "honest: real images", "honest: samples of a generator"

DISTANCES: tuple[Distance, ...] = get_args(Distance)


@dataclass(frozen=True)
class Rate:
    r"""The fraction of a class's images that was flagged; ``images`` is the number of images in a group."""

    dataset: str
    label: str
    distance: str
    kind: str
    seed: int
    images: int
    flagged: float
    device: str
    versions: str


def copies(images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    r"""Returns copies of images in [0, 1], with shape :math:`(N, C, H, W)`, by kind of change."""
    height, width = images.shape[-2:]
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    offsets = torch.randint(0, 5, (len(images), 2), generator=generator).tolist()
    moved = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)]
    strength, contrast, brightness = torch.rand(3, len(images), 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return {
        EXACT: images,
        MOVED: torch.stack(moved),
        NOISY: (images + 0.05 * strength * noise).clamp(0, 1),
        BRIGHTER: ((0.8 + 0.4 * contrast) * images + 0.2 * brightness - 0.1).clamp(0, 1),
    }


def measure(dataset: str, label: int, seed: int, data_root: Path, cache: Path) -> list[Rate]:
    r"""Returns the rates of a class."""
    data = load_images(dataset, data_root, cache)
    class_images = data.train[0][data.train[1] == label]
    order = torch.randperm(len(class_images), generator=make_generator(seed, "parts", label))
    each = min(EACH, len(class_images) // 3)
    train, held_out, others = class_images[order[: 3 * each]].split(each)
    honest = fit_model(others, GenerativeModel(), seed=derive_seed(seed, label))
    generator = make_generator(seed, "planted", label)
    tested = {
        **copies(train[torch.randint(each, (PLANTED,), generator=generator)].float() / 255, generator),
        IMAGES: others,
        SAMPLES: sample(honest, EACH, seed=seed),
    }
    machine = device_name(torch.device("cpu")), versions("torch", "scikit-learn")
    return [
        Rate(
            dataset,
            data.classes[label],
            distance,
            kind,
            seed,
            each,
            round(memorisation(train, held_out, images, distance=distance).fraction, 4),
            *machine,
        )
        for distance in DISTANCES
        for kind, images in tested.items()
    ]


def report(rates: Sequence[Rate]) -> str:
    r"""Returns a table: the flagged fraction, as the mean over classes and the worst class, in percent."""
    head, lines = ("data set", "distance", EXACT, MOVED, NOISY, BRIGHTER, IMAGES, SAMPLES), []
    for dataset in [*dict.fromkeys(rate.dataset for rate in rates), "all"]:
        for distance in DISTANCES:
            cells = []
            for kind in head[2:]:
                flagged = [
                    100 * rate.flagged
                    for rate in rates
                    if (rate.distance, rate.kind) == (distance, kind) and dataset in ("all", rate.dataset)
                ]
                worst = max(flagged) if kind in (IMAGES, SAMPLES) else min(flagged)
                cells.append(f"{fmean(flagged):.1f} ({worst:.1f})")
            lines.append([dataset, distance, *cells])
    machines = dict.fromkeys(f"{rate.device}, {rate.versions}" for rate in rates)
    return "\n".join([markdown(head, lines), *(f"- {machine}" for machine in machines), ""])


def main(arguments: list[str] | None = None) -> None:
    r"""Measures every class; classes that are in the results are not repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of torchvision's data sets and bccd")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="the folder of decoded images")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    table = RecordTable(options.output / "rates.csv", Rate, ("dataset", "label", "distance", "kind", "seed"))
    done = {(rate.dataset, rate.label, rate.seed) for rate in table.records.values()}
    plans = [
        (dataset, label, seed)
        for dataset in options.datasets
        for label, name in enumerate(load_images(dataset, options.data_root, options.cache).classes)
        for seed in range(options.seeds)
        if (dataset, name, seed) not in done
    ]
    for dataset, label, seed in tqdm(plans, unit="class"):
        table.add(*measure(dataset, label, seed, options.data_root, options.cache))
    table_text = report(list(table.records.values()))
    write_report(options.output, "Copies that are found", table_text)
    print(table_text)


if __name__ == "__main__":
    main()
