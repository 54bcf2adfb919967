r"""Measures the arms on the splits of a set. Features and models are stored on disk, so that a killed run resumes."""

__all__ = ["ON", "PENALTIES", "Experiment", "Run", "do_runs", "run_table"]

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gae_augment import GenerativeModel
from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation import imbalance_metrics
from gae_augment.motion.fields import displacement, invertible, move_images

from ..kept import Content, kept
from ..machine import device_name, versions
from ..records import RecordTable
from .arms import ADDED_VIEWS, STANDARD_VIEWS, Arm, make_view
from .heads import HEADS, train_head
from .motions import ClassModels, elastic_fields
from .network import FeatureNetwork
from .sets import PhotoSet, training_rows

ON = ("validation", "test")
"""What is measured on: images of the folder ``train`` that a split leaves out, or the folder ``test``."""

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""The penalties of the heads; the report chooses one of them for all arms."""

IMAGES_PER_CHUNK = 64
"""The number of images that are moved together."""


@dataclass(frozen=True)
class Run:
    r"""One head, trained in one arm and measured on one split, in percent."""

    dataset: str
    on: str
    regime: str
    arm: str
    head: str
    penalty: float
    seed: int
    balanced_accuracy: float
    scarce_recall: float
    recalls: str
    classes: str
    views: int
    device: str
    versions: str


def run_table(path: Path) -> RecordTable[Run]:
    r"""Returns the table of all runs."""
    return RecordTable(path, Run, ("dataset", "on", "regime", "arm", "head", "penalty", "seed"))


@dataclass(frozen=True)
class Experiment:
    r"""One split of a set.

    Attributes:
        photos: The photographs that training images are chosen from.
        tested: The photographs that are measured on if they are of another folder, else ``None``.
        seed: The seed of the split, the models and the views.
        network: The frozen network.
        cache: The folder of stored features and models.
        model: The model of each class.
        standard_views: The number of standard views of each training image, in all arms.
        added_views: The number of views that each arm except ``plain`` adds to each image that it augments.
    """

    photos: PhotoSet
    tested: PhotoSet | None
    seed: int
    network: FeatureNetwork
    cache: Path
    model: GenerativeModel
    standard_views: int = STANDARD_VIEWS
    added_views: int = ADDED_VIEWS

    @property
    def on(self) -> str:
        r"""What is measured on."""
        return ON[0] if self.tested is None else ON[1]

    @property
    def folder(self) -> Path:
        r"""The folder of this split's features and models."""
        return self.cache / f"{self.photos.name}-{self.on}-{self.seed}"

    @cached_property
    def rows(self) -> Tensor:
        r"""The indices of the training images."""
        return training_rows(self.photos, self.seed, validated=self.tested is None)

    @property
    def labels(self) -> Tensor:
        r"""The labels of the training images."""
        return self.photos.labels[self.rows]

    @cached_property
    def models(self) -> ClassModels:
        r"""The models of the classes."""
        return ClassModels(self.photos.images[self.rows], self.labels, self.seed, self.folder, self.model)

    def augmented(self, arm: Arm) -> Tensor:
        r"""Returns the positions, among the training images, of those that get additional views."""
        if arm.kind == "plain":
            return torch.arange(0)
        if arm.classes == "all":
            return torch.arange(len(self.rows))
        return (self.labels != self.labels.bincount().argmax()).nonzero().flatten()

    def training_views(self, arm: Arm, regime: str) -> tuple[Tensor, Tensor]:
        r"""Returns the features of all training views, and the position of each view's training image."""
        everything = torch.arange(len(self.rows))
        if regime == "centre":
            features, positions = [self.centre_features(self.photos)[self.rows]], [everything]
        else:
            views = range(self.standard_views)
            features = [self._view(Arm("plain"), regime, everything, view) for view in views]
            positions = [everything] * self.standard_views
        augmented = self.augmented(arm)
        if len(augmented):
            features += [self._view(arm, regime, augmented, view) for view in range(self.added_views)]
            positions += [augmented] * self.added_views
        return torch.cat(features), torch.cat(positions)

    def centre_features(self, photos: PhotoSet) -> Tensor:
        r"""Returns the features of the centres of photographs, which all splits share."""
        part = "tested" if photos is self.tested else "trained"

        def make() -> Content:
            crops = torch.cat([make_view(chunk, "plain", "centre") for chunk in photos.images.split(IMAGES_PER_CHUNK)])
            return {}, {"features": self.network(crops)}

        return kept(self.cache / f"{photos.name}-{part}.safetensors", make)[1]["features"]

    def tested_features(self) -> tuple[Tensor, Tensor]:
        r"""Returns the features and the labels of the images that are measured on."""
        if self.tested is not None:
            return self.centre_features(self.tested), self.tested.labels
        seen = {self.photos.groups[row] for row in self.rows.tolist()}
        unseen = torch.tensor([group not in seen for group in self.photos.groups])
        return self.centre_features(self.photos)[unseen], self.photos.labels[unseen]

    def _view(self, arm: Arm, regime: str, positions: Tensor, view: int) -> Tensor:
        r"""Returns the features of one view of some training images."""

        def make() -> Content:
            features = []
            moved = self._moved(arm, positions, view)
            with global_seed(derive_seed(self.seed, "views", regime, str(arm), view)):
                for chunk in moved.split(IMAGES_PER_CHUNK):
                    features.append(self.network(make_view(chunk, arm.kind, regime)))
            return {}, {"features": torch.cat(features)}

        return kept(self.view_path(arm, regime, view), make)[1]["features"]

    def view_path(self, arm: Arm, regime: str, view: int) -> Path:
        r"""Returns the file of the features of one view."""
        name = str(arm).translate(str.maketrans(":,", "--"))
        return self.folder / f"{regime}-{name}-{view}.safetensors"

    def _moved(self, arm: Arm, positions: Tensor, view: int) -> Tensor:
        r"""Returns training images as an arm changes them before the standard views."""
        images, labels = self.photos.images[self.rows[positions]], self.labels[positions]
        if arm.kind not in ("motion", "elastic", "residual"):
            return images
        images = images.clone()
        generator = make_generator(self.seed, "moved", str(arm), view)
        for label in labels.unique().tolist():
            own = (labels == label).nonzero().flatten()
            if arm.kind == "residual":
                # Each view shows other images of the same sample.
                drawn = self.models.residual_images(label, self.added_views * len(own), images.shape[-1])
                images[own] = drawn[view * len(own) : (view + 1) * len(own)]
                continue
            bank = self.models.bank(label if arm.bank == "own" else None, weighted=arm.weighting == "evidence")
            v = bank.draw(len(own), strength=arm.strength, generator=generator)
            if arm.kind == "elastic":
                v = invertible(elastic_fields(v, arm.strength * bank.fields.float(), generator))
            moved = [
                move_images(x.float(), displacement(fields), arm.interpolation)
                for x, fields in zip(images[own].split(IMAGES_PER_CHUNK), v.split(IMAGES_PER_CHUNK), strict=True)
            ]
            images[own] = torch.cat(moved).round().clamp(0, 255).to(torch.uint8)
        return images

    def measure(self, arm: Arm, regime: str, penalties: Sequence[float] = PENALTIES) -> list[Run]:
        r"""Trains and measures both heads in one arm."""
        features, positions = self.training_views(arm, regime)
        labels = self.labels[positions]
        # An image counts once, however many views it has: arms differ in what is shown and not in the classes' weights.
        weights = 1 / positions.bincount()[positions]
        tested, true = self.tested_features()
        runs = []
        for head in HEADS:
            for penalty in penalties:
                classifier = train_head(features, labels, weights, head=head, penalty=penalty)
                recalls = imbalance_metrics(true, classifier.predict(tested), len(self.photos.classes))["recall"]
                counts = self.labels.bincount()
                scarce = [recall for label, recall in enumerate(recalls) if label != int(counts.argmax())]
                runs.append(
                    Run(
                        self.photos.name,
                        self.on,
                        regime,
                        str(arm),
                        head,
                        penalty,
                        self.seed,
                        round(100 * sum(recalls) / len(recalls), 3),
                        round(100 * sum(scarce) / len(scarce), 3),
                        " ".join(f"{100 * recall:.2f}" for recall in recalls),
                        " ".join(f"{name}:{n}" for name, n in zip(self.photos.classes, counts.tolist(), strict=True)),
                        len(positions),
                        device_name(torch.device("cpu")),
                        versions("torch", "torchvision"),
                    )
                )
        return runs

    def missing_images(self, arms: Sequence[tuple[str, Arm]]) -> int:
        r"""Returns the number of images whose features are not stored yet."""
        missing: dict[Path, int] = {}
        for regime, arm in arms:
            views = [(arm, view, len(self.augmented(arm))) for view in range(self.added_views)]
            if regime == "standard":
                views += [(Arm("plain"), view, len(self.rows)) for view in range(self.standard_views)]
            missing |= {self.view_path(arm, regime, view): n for arm, view, n in views}
        return sum(n for path, n in missing.items() if not path.is_file())


