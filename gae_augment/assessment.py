r"""What a fitted augmenter's images are worth: how faithful and original they are, and what a classifier gains."""

__all__ = [
    "Assessment",
    "assess",
    "budget",
    "classifier_gain_of",
    "open_fitted",
    "open_pair",
    "promised_images",
    "summary",
]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ._utils.seeding import derive_seed, make_generator
from .augmenter import GAEAugmenter
from .data import Label, class_names, count_labels, load_source
from .evaluation import (
    NEIGHBOURS,
    ClassifierGain,
    FeatureExtractor,
    Memorisation,
    as_many_of_each,
    check_extractor,
    classifier_gain,
    fidelity,
    memorisation,
)

MOST_LOOKED_AT = 1000
"""Of the images of a class at most so many are compared."""

Read = Callable[[Iterable[int]], Tensor]


@dataclass(frozen=True)
class Assessment:
    r"""How synthetic images compare with those that their generators learned from, and with unseen ones.

    Attributes:
        made: Synthetic images of each class that has a generator, at most a thousand.
        training: Images that the generator of the class was fitted to, at most a thousand.
        fidelity: The figures of :func:`gae_augment.evaluation.fidelity`, by name; empty without held-out images.
        memorisation: How near synthetic images are to training images, if there are held-out images.
    """

    made: dict[Label, Tensor]
    training: dict[Label, Tensor]
    fidelity: dict[str, float] = field(default_factory=dict)
    memorisation: Memorisation | None = None


def open_fitted(augmenter: GAEAugmenter, data: Any) -> tuple[np.ndarray, Read]:
    r"""Returns the labels of what an augmenter was fitted to, and what reads its images.

    Args:
        augmenter: A fitted augmenter.
        data: A dataset, or a pair of images and labels.

    Raises:
        ValueError: If it was fitted to other data.
    """
    labels, read = open_pair(data)
    counts = count_labels(labels)
    if counts != augmenter.counts_:
        raise ValueError(
            f"The images are those that the augmenter was fitted to, {dict(augmenter.counts_)} of each class, and "
            f"these are {counts}. Pass the same training set."
        )
    names = class_names(data) if isinstance(data, Dataset) else None
    if names and (other := [name for label, name in names.items() if augmenter.class_names_.get(label) != name]):
        raise ValueError(
            f"The classes are those that the augmenter was fitted to, {list(augmenter.class_names_.values())}, and "
            f"{other} is none of them or has another number. Pass the same training set."
        )
    return labels, read


def open_pair(data: Any) -> tuple[np.ndarray, Read]:
    r"""Returns the labels of a dataset, or of a pair of images and labels, and what reads its images."""
    # Arrays come with their labels; a TensorDataset is no tuple.
    return load_source(*(data if isinstance(data, tuple) else (data, None)))


def assess(
    augmenter: GAEAugmenter,
    data: Any,
    *,
    held_out: Any = None,
    extractor: FeatureExtractor | None = None,
    seed: int = 0,
) -> Assessment:
    r"""Returns how faithful and original images of an augmenter are.

    Args:
        augmenter: A fitted augmenter.
        data: What it was fitted to: a dataset, or a pair of images and labels.
        held_out: Real images that it was not fitted to, in the same form; without them nothing is measured.
        extractor: What turns images into features for the figures of fidelity; without it there are none of these.
        seed: What the images that are looked at depend on.

    Raises:
        TypeError: If the extractor has no name.
        ValueError: If the data are not those that it was fitted to, or their values have no fidelity.
    """
    if extractor is not None:
        check_extractor(extractor)
    labels, read = open_fitted(augmenter, data)
    generator = make_generator(seed, "assessment")
    made = {label: _samples(augmenter, label, seed) for label in augmenter.models_}
    training = {label: _read_some(read, labels, label, generator) for label in made}
    if held_out is None or not made:
        return Assessment(made, training)
    own_labels, own_read = open_pair(held_out)
    unseen = {label: _read_some(own_read, own_labels, label, generator) for label in made if label in own_labels}
    if not unseen:
        return Assessment(made, training)
    real, synthetic = as_many_of_each(unseen, made)
    copied = memorisation(torch.cat(list(training.values())), real, synthetic, worst=0)
    figures = {}
    if extractor is not None and len(real) > NEIGHBOURS:
        figures = fidelity(real, synthetic, extractor=extractor)
    return Assessment(made, training, figures, copied)


def _samples(augmenter: GAEAugmenter, label: Label, seed: int) -> Tensor:
    number = max(1, min(augmenter.sampling_strategy_[label], MOST_LOOKED_AT))
    return augmenter.sample(label, number, seed=derive_seed(seed, "assessment"))


