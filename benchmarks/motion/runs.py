r"""Runs: a classifier is trained on one set with one arm and measured. Each run is done once, and kept in a table."""

__all__ = [
    "BUDGETS", "REVISION", "Place", "Plan", "Run", "budget_for", "do_run", "do_runs", "motions_of", "run_table",
    "synthetic_images",
]  # fmt: skip

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from joblib import Parallel, delayed
from torch import Tensor
from tqdm.auto import tqdm

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment._utils.threads import single_threaded_libraries
from gae_augment.evaluation import imbalance_metrics
from gae_augment.evaluation.images import Labelled, to_unit
from gae_augment.motion.adaptive import MAX_ADAPTED, STEP

from ..data import load_images
from ..imbalance.cells import GREY, Budget, split
from ..kept import Content, kept
from ..machine import device_name, versions
from ..records import RecordTable
from .arms import SYNTHESES, Arm, moved_probability, parse_arm
from .banks import Motions, learned_bank, pools
from .published import PUBLISHED, train_published
from .published import SECONDS as PUBLISHED_SECONDS
from .published import SETTINGS as PUBLISHED_SETTINGS
from .training import POST_HOC, AdaptiveMover, Mover, train

SYNTHETIC = 1000
"""The maximum number of synthetic images of a class."""

FITTED_TO = 1000, 300
"""The maximum number of a class's images that synthetic images are learned from: grey, and in colour."""

AT_ONCE = 1000
"""The number of images that pass through a network together outside training."""

STEPS = {"short": (1500, 600), "long": (4000, 1600)}
"""The training steps of each budget, for grey images and for images in colour."""

BUDGETS = (*STEPS, PUBLISHED)
"""The names of the training budgets; the last one is that of published tables."""

REVISION = 1
"""Raise it when the same names give other motions or classifiers, so that all runs are repeated."""

SECONDS = 40.0
"""The first estimate of a run's duration."""


class Place(NamedTuple):
    r"""A data set with a profile, and the images to measure on, as in ``benchmarks.imbalance.cells``."""

    dataset: str
    profile: str
    on: str

    def __str__(self) -> str:
        return "-".join(self)


def budget_for(dataset: str, name: str) -> Budget:
    r"""Returns the budget of a short or a long training, equal for all arms."""
    if dataset in ("mnist", "fashion_mnist"):
        return Budget(STEPS[name][0], 64, 0.02, 0.1)
    return Budget(STEPS[name][dataset not in GREY], 64, 5e-3 if dataset in ("digits", "bccd") else 0.01, 0.1)


@dataclass(frozen=True)
class Run:
    r"""One line of the table: a run and its figures.

    ``balanced_accuracy`` and ``recall``, of all classes from the first on, are in percent. ``counts`` are numbers of
    training images. ``displacement`` is the root mean square displacement of the arm's maps, in percent of the image's
    side. Seconds are those of the processor; ``source_seconds`` made motions or synthetic images, which arms share.
    """

    dataset: str
    profile: str
    on: str
    regime: str
    budget: str
    strategy: str
    arm: str
    seed: int
    settings: str
    balanced_accuracy: float
    recall: str
    counts: str
    displacement: float
    source_seconds: float
    training_seconds: float
    device: str
    versions: str

    @property
    def place(self) -> Place:
        r"""The set, and the images that were measured on."""
        return Place(self.dataset, self.profile, self.on)


KEY = ("dataset", "profile", "on", "regime", "budget", "strategy", "arm", "seed", "settings")


def run_table(path: Path) -> RecordTable[Run]:
    r"""Returns the table of runs in a file."""
    return RecordTable(path, Run, KEY)


