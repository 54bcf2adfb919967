r"""Runs: a classifier is trained on one cell and measured. Each run is done once, and kept in a table."""

__all__ = ["CellKey", "Plan", "Run", "do_runs", "run_table"]

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm.auto import tqdm

from gae_augment._utils.devices import resolve_device
from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import single_threaded_libraries
from gae_augment.demo import LabelledSet
from gae_augment.evaluation import choose_synthetic_fraction, fidelity, imbalance_metrics, memorisation
from gae_augment.evaluation.fraction import Predict
from gae_augment.evaluation.images import Labelled

from ..data import load_images
from ..features import classifier_features
from ..kept import Content, kept
from ..machine import device_name, versions
from ..records import RecordTable
from .cells import Budget, Cell, split, thirds
from .networks import build_classifier
from .sources import AUTO, NOTHING, Source, parse_source
from .strategies import STRATEGIES
from .training import logits_of, train

LEAST_FOR_FID = 50
"""The minimum number of images for FID."""

COMPARED = 1000
"""The maximum number of synthetic images, and of held-out images, for memorisation."""

SPLITS = 3
"""The number of splits for the choice of a synthetic fraction."""

FEATURES_LEARNED_FROM = 128_000
"""The number of images in the training of the classifier for FID features, repetitions included."""


CellKey = tuple[str, str, str, str]
"""A data set, a profile, a regime and a budget in words."""


@dataclass(frozen=True)
class Run:
    r"""One line of the table: a run and its figures.

    Scores are in percent; those of the head, the middle and the tail are the mean recall of the third of the classes
    with the most images, and so on; ``recall`` has all classes, the first first. ``fid`` is that of the synthetic
    images of all classes that have any, by the features of a classifier trained on the whole training set, and
    ``memorised`` the part of them that lie suspiciously close to a training image, 0.01 by chance.
    ``synthetic_fraction`` is the one that was used, chosen or not.
    """

    dataset: str
    profile: str
    regime: str
    strategy: str
    source: str
    seed: int
    on: str
    settings: str
    balanced_accuracy: float
    accuracy: float
    macro_f1: float
    head: float
    middle: float
    tail: float
    recall: str
    counts: str
    synthetic_images: int
    synthetic_fraction: float
    fid: float
    memorised: float
    source_seconds: float
    training_seconds: float
    device: str
    versions: str

    @property
    def cell(self) -> CellKey:
        r"""The cell and the budget, within which runs are compared."""
        return self.dataset, self.profile, self.regime, self.settings


KEY = ("dataset", "profile", "regime", "strategy", "source", "seed", "on", "settings")

REVISION = 2
"""Raise it when the same names give other images or classifiers, so that all runs are repeated."""


def run_table(path: Path) -> RecordTable[Run]:
    r"""Returns the table of runs in a file."""
    return RecordTable(path, Run, KEY)


@dataclass(frozen=True)
class Plan:
    r"""A run to do.

    Attributes:
        on: The images to measure on, one of ``MEASURED_ON``.
        budget: The training budget.
    """

    cell: Cell
    strategy: str
    source: str
    seed: int
    on: str
    budget: Budget
    data_root: Path
    cache: Path

    @property
    def settings(self) -> str:
        r"""The budget in words, by which runs with other budgets are told apart."""
        budget = self.budget
        return (
            f"{budget.steps} steps of {budget.batch_size} images, learning rate {budget.learning_rate:g}, "
            f"weight decay {budget.weight_decay:g}, "
            f"{'' if budget.precision == '32-true' else f'{budget.precision}, '}revision {REVISION}"
        )

    @property
    def key(self) -> tuple[str, ...]:
        r"""The key of the run in the table."""
        cell = self.cell
        named = (cell.dataset, cell.profile, cell.regime, self.strategy, self.source, self.seed, self.on, self.settings)
        return tuple(map(str, named))


@dataclass(frozen=True)
class Made:
    r"""The synthetic images of a source for one training set, in a file that all strategies and regimes share."""

    pair: Labelled
    seconds: float
    fid: float
    memorised: float


def _none_of(pair: Labelled) -> Labelled:
    return pair[0][:0], pair[1][:0]