def _read_some(read: Read, labels: np.ndarray, label: Label, generator: torch.Generator) -> Tensor:
    places = torch.from_numpy(np.flatnonzero(labels == label))
    chosen = torch.randperm(len(places), generator=generator)[:MOST_LOOKED_AT].sort().values
    return read(places[chosen].tolist())


def budget(images: int, steps: int) -> dict[str, int]:
    r"""Returns the size of a batch and the epochs that make so many steps of a classifier's training, at least 7."""
    batch_size = min(128, max(16, images // 5))
    return {"batch_size": batch_size, "epochs": max(7, round(steps * batch_size / images))}


def promised_images(augmenter: GAEAugmenter, seed: int) -> tuple[Tensor, Tensor]:
    r"""Returns the synthetic images that an augmenter's strategy promises, and their labels, class by class."""
    added = {label: n for label, n in augmenter.sampling_strategy_.items() if n}
    made = [augmenter.sample(label, n, seed=seed) for label, n in added.items()]
    return torch.cat(made), torch.from_numpy(np.repeat(list(added), list(added.values())))


def classifier_gain_of(
    augmenter: GAEAugmenter,
    data: Any,
    held_out: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1500,
    affine: bool = False,
    device: str = "auto",
    progress: Callable[[str, int, dict[str, Any]], None] = lambda arm, seed, scores: None,
) -> ClassifierGain:
    r"""Returns what a small classifier gains by the images that an augmenter's strategy promises.

    Args:
        augmenter: A fitted augmenter, of labels from 0 on.
        data: What it was fitted to: a dataset, or a pair of images and labels.
        held_out: Real images of all classes that it was not fitted to, in the same form.
        seeds: The seeds of classifiers and synthetic images.
        steps: The steps of each training, in batches of at most 128.
        affine: Whether training images are turned, shifted and scaled a little.
        device: ``"auto"``, a CUDA GPU where there is one, or a device of torch.
        progress: Called after each training with the arm, the seed and the scores.

    Raises:
        ValueError: If the data are not those that it was fitted to, or not fit for a classifier.
    """
    labels, read = open_fitted(augmenter, data)
    own_labels, own_read = open_pair(held_out)

    return classifier_gain(
        (read(range(len(labels))), torch.from_numpy(labels)),
        lambda seed: promised_images(augmenter, seed),
        (own_read(range(len(own_labels))), torch.from_numpy(own_labels)),
        seeds=seeds,
        affine=affine,
        device=device,
        progress=progress,
        **budget(len(labels), steps),
    )


def summary(
    classes: Sequence[str],
    before: Sequence[int],
    after: Sequence[int],
    gain: ClassifierGain,
    figures: Mapping[str, float],
    copied: Memorisation | None,
) -> str:
    r"""Returns counts, recall, balanced accuracy, fidelity and memorisation as a table to read.

    Args:
        classes: The names of the classes, by label.
        before: The real training images of each.
        after: The same with synthetic ones.
        gain: A classifier's scores, without synthetic images and with those of one model.
        figures: The figures of fidelity, by name; those of FID are told.
        copied: The memorisation, if it was measured.
    """
    arms = list(gain.scores)
    recall = {arm: np.mean([scores["recall"] for scores in gain.scores[arm]], axis=0) * 100 for arm in arms}
    width = max(5, *(len(name) for name in classes))
    short = ["plain", "balanced", "balanced+GAE"]
    lines = [
        f"{'':{width}}  {'training images':^17}  {'recall of a class, %':^36}",
        f"{'class':{width}}  {'before':>8} {'after':>8}  " + " ".join(f"{name:>12}" for name in short),
    ]
    for label, name in enumerate(classes):
        values = " ".join(f"{recall[arm][label]:12.1f}" for arm in arms)
        lines.append(f"{name:{width}}  {before[label]:8d} {after[label]:8d}  {values}")
    seeds = len(gain.seeds)
    lines += ["", f"balanced accuracy, % (mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''})"]
    widest = max(map(len, arms))
    for arm in arms:
        mean, deviation = gain.mean(arm, "balanced accuracy"), gain.deviation(arm, "balanced accuracy")
        line = f"  {arm:{widest}}  {100 * mean:6.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        if arm == arms[-1]:
            difference = gain.difference(arm, "balanced accuracy")
            line += f"   {100 * difference.mean:+.2f} to class-balanced sampling"
            if difference.low is not None and difference.high is not None:
                line += f", 95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
        lines.append(line)
    lines.append("")
    lines += [f"{name}: {value:.2f}" for name, value in figures.items() if name.startswith("FID")]
    if copied is not None:
        lines.append(
            f"memorisation: {100 * copied.fraction:.1f} % of the synthetic images are as close to a training image as "
            f"the closest {100 * copied.expected_fraction:.1f} % of unseen real ones"
        )
    return "\n".join(lines)
