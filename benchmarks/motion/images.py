r"""The images themselves: fidelity, memorisation and membership of moved, residual and decoded images."""

__all__ = ["ImagesRow", "images_of", "images_rows", "images_table", "measure_images"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import single_threaded_libraries
from gae_augment.evaluation import fidelity, membership, memorisation
from gae_augment.evaluation.images import Labelled, to_unit

from ..data import load_images
from ..features import classifier_features
from ..imbalance.cells import split
from ..machine import device_name
from ..records import RecordTable
from ..tables import markdown
from .runs import REVISION, Plan, motions_of, synthetic_images
from .training import Mover

PER_CLASS = 500
"""The maximum number of images of each class that are compared."""

COMPARED = 1000
"""The maximum number of images in a search for nearest images."""

FEATURES_LEARNED_FROM = 128_000
"""The number of images in the training of the classifier for FID features, repetitions included."""


@dataclass(frozen=True)
class ImagesRow:
    r"""The images of one arm: all classes but the largest.

    ``fid`` is by the features of a classifier of all training images. ``memorised`` is the fraction of images that are
    suspiciously close to a training image, 0.01 by chance. ``advantage`` is that of an attack that tells training
    images from others, 0 by chance.
    """

    dataset: str
    profile: str
    on: str
    arm: str
    seed: int
    revision: int
    fid: float
    memorised: float
    advantage: float
    device: str


def images_rows(path: Path) -> RecordTable[ImagesRow]:
    r"""Returns the table of measured images in a file."""
    return RecordTable(path, ImagesRow, ("dataset", "profile", "on", "arm", "seed", "revision"))


def images_of(plan: Plan, real: Labelled) -> Labelled:
    r"""Returns the images of an arm for all classes but the largest; the base's are the real images themselves."""
    images, labels = real
    if plan.arm.synthesises:
        return synthetic_images(plan, real)[0]
    scarce = (labels != labels.bincount().argmax()).nonzero().flatten()
    generator = make_generator(plan.seed, "moved images")
    weights = 1 / labels.bincount()[labels[scarce]].double()
    n = PER_CLASS * len(labels[scarce].unique())
    rows = scarce[weights.multinomial(n, replacement=True, generator=generator)]
    images, labels = images[rows], labels[rows]
    if plan.arm.moves:
        mover = Mover(motions_of(plan, real)[0][-1], torch.ones(int(real[1].max()) + 1))
        images = (255 * mover.move(to_unit(images), labels, generator)).round().byte()
    return images, labels


def _some(images: Tensor, generator: torch.Generator) -> Tensor:
    return images[torch.randperm(len(images), generator=generator)[:COMPARED]]


def measure(plan: Plan) -> ImagesRow:
    r"""Makes the images of an arm and measures them."""
    with single_threaded_libraries():
        data = load_images(plan.place.dataset, plan.data_root, plan.cache)
        real, held_out = split(data, plan.place.profile, plan.seed, plan.place.on)
        images, labels = images_of(plan, real)
        epochs = max(3, FEATURES_LEARNED_FROM // len(data.train[0]))
        features = classifier_features(data.name, data.train, plan.cache, epochs=epochs)
        pairs = []
        for label in labels.unique().tolist():
            others, new = held_out[0][held_out[1] == label], images[labels == label]
            n = min(len(others), len(new), PER_CLASS)
            pairs.append((others[:n], new[:n]))
        others, new = (torch.cat(column) for column in zip(*pairs, strict=True))
        generator = make_generator(plan.seed, "memorisation")
        members = real[0][real[1] != real[1].bincount().argmax()]
        some_others, some_new = _some(others, generator), _some(new, generator)
        attack = membership(_some(members, generator), some_others, new)
        return ImagesRow(
            *plan.place,
            arm=str(plan.arm),
            seed=plan.seed,
            revision=REVISION,
            fid=round(fidelity(others, new, extractor=features)[f"FID ({features.name})"], 4),
            memorised=round(memorisation(members, some_others, some_new).fraction, 4),
            advantage=round(attack.advantage, 4),
            device=device_name(torch.device("cpu")),
        )


def measure_images(plans: Sequence[Plan], table: RecordTable[ImagesRow]) -> None:
    r"""Measures the images of the arms that are missing in the table."""
    for plan in tqdm(plans, unit="arm"):
        key = (*plan.place, str(plan.arm), str(plan.seed), str(REVISION))
        if key not in table.records:
            table.add(measure(plan))


def images_table(rows: Sequence[ImagesRow]) -> str:
    r"""Returns the table, with means over seeds."""
    groups: dict[tuple[str, str, str], list[ImagesRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.profile, row.arm), []).append(row)
    lines = [
        [
            f"{dataset}, {profile}: `{arm}`",
            f"{fmean(row.fid for row in group):.2f}",
            f"{fmean(row.memorised for row in group):.1%}",
            f"{fmean(row.advantage for row in group):.0%}",
            str(len(group)),
        ]
        for (dataset, profile, arm), group in sorted(groups.items())
    ]
    head = ("images", "FID (classifier features)", "memorised, 1 % by chance", "membership advantage", "seeds")
    return markdown(head, lines)
