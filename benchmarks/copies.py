r"""``python -m benchmarks.copies``: how many planted copies are found, and how many honest images are accused.

The images of each class fall into three parts: those that were trained on, those that the threshold comes from, and
those of an honest generator, which has never seen the first. Copies are planted from the first.
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
"""The most images of a part."""

PLANTED = 200
"""The copies of a kind."""

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
    r"""The part of some images of a class that was flagged; ``images`` are those of each part of the class."""

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
    r"""Returns copies of images in [0, 1], of shape :math:`(N, C, H, W)`, by what was done to them."""
    height, width = images.shape[-2:]
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    places = torch.randint(0, 5, (len(images), 2), generator=generator).tolist()
    moved = [own[:, y : y + height, x : x + width] for own, (y, x) in zip(padded, places, strict=True)]
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
    own = data.train[0][data.train[1] == label]
    own = own[torch.randperm(len(own), generator=make_generator(seed, "parts", label))]
    each = min(EACH, len(own) // 3)
    train, held_out, others = own[: 3 * each].split(each)
    honest = fit_model(others, GenerativeModel(), seed=derive_seed(seed, label))
    generator = make_generator(seed, "planted", label)
    looked_at = {
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
        for kind, images in looked_at.items()
    ]


def report(rates: Sequence[Rate]) -> str:
    r"""Returns a table: the part that was flagged, as the mean over classes and the worst of them, in percent."""
    head, lines = ("data set", "distance", EXACT, MOVED, NOISY, BRIGHTER, IMAGES, SAMPLES), []
    for dataset in [*dict.fromkeys(rate.dataset for rate in rates), "all"]:
        for distance in DISTANCES:
            cells = []
            for kind in head[2:]:
                found = [
                    100 * rate.flagged
                    for rate in rates
                    if (rate.distance, rate.kind) == (distance, kind) and dataset in ("all", rate.dataset)
                ]
                worst = max(found) if kind in (IMAGES, SAMPLES) else min(found)
                cells.append(f"{fmean(found):.1f} ({worst:.1f})")
            lines.append([dataset, distance, *cells])
    machines = dict.fromkeys(f"{rate.device}, {rate.versions}" for rate in rates)
    return "\n".join([markdown(head, lines), *(f"- {machine}" for machine in machines), ""])


def main(arguments: list[str] | None = None) -> None:
    r"""Measures every class; what stands in the results is not done again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data-root", type=Path, required=True, help="where torchvision's data sets and bccd lie")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="where decoded images are kept")
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
