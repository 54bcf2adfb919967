r"""FID and a classifier's gain against the boundary delta of the reconstruction error."""

__all__ = ["Point", "draw_figure", "measure", "point_table"]

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.data import choose_images, profile_counts
from gae_augment.demo import DEFAULT_PROFILE, LabelledSet
from gae_augment.evaluation import ClassifierFeatures, classifier_gain, fidelity

from ..records import RecordTable

DELTAS = ("auto", "0.2", "0.1", "0.07", "0.05", "0.035", "0.025", "0.01")
"""Boundaries, in nats per pixel."""

STEPS, BATCH = 500, 128
"""The training steps and the batch size of each classifier."""


@dataclass(frozen=True)
class Point:
    r"""The figures of one boundary, averaged over the scarce classes of a long-tailed set.

    Attributes:
        delta: ``"auto"``, or the boundary in nats per pixel.
        reached: The fraction of classes whose error fell below it, or stopped falling with ``"auto"``.
        reconstruction_error: That of the training images, in nats per pixel.
        fid: FID of as many synthetic as test images of each scarce class, with classifier features.
        gain: The gain in balanced accuracy over class-balanced sampling of real images, in percentage points.
    """

    dataset: str
    seed: int
    delta: str
    reached: float
    reconstruction_error: float
    epochs: float
    fid: float
    gain: float
    seconds: float


def point_table(path: Path) -> RecordTable[Point]:
    r"""Returns the table of points in a file."""
    return RecordTable(path, Point, ("dataset", "seed", "delta"))


def measure(data: LabelledSet, seeds: list[int], path: Path) -> list[Point]:
    r"""Measures every boundary with each seed that is missing in the table at ``path``, and adds it to the table."""
    table = point_table(path)
    images, labels = data.train
    finished = {(point.dataset, point.seed) for point in table.records.values()}
    missing = [seed for seed in seeds if (data.name, seed) not in finished]
    if missing:
        epochs = max(3, 128_000 // len(images))
        features = ClassifierFeatures.train(images, labels, dataset_name=data.name, epochs=epochs)
    for seed in tqdm(missing, desc=f"delta, {data.name}", unit="seed", disable=not missing):
        table.add(*_measure(data, seed, features))
    return list(table.records.values())


def _measure(data: LabelledSet, seed: int, features: ClassifierFeatures) -> list[Point]:
    images, labels = data.train
    counts = profile_counts(
        DEFAULT_PROFILE.get(data.name, "lt-100"), labels.bincount(minlength=len(data.classes)).tolist()
    )
    chosen = torch.from_numpy(choose_images(labels.numpy(), dict(enumerate(counts)), seed))
    train = images[chosen], labels[chosen]
    # With their own detail, images would hide what the autoencoder cannot reproduce.
    augmenters = {
        delta: GAEAugmenter(
            GenerativeModel(delta="auto" if delta == "auto" else float(delta), synthesis="decoded"),
            random_state=seed,
            n_jobs=-1,
            progress=False,
        ).fit(*train)
        for delta in DELTAS
    }

    def synthesise(augmenter: GAEAugmenter, numbers: dict[int, int]) -> tuple[Tensor, Tensor]:
        samples = [augmenter.sample(label, number, seed=seed) for label, number in numbers.items()]
        return torch.cat(samples), torch.tensor(list(numbers)).repeat_interleave(torch.tensor(list(numbers.values())))

    added = {int(label): number for label, number in augmenters["auto"].sampling_strategy_.items() if number}
    gain = classifier_gain(
        train,
        {delta: synthesise(augmenter, added) for delta, augmenter in augmenters.items()},
        data.test,
        seeds=[seed],
        epochs=max(7, round(STEPS * BATCH / len(chosen))),
        batch_size=BATCH,
        affine=True,
        classes=len(data.classes),
    )
    arms = dict(zip(augmenters, list(gain.scores)[2:], strict=True))
    test_images, test_labels = data.test
    held_out = test_images[torch.isin(test_labels, torch.tensor(list(added)))]
    test_counts = {label: int((test_labels == label).sum()) for label in added}

    points = []
    for delta, augmenter in augmenters.items():
        figures = fidelity(held_out, synthesise(augmenter, test_counts)[0], extractor=features)
        reports = augmenter.report_.values()
        points.append(
            Point(
                dataset=data.name,
                seed=seed,
                delta=delta,
                reached=round(fmean(bool(report.delta_reached) for report in reports), 2),
                reconstruction_error=round(fmean(report.reconstruction_error for report in reports), 5),
                epochs=round(fmean(report.epochs for report in reports), 1),
                fid=round(figures[f"FID ({features.name})"], 3),
                gain=round(100 * gain.difference(arms[delta], "balanced accuracy").mean, 3),
                seconds=round(sum(report.seconds for report in reports), 2),
            )
        )
    return points


def draw_figure(points: list[Point], path: Path) -> None:
    r"""Draws FID and gain, mean and standard error over the seeds, against the error at each boundary."""
    from matplotlib.figure import Figure

    datasets = sorted({point.dataset for point in points})
    figure = Figure(figsize=(9, 3.5 * len(datasets)), layout="constrained")
    axes = figure.subplots(len(datasets), 2, squeeze=False)
    for line, dataset in zip(axes, datasets, strict=True):
        for axis, figure_name, label in zip(line, ("fid", "gain"), ("FID", "gain, points"), strict=True):
            for delta in DELTAS:
                selected = [point for point in points if (point.dataset, point.delta) == (dataset, delta)]
                values = torch.tensor([getattr(point, figure_name) for point in selected])
                spread = values.std().item() / len(selected) ** 0.5 if len(selected) > 1 else 0.0
                colour = "C3" if delta == "auto" else "C0"
                error = fmean(point.reconstruction_error for point in selected)
                axis.errorbar(error, values.mean().item(), spread, fmt="o", color=colour)
                axis.annotate(delta, (error, values.mean().item()), textcoords="offset points", xytext=(5, 5))
            axis.set(xlabel="reconstruction error, nats per pixel", ylabel=label, title=dataset)
    figure.savefig(path, dpi=90)