def _fid(data: LabelledSet, held_out: Labelled, made: Labelled, cache: Path) -> float:
    images, labels = held_out
    real, synthetic = [], []
    for label in made[1].unique().tolist():
        own, new = images[labels == label], made[0][made[1] == label]
        n = min(len(own), len(new))
        real.append(own[:n])
        synthetic.append(new[:n])
    if sum(map(len, real)) < LEAST_FOR_FID:
        return float("nan")
    epochs = max(3, FEATURES_LEARNED_FROM // len(data.train[0]))
    features = classifier_features(data.name, data.train, cache, epochs=epochs)
    return fidelity(torch.cat(real), torch.cat(synthetic), extractor=features)[f"FID ({features.name})"]


def _memorised(real: Labelled, held_out: Labelled, made: Labelled, seed: int) -> float:
    filled = made[1].unique()
    train, other, new = (images[torch.isin(labels, filled)] for images, labels in (real, held_out, made))
    if not len(new):
        return float("nan")
    generator = make_generator(seed, "memorisation")
    other, new = (images[torch.randperm(len(images), generator=generator)[:COMPARED]] for images in (other, new))
    return memorisation(train, other, new).fraction


def _images_file(plan: Plan, source: Source, split: str = "") -> Path:
    r"""Returns the file of a source's images, which depend neither on the mixing nor on the regime."""
    name, _, arguments = plan.source.partition(":")
    making = ",".join(part for part in arguments.split(",") if part.split("=")[0] not in source.mixing)
    parts = (plan.cell.dataset, plan.cell.profile, name, making, plan.seed, f"{plan.on}{split}", REVISION)
    return plan.cache / "synthetic" / f"{'-'.join(map(str, parts))}.safetensors"


def _make(plan: Plan, source: Source, data: LabelledSet, real: Labelled, held_out: Labelled) -> Made:
    r"""Returns the images of a source, from their file if it exists."""
    empty = Made(_none_of(real), 0.0, float("nan"), float("nan"))
    if source.name == NOTHING:
        return empty

    def make() -> Content:
        start = time.perf_counter()
        images, labels = source.images(real, plan.seed)
        header = {"seconds": time.perf_counter() - start, "fid": _fid(data, held_out, (images, labels), plan.cache)}
        header["memorised"] = _memorised(real, held_out, (images, labels), plan.seed)
        return header, {"images": images, "labels": labels}

    header, tensors = kept(_images_file(plan, source), make)
    return Made((tensors["images"], tensors["labels"]), header["seconds"], header["fid"], header["memorised"])


def _predict(network: nn.Module, images: Tensor) -> Tensor:
    return logits_of(network, images).argmax(dim=1)


def _train(plan: Plan, real: Labelled, synthetic: Labelled, seed: int, classes: int, **mixing: Any) -> nn.Module:
    return train(
        real,
        synthetic,
        classes=classes,
        strategy=STRATEGIES[plan.strategy],
        regime=plan.cell.regime,
        budget=plan.budget,
        seed=seed,
        **mixing,
    )


def _without_images(plan: Plan, real: Labelled, classes: int) -> tuple[nn.Module, float]:
    r"""Returns the classifier of real images alone, and its training seconds, from its file if it exists.

    It is a row of the table, and the teacher of every source with soft labels.
    """
    key = replace(plan, source=NOTHING).key
    path = plan.cache / "classifiers" / f"{'-'.join(key).replace(' ', '_')}.safetensors"

    def make() -> Content:
        start = time.perf_counter()
        network = _train(plan, real, _none_of(real), plan.seed, classes, synthetic_fraction=0.0)
        return {"seconds": time.perf_counter() - start}, network.state_dict()

    header, weights = kept(path, make)
    network = build_classifier(tuple(real[0].shape[1:]), classes, plan.seed)
    network.load_state_dict(weights)
    return network.eval(), header["seconds"]


def _classifier(
    plan: Plan, source: Source, real: Labelled, synthetic: Labelled, classes: int
) -> tuple[nn.Module, float, float]:
    r"""Returns the classifier of a run, its synthetic fraction, and the seconds of all training."""
    soft = source.mixing.get("soft_labels", 0) > 0
    alone: dict[int, nn.Module] = {}

    def train_on(real: Labelled, synthetic: Labelled, fraction: float, seed: int) -> Predict:
        # Each split trains first without synthetic images; that classifier teaches the others.
        teacher = alone.get(seed) if soft else None
        mixing = {**source.mixing, "synthetic_fraction": fraction, "teacher": teacher}
        network = _train(plan, real, synthetic, seed, classes, **mixing)
        if not fraction:
            alone[seed] = network
        return partial(_predict, network)

    def synthesise(train: Labelled, seed: int) -> Labelled:
        def make() -> Content:
            images, labels = source.images(train, seed)
            return {}, {"images": images, "labels": labels}

        tensors = kept(_images_file(plan, source, f", without split {seed}"), make)[1]
        return tensors["images"], tensors["labels"]

    start = time.perf_counter()
    fraction = source.mixing.get("synthetic_fraction", 0.5) if len(synthetic[1]) else 0.0
    if fraction == AUTO:
        choice = choose_synthetic_fraction(real, synthesise, splits=SPLITS, seed=plan.seed, train_on=train_on)
        fraction = choice.fraction
    seconds = time.perf_counter() - start
    teacher = None
    if soft or not fraction:
        teacher, own_seconds = _without_images(plan, real, classes)
        seconds += own_seconds
        if not fraction:
            return teacher, fraction, seconds
    start = time.perf_counter()
    mixing = {**source.mixing, "synthetic_fraction": fraction, "teacher": teacher}
    network = _train(plan, real, synthetic, plan.seed, classes, **mixing)
    return network, fraction, seconds + time.perf_counter() - start


def do_run(plan: Plan) -> Run:
    r"""Builds the cell's training set and its synthetic images, trains a classifier and measures it."""
    # With one thread, figures depend neither on the number of cores nor on parallel jobs.
    with single_threaded_libraries():
        cell, source = plan.cell, parse_source(plan.source)
        data = load_images(cell.dataset, plan.data_root, plan.cache)
        real, held_out = split(data, cell.profile, plan.seed, plan.on)
        made = _make(plan, source, data, real, held_out)
        network, fraction, seconds = _classifier(plan, source, real, made.pair, len(data.classes))
        scores = imbalance_metrics(held_out[1], _predict(network, held_out[0]), len(data.classes))
    recall = [100 * value for value in scores["recall"]]
    counts = real[1].bincount(minlength=len(data.classes)).tolist()
    head, middle, tail = (fmean(recall[label] for label in part) if part else float("nan") for part in thirds(counts))
    return Run(
        dataset=cell.dataset,
        profile=cell.profile,
        regime=cell.regime,
        strategy=plan.strategy,
        source=plan.source,
        seed=plan.seed,
        on=plan.on,
        settings=plan.settings,
        balanced_accuracy=round(100 * scores["balanced accuracy"], 3),
        accuracy=round(100 * scores["accuracy"], 3),
        macro_f1=round(100 * scores["macro F1"], 3),
        head=round(head, 3),
        middle=round(middle, 3),
        tail=round(tail, 3),
        recall=" ".join(f"{value:.2f}" for value in recall),
        counts=" ".join(map(str, counts)),
        synthetic_images=len(made.pair[1]),
        synthetic_fraction=fraction,
        fid=round(made.fid, 4),
        memorised=round(made.memorised, 4),
        source_seconds=round(made.seconds, 1),
        training_seconds=round(seconds, 1),
        device=device_name(resolve_device("auto")),
        versions=versions("torch", "torchvision", "lightning", "scikit-learn"),
    )


def do_runs(plans: Sequence[Plan], table: RecordTable[Run], *, jobs: int) -> list[Run]:
    r"""Does the runs that are missing in the table, and returns all runs.

    An interrupted run starts again from the beginning; finished runs and synthetic images are kept.
    """
    missing = [plan for plan in plans if plan.key not in table.records]
    with tqdm(total=len(missing), unit="run", disable=not missing) as bar:
        bar.write(f"{len(plans) - len(missing)} of {len(plans)} runs are in {table.path}.")
        for run in Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(do_run)(plan) for plan in missing):
            table.add(run)
            cell = f"{run.dataset} {run.profile}, {run.regime}"
            bar.write(f"{cell}, {run.strategy} + {run.source}, seed {run.seed}: {run.balanced_accuracy:.2f}")
            bar.update()
    return [table.records[plan.key] for plan in plans]