@dataclass(frozen=True)
class Plan:
    r"""A run to do.

    Attributes:
        budget: One of ``BUDGETS``.
        strategy: What is done about imbalance, one of ``STRATEGIES`` in ``training.py``.

    Raises:
        ValueError: If the budget does not suit the arm.
    """

    place: Place
    regime: str
    budget: str
    strategy: str
    arm: Arm
    seed: int
    data_root: Path
    cache: Path

    def __post_init__(self) -> None:
        if self.budget == PUBLISHED and (self.arm.synthesises or self.arm.last_steps_real):
            raise ValueError(
                f"The budget is {PUBLISHED!r}, but the arm {str(self.arm)!r} has synthetic images, or real images "
                f"alone at the end. Use base, or arms that move images until the end."
            )

    @property
    def settings(self) -> str:
        r"""The budget in words, by which runs with other budgets are told apart."""
        if self.budget == PUBLISHED:
            return f"{PUBLISHED_SETTINGS}, revision {REVISION}"
        budget = budget_for(self.place.dataset, self.budget)
        return (
            f"{budget.steps} steps of {budget.batch_size} images, learning rate {budget.learning_rate:g}, "
            f"weight decay {budget.weight_decay:g}, revision {REVISION}"
        )

    @property
    def key(self) -> tuple[str, ...]:
        r"""The key of the run in the table."""
        named = (*self.place, self.regime, self.budget, self.strategy, self.arm, self.seed, self.settings)
        return tuple(map(str, named))


def synthetic_images(plan: Plan, real: Labelled) -> tuple[Labelled, float]:
    r"""Returns synthetic images of scarce classes and the seconds they took, from their file if it exists.

    The file has decoded and residual images, of the same models.
    """

    def make() -> Content:
        start = time.process_time()
        images, labels = real
        counts = labels.bincount()
        missing = {c: min(SYNTHETIC, int(counts.max() - n)) for c, n in enumerate(counts) if n < counts.max()}
        limit = FITTED_TO[images.shape[1] > 1]
        rows = []
        for label in missing:
            members = (labels == label).nonzero().flatten()
            order = torch.randperm(len(members), generator=make_generator(plan.seed, "synthetic", label))
            rows.append(members[order[:limit]])
        chosen = torch.cat(rows)
        augmenter = GAEAugmenter(
            GenerativeModel(synthesis="residual"),
            sampling_strategy={label: limit + number for label, number in missing.items()},
            random_state=plan.seed,
            progress=False,
            device="cpu",
        ).fit(images[chosen], labels[chosen])
        kinds = torch.tensor(list(missing)).repeat_interleave(torch.tensor(list(missing.values())))
        tensors = {"labels": kinds}
        for synthesis in SYNTHESES:
            for fitted in augmenter.models_.values():
                fitted.plan = replace(fitted.plan, synthesis=synthesis)
            samples = [augmenter.sample(label, number, seed=plan.seed) for label, number in missing.items()]
            tensors[synthesis] = torch.cat(samples)
        return {"seconds": time.process_time() - start}, tensors

    header, tensors = kept(plan.cache / "synthetic" / f"{plan.place}-{plan.seed}-{REVISION}.safetensors", make)
    return (tensors[plan.arm.kind], tensors["labels"]), header["seconds"]


def motions_of(plan: Plan, real: Labelled) -> tuple[list[Motions], float]:
    r"""Returns the motions of a run, and the seconds that their models took.

    The list has one entry, or one for each strength if the strength adapts.
    """
    file = plan.cache / "banks" / f"{plan.place}-{plan.seed}-{REVISION}.safetensors"
    bank, seconds = learned_bank(real, plan.seed, plan.arm, file)
    factors = [1.0]
    if plan.arm.adaptive:
        factors = [STEP * level for level in range(1, round(MAX_ADAPTED / STEP) + 1)]
    arms = [replace(plan.arm, strength=factor * plan.arm.strength) for factor in factors]
    return [pools(arm, bank, derive_seed(plan.seed, "pools")) for arm in arms], seconds


def trained_network(
    plan: Plan, real: Labelled, synthetic: Labelled, classes: int, mover: Mover | None
) -> torch.nn.Module:
    r"""Returns the classifier of a run, in evaluation mode."""
    budget, arm = plan.budget, plan.arm
    if budget == PUBLISHED:
        file = plan.cache / PUBLISHED / f"{plan.place}-{plan.regime}-{plan.strategy}-{arm}-{plan.seed}-{REVISION}.pt"
        return train_published(
            real, classes=classes, regime=plan.regime, seed=plan.seed, strategy=plan.strategy, file=file, mover=mover
        )
    return train(
        real,
        synthetic,
        classes=classes,
        regime=plan.regime,
        budget=budget_for(plan.place.dataset, budget),
        seed=plan.seed,
        strategy=plan.strategy,
        mover=mover,
        synthetic_fraction=arm.p if arm.synthesises else 0.0,
        real_last=arm.last_steps_real,
    )