def do_runs(experiments: Sequence[Experiment], arms: Sequence[tuple[str, Arm]], table: RecordTable[Run]) -> None:
    r"""Adds the missing runs to a table, arm by arm, after an estimate of the time."""
    done = {(run.dataset, run.on, run.regime, run.arm, run.seed) for run in table.records.values()}
    plans = [
        (experiment, regime, arm)
        for regime, arm in arms
        for experiment in experiments
        if (experiment.photos.name, experiment.on, regime, str(arm), experiment.seed) not in done
    ]
    print(f"{len(experiments) * len(arms) - len(plans)} of {len(experiments) * len(arms)} runs are in {table.path}.")
    if not plans:
        return
    images = sum(
        experiment.missing_images([(regime, arm) for other, regime, arm in plans if other is experiment])
        for experiment in experiments
    )
    batch = make_view(experiments[0].photos.images[:16], "plain", "centre")
    experiments[0].network(batch)
    start = time.perf_counter()
    experiments[0].network(batch)
    seconds = (time.perf_counter() - start) / len(batch)
    print(
        f"{images} features of {1000 * seconds:.0f} ms each: about {images * seconds / 60:.0f} minutes, and the fits."
    )
    for experiment, regime, arm in tqdm(plans, unit="arm"):
        table.add(*experiment.measure(arm, regime))
