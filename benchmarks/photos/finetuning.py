r"""Fine-tuning: the last blocks of the pretrained network are trained, on views that the arms show."""

__all__ = [
    "ARMS",
    "EPOCHS",
    "RATES",
    "TRAININGS",
    "VIEWS",
    "FinetunedRun",
    "best_rate",
    "do_finetuned",
    "finetuned_table",
    "rate_runs",
    "settings_of",
    "train_blocks",
]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from gae_augment._utils.seeding import derive_seed, global_seed, make_generator
from gae_augment.evaluation import imbalance_metrics
from gae_augment.evaluation.classifier import one_cycle

from ..machine import device_name, versions
from ..records import RecordTable
from .arms import Arm, parse_arm
from .network import LastBlocks
from .runs import Experiment

VIEWS = 6, 6
"""The number of standard views of each training image, and of views that each arm except ``plain`` adds."""

ARMS = ("plain", "more_views:classes=all", "motion:classes=all", "elastic:classes=all")

TRAININGS = 3
"""The number of trainings of each arm on each split. They differ in their random numbers alone."""

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""The learning rates; the best one of the first training with standard views alone is used in all arms.

It is chosen in trainings of ``EPOCHS`` epochs, for longer ones too.
"""

EPOCHS, BATCH_SIZE, WEIGHT_DECAY = 12, 32, 0.01

SEEDS_APART = 1000
"""The difference between the seeds of two trainings on one split."""


@dataclass(frozen=True)
class FinetunedRun:
    r"""One network whose last blocks were trained in one arm, and measured on one split, in percent."""

    dataset: str
    on: str
    arm: str
    rate: float
    seed: int
    training: int
    balanced_accuracy: float
    scarce_recall: float
    recalls: str
    settings: str
    device: str
    versions: str


def finetuned_table(path: Path) -> RecordTable[FinetunedRun]:
    r"""Returns the table of all runs."""
    return RecordTable(path, FinetunedRun, ("dataset", "on", "arm", "rate", "seed", "training", "settings"))


def settings_of(epochs: int) -> str:
    r"""Returns how the last blocks are trained, in words."""
    return f"{epochs} epochs of batches of {BATCH_SIZE}, {VIEWS[0]} + {VIEWS[1]} views, weight decay {WEIGHT_DECAY:g}"


def train_blocks(
    network: nn.Module,
    inputs: Tensor,
    positions: Tensor,
    labels: Tensor,
    *,
    rate: float,
    seed: int,
    epochs: int,
) -> nn.Module:
    r"""Trains the last blocks with balanced softmax, and returns them in evaluation mode.

    In each epoch, each image is shown once, in one of its views.

    Args:
        network: The last blocks, which are changed.
        inputs: What the blocks before them make of all views, with shape :math:`(M, C, H, W)`.
        positions: The position of each view's image in ``labels``.
        labels: The labels of the images, with shape :math:`(N,)`.
        rate: The peak of the learning rate of AdamW.
        seed: The seed of the order and of the views.
        epochs: How often each image is shown.
    """
    counts = labels.bincount()
    shift = (counts / counts.sum()).log()
    order, number = positions.argsort(stable=True), positions.bincount(minlength=len(labels))
    first = number.cumsum(0) - number
    generator = make_generator(seed, "batches")
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(labels) // BATCH_SIZE)
    step = 0
    network.train()
    for _ in range(epochs):
        shown = order[first + (torch.rand(len(labels), generator=generator) * number).long()]
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH_SIZE):
            for group in optimiser.param_groups:
                group["lr"] = rate * one_cycle(step, steps)
            logits = network(inputs[shown[rows]].float()) + shift
            optimiser.zero_grad()
            functional.cross_entropy(logits, labels[rows]).backward()
            optimiser.step()
            step += 1
    return network.eval()


def measure(
    experiment: Experiment, blocks: LastBlocks, arm: Arm, rate: float, training: int, epochs: int
) -> FinetunedRun:
    r"""Trains the last blocks in one arm, and measures the network."""
    seed = experiment.seed + SEEDS_APART * training
    inputs, positions = experiment.training_views(arm, "standard")
    photos = experiment.photos
    # The linear layer draws its weights from the global generator.
    with global_seed(derive_seed(seed, "last blocks")):
        network = blocks(len(photos.classes))
    train_blocks(network, inputs, positions, experiment.labels, rate=rate, seed=seed, epochs=epochs)
    tested, true = experiment.tested_features()
    with torch.inference_mode():
        predicted = torch.cat([network(batch.float()).argmax(dim=1) for batch in tested.split(BATCH_SIZE)])
    recalls = imbalance_metrics(true, predicted, len(photos.classes))["recall"]
    majority = int(experiment.labels.bincount().argmax())
    return FinetunedRun(
        dataset=photos.name,
        on=experiment.on,
        arm=str(arm),
        rate=rate,
        seed=experiment.seed,
        training=training,
        balanced_accuracy=round(100 * fmean(recalls), 3),
        scarce_recall=round(100 * fmean(recall for label, recall in enumerate(recalls) if label != majority), 3),
        recalls=" ".join(f"{100 * recall:.2f}" for recall in recalls),
        settings=settings_of(epochs),
        device=device_name(torch.device("cpu")),
        versions=versions("torch", "torchvision"),
    )


def rate_runs(runs: Sequence[FinetunedRun], dataset: str, on: str) -> dict[float, list[FinetunedRun]]:
    r"""Returns the first trainings of standard views alone, in ``EPOCHS`` epochs, by their learning rates in order."""
    chosen_in = (dataset, on, "plain", 0, settings_of(EPOCHS))
    plain = [run for run in runs if (run.dataset, run.on, run.arm, run.training, run.settings) == chosen_in]
    return {rate: [run for run in plain if run.rate == rate] for rate in sorted({run.rate for run in plain})}


def best_rate(runs: Sequence[FinetunedRun], dataset: str, on: str) -> float:
    r"""Returns the learning rate with the highest balanced accuracy of standard views alone, in the first trainings."""
    by_rate = rate_runs(runs, dataset, on)
    return max(by_rate, key=lambda rate: fmean(run.balanced_accuracy for run in by_rate[rate]))


def do_finetuned(
    experiments: Sequence[Experiment],
    blocks: LastBlocks,
    arms: Sequence[str],
    table: RecordTable[FinetunedRun],
    epochs: int = EPOCHS,
) -> None:
    r"""Adds the missing runs to a table: standard views alone with all learning rates, then the arms with the best.

    Args:
        experiments: The splits.
        blocks: What makes the last blocks.
        arms: The arms, besides standard views alone.
        table: The table.
        epochs: How often each image is shown. Other trainings than those of ``EPOCHS`` epochs are done once on each
            split.
    """

    def do_missing(arms: Iterable[str], rates_of: Callable[[str, str], Iterable[float]], n: int, epochs: int) -> None:
        plans = []
        for training in range(n):
            for experiment in experiments:
                name, on = experiment.photos.name, experiment.on
                plans += [
                    (experiment, text, rate, training)
                    for text in arms
                    for rate in rates_of(name, on)
                    if (name, on, text, str(rate), str(experiment.seed), str(training), settings_of(epochs))
                    not in table.records
                ]
        print(f"{len(plans)} runs are missing, about {len(plans) * epochs / EPOCHS:.0f} minutes.", flush=True)
        for experiment, text, rate, training in tqdm(plans, unit="run"):
            table.add(measure(experiment, blocks, parse_arm(text), rate, training, epochs))

    do_missing(("plain",), lambda name, on: RATES, 1, EPOCHS)
    do_missing(
        dict.fromkeys(("plain", *arms)),
        lambda name, on: (best_rate(list(table.records.values()), name, on),),
        TRAININGS if epochs == EPOCHS else 1,
        epochs,
    )