@torch.no_grad()
def _predict(network: torch.nn.Module, images: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([(network(to_unit(batch)) + shift).argmax(dim=1) for batch in images.split(AT_ONCE)])


def do_run(plan: Plan) -> Run:
    r"""Builds the training set and the arm's motions or images, trains a classifier and measures it."""
    # With one thread, figures depend neither on the number of cores nor on parallel jobs.
    with single_threaded_libraries():
        place, arm = plan.place, plan.arm
        data = load_images(place.dataset, plan.data_root, plan.cache)
        real, held_out = split(data, place.profile, plan.seed, place.on)
        classes = len(data.classes)
        counts = real[1].bincount(minlength=classes)
        synthetic, seconds, mover, displacement = (real[0][:0], real[1][:0]), 0.0, None, 0.0
        if arm.synthesises:
            synthetic, seconds = synthetic_images(plan, real)
        elif arm.moves:
            motions, seconds = motions_of(plan, real)
            probability = moved_probability(arm, counts)
            mover = AdaptiveMover(motions, probability) if arm.adaptive else Mover(motions[0], probability)
        start = time.process_time()
        network = trained_network(plan, real, synthetic, classes, mover)
        training_seconds = time.process_time() - start
        if mover is not None:
            displacement = mover.displacement
        shift = -counts.log() if plan.strategy == POST_HOC else torch.zeros(classes)
        scores = imbalance_metrics(held_out[1], _predict(network, held_out[0], shift), classes)
    return Run(
        dataset=place.dataset,
        profile=place.profile,
        on=place.on,
        regime=plan.regime,
        budget=plan.budget,
        strategy=plan.strategy,
        arm=str(arm),
        seed=plan.seed,
        settings=plan.settings,
        balanced_accuracy=round(100 * scores["balanced accuracy"], 3),
        recall=" ".join(f"{100 * value:.2f}" for value in scores["recall"]),
        counts=" ".join(map(str, counts.tolist())),
        displacement=round(displacement, 3),
        source_seconds=round(seconds, 1),
        training_seconds=round(training_seconds, 1),
        device=device_name(torch.device("cpu")),
        versions=versions("torch", "torchvision", "scikit-learn"),
    )


def estimated_seconds(missing: Sequence[Plan], done: Sequence[Run]) -> float:
    r"""Returns an estimate of the time of missing runs, from done runs of the same data set, regime and budget."""
    known: dict[tuple[str, str, str], list[float]] = {}
    for run in done:
        known.setdefault((run.dataset, run.regime, run.budget), []).append(run.training_seconds)
    means = {key: fmean(values) for key, values in known.items()}
    default = dict.fromkeys(STEPS, fmean(means.values()) if means else SECONDS) | {PUBLISHED: PUBLISHED_SECONDS}
    return sum(means.get((plan.place.dataset, plan.regime, plan.budget), default[plan.budget]) for plan in missing)


def do_runs(plans: Sequence[Plan], table: RecordTable[Run], *, jobs: int) -> list[Run]:
    r"""Does the runs that are missing in the table, and returns all runs.

    An interrupted run starts again from the beginning; finished runs, motions and synthetic images are kept.
    """
    plans = [replace(plan, arm=parse_arm(str(plan.arm))) for plan in dict.fromkeys(plans)]
    missing = [plan for plan in plans if plan.key not in table.records]
    hours = estimated_seconds(missing, list(table.records.values())) / 3600 / jobs
    print(f"{len(plans) - len(missing)} of {len(plans)} runs are in {table.path.name}.", end=" ")
    print(
        f"{len(missing)} are missing, about {hours:.1f} hours of a processor without new motions and images.",
        flush=True,
    )
    with tqdm(total=len(missing), unit="run", disable=not missing) as bar:
        for run in Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(do_run)(plan) for plan in missing):
            table.add(run)
            bar.write(
                f"{run.place}, {run.regime}, {run.strategy}, {run.arm}, seed {run.seed}: {run.balanced_accuracy:.2f}"
            )
            bar.update()
    return [table.records[plan.key] for plan in plans]
