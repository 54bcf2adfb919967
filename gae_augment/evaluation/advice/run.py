r"""Advises on synthetic images: compares ways of training on held-out images, and gives a verdict in minutes."""

__all__ = ["advise"]

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from ..._utils.checks import check_integer, check_number
from ..._utils.files import read_file, write_file
from ..._utils.seeding import derive_seed
from ..._utils.version import __version__
from ...data import DatasetView
from .backbones import Backbone, SmallNetwork, load_backbone
from .compare import Arm, Comparison, SplitScores
from .splits import grouped_folds, near_duplicates
from .trial import LearnMotions, Trial
from .verdict import Advice, class_facts, decide
from .views import Pictures

FOLDS = 3
MAX_REPETITIONS = 10

CROSSING = 0.1
"""A warning is given if more than this fraction of the images have near-duplicates in other groups."""

SHARE_OF_FEATURES = 0.4
"""The part of the time that features may take. It limits the number of images."""

LEAST_IMAGES, MOST_IMAGES = 200, 3000
"""The number of images that are compared lies between these, if there are so many."""

SECONDS_OF_SMALL_NETWORK = 0.01
"""About how long the features of a view from a small network take."""

PILOT_IMAGES = 24
"""The number of images that show how fast the network is."""

SMALL_SIDE = 64
"""The side of the images that a small network sees."""


def advise(
    train: Any,
    learn_motions: LearnMotions | None = None,
    *,
    groups: Sequence[Any] | None = None,
    backbone: str | Callable[[Tensor], Any] = "auto",
    minutes: float = 5.0,
    strengths: Sequence[float] = (0.5, 1.0),
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
    checkpoint_dir: str | Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Advice:
    r"""Returns whether learned motions or synthetic images help on a training set, and which training is best.

    Linear classifiers are trained on the features of a fixed network. Random splits hold out each image once per
    repetition, and images of one group together. A split learns motions from its training images alone. The score of a
    way of training is the calibrated probability of the right class on held-out images, each class counting alike.

    The rule: the gain of each way of training has a prior, the mean and the standard deviation of its gains on other
    data sets. The measured difference, paired by image, updates the prior; its standard error counts each group once.
    The best training without synthetic images has the largest posterior mean. Motions or synthetic images are used on
    top of it if they gain with a probability of at least 90 %, and the best training without them beats chance.

    Args:
        train: The training set, a map-style dataset of images of any size and integer labels. Its transforms are not
            used.
        learn_motions: A function ``learn_motions(part, seed)`` that learns from a part of the training set. It returns
            a function ``motion(strength=…, p=…)``, such as the method of a fitted :class:`gae_augment.GAEAugmenter`.
            With ``None``, motions and synthetic images are not compared.
        groups: The object that each image shows, one value per image. ``None`` treats images as independent.
        backbone: ``"auto"`` (a network of torchvision whose weights are on disk, else a small network that each split
            trains), the name of a network of torchvision, ``"MODULE:FUNCTION"`` or a callable. It maps uint8 images,
            with shape :math:`(B, 3, S, S)`, to features, with shape :math:`(B, F)`. Its attribute ``size`` is
            :math:`S`, by default 224.
        minutes: The time that the comparison may take. At least one repetition of three splits is done.
        strengths: The strengths of the motions.
        class_names: The names of the classes, from label 0 on; by default their labels.
        seed: The seed of all random numbers.
        device: A torch device for networks of torchvision and small networks.
        checkpoint_dir: A folder for features and finished splits. The same call resumes from there.
        progress: A function that is called with lines of text.

    Raises:
        ValueError: If an argument is invalid, there are fewer than two classes, or nothing can be held out.
        FileNotFoundError: If the weights of the named network are not on disk.
    """
    start = time.monotonic()
    check_number(minutes, "minutes", 0.01, 24 * 60)
    check_integer(seed, "seed")
    for strength in strengths:
        check_number(strength, "strengths", 0, 3)
    network = load_backbone(backbone, device)
    labels, names, codes = _facts(train, groups, class_names)
    n_strengths = len(strengths) if learn_motions is not None else 0

    def most() -> dict[str, Tensor]:
        return {"images": torch.tensor(_most_images(_seconds_per_view(train, network), minutes, n_strengths))}

    # How many images are compared depends on the speed of the machine. A resumed comparison has as many.
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    settings = _digest([labels, codes], minutes, n_strengths, _name(backbone))
    rows = _choose(labels, int(_kept(folder, f"images-{settings}", most)["images"]), seed)
    counts, kept = np.bincount(labels), np.bincount(labels[rows], minlength=len(names))
    progress(
        f"{len(rows)} of {len(labels)} images, {len(names)} classes, "
        f"{len(np.unique(codes[rows]))} objects; network: {network.name if network else SmallNetwork.name}"
    )
    trial = Trial(
        Pictures.read(train, rows),
        labels[rows],
        torch.from_numpy(counts / kept)[labels[rows]].float(),
        tuple(strengths) if learn_motions is not None else (),
        learn_motions,
        seed,
    )
    if folder is not None:
        arrays = [trial.labels, codes[rows], *(image.numpy() for image in trial.pictures.images)]
        folder /= _digest(arrays, trial.strengths, seed, _name(backbone))
    every = np.arange(len(rows))
    shared = None if network is None else _kept(folder, "views", lambda: trial.views(every, network))
    progress(f"features of images and standard views: {time.monotonic() - start:.0f} s")

    def compare(trial: Trial, repetition: int, name: str, progress: Callable[[int], None]) -> list[SplitScores]:
        splits = []
        for fold, held_out in enumerate(grouped_folds(trial.labels, codes[rows], FOLDS, derive_seed(seed, repetition))):
            split_seed = derive_seed(seed, "split", repetition, fold)

            def score(held_out: np.ndarray = held_out, split_seed: int = split_seed) -> dict[str, Tensor]:
                in_training = np.setdiff1d(every, held_out)
                fixed = network or _small_network(trial, in_training, split_seed, device)
                views = shared or trial.views(every, fixed)
                moved = trial.moved_views(in_training, fixed, split_seed)
                return _to_tensors(trial.score(in_training, held_out, {**views, **moved}))

            tensors = _kept(folder, f"{name}-{repetition}-{fold}", score)
            splits.append(_from_tensors(tensors, trial.arms))
            progress(FOLDS * repetition + fold + 1)
        return splits

    # Motions are added to what is best without them, and only there, which saves half of the time.
    alone = Comparison(trial.labels, codes[rows], [compare(trial, 0, "alone", lambda split: None)])
    trial = replace(trial, standard=decide(alone, pretrained=network is not None).base.standard)
    repetitions: list[list[SplitScores]] = []
    planned = 1
    while len(repetitions) < planned:
        repetition_start, of = time.monotonic(), FOLDS * planned
        repetitions.append(
            compare(
                trial,
                len(repetitions),
                "split",
                lambda split, of=of: progress(f"split {split} of {of}: {time.monotonic() - start:.0f} s"),  # type: ignore[misc]
            )
        )
        now = time.monotonic()
        more = int((start + 60 * minutes - now) / (now - repetition_start))
        planned = min(MAX_REPETITIONS, len(repetitions) + max(0, more))
    warnings: list[str] = []
    if shared is not None:
        crossing = near_duplicates(shared["whole"], trial.labels, codes[rows])
        if crossing > CROSSING:
            warnings.append(
                f"{100 * crossing:.0f} % of the images have a near-duplicate that counts as another object, so that "
                f"held-out images are not new. Pass groups of images that show one object."
            )
    comparison = Comparison(trial.labels, codes[rows], repetitions)
    decision = decide(comparison, pretrained=network is not None, standard=trial.standard)
    objects = [len(np.unique(codes[labels == label])) for label in range(len(names))]
    facts, of_classes = class_facts(comparison, names, np.bincount(labels).tolist(), objects, decision)
    best = decision.best or decision.base
    return Advice(
        use=decision.use,
        strategy=decision.base.strategy,
        standard_views=decision.base.standard,
        ours=best.ours,
        strength=best.strength,
        gain=decision.gain,
        rows=decision.rows,
        beats_chance=decision.beats_chance,
        classes=facts,
        warnings=(*warnings, *of_classes),
        backbone=SmallNetwork.name if network is None else network.name,
        splits=sum(map(len, repetitions)),
        images=len(rows),
        seconds=time.monotonic() - start,
    )


def _facts(
    train: Any, groups: Sequence[Any] | None, class_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str], np.ndarray]:
    r"""Returns labels from 0 without gaps, the names of the classes, and the group of each image as an integer."""
    raw = DatasetView(train).labels
    present, labels = np.unique(raw, return_inverse=True)
    if len(present) < 2:
        raise ValueError(f"The training set has {len(present)} class, but a classifier needs at least 2. Add images.")
    names = [str(class_names[label] if class_names is not None else label) for label in present.tolist()]
    if groups is None:
        return labels, names, np.arange(len(labels))
    if len(groups) != len(labels):
        raise ValueError(f"'groups' has {len(groups)} values, but must have one for each of {len(labels)} images.")
    return labels, names, np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]


def _seconds_per_view(train: Any, network: Backbone | None) -> float:
    r"""Measures how long the features of a view of an image take."""
    if network is None:
        return SECONDS_OF_SMALL_NETWORK
    rows = range(min(PILOT_IMAGES, len(train)))
    pictures = Pictures.read(train, rows)
    seconds = []
    # The first pass prepares the network.
    for _ in range(2):
        start = time.perf_counter()
        pictures.features(rows, network, moves=None, standard=True, seed=0)
        seconds.append((time.perf_counter() - start) / len(rows))
    return seconds[-1]


def _most_images(seconds_per_view: float, minutes: float, strengths: int) -> int:
    r"""Returns how many images can be compared in the time."""
    # Each of three splits moves two thirds of the images.
    passes = 2 + FOLDS * (2 / 3) * strengths
    most = int(SHARE_OF_FEATURES * 60 * minutes / (seconds_per_view * passes))
    return min(MOST_IMAGES, max(LEAST_IMAGES, most))


def _choose(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    r"""Returns at most ``most`` rows. Only the largest classes lose images, at random."""
    counts = np.bincount(labels)
    cap = int(counts.max())
    if len(labels) > most:
        # The largest cap with which few enough images stay; at least 2 of each class.
        cap = max(2, max((c for c in range(1, cap + 1) if np.minimum(counts, c).sum() <= most), default=2))
    random = np.random.default_rng(derive_seed(seed, "images"))
    chosen = [random.permutation(np.flatnonzero(labels == label))[:cap] for label in range(len(counts))]
    return np.sort(np.concatenate(chosen))


def _small_network(trial: Trial, rows: np.ndarray, seed: int, device: torch.device | str) -> SmallNetwork:
    side = min(SMALL_SIDE, max(max(image.shape[-2:]) for image in trial.pictures.images))
    images = torch.stack([functional.resize(trial.pictures.images[row], [side, side], antialias=True) for row in rows])
    labels = torch.from_numpy(trial.labels[rows])
    return SmallNetwork.train(images, labels, classes=int(trial.labels.max()) + 1, seed=seed, device=device)


def _to_tensors(scores: SplitScores) -> dict[str, Tensor]:
    return {
        "rows": torch.from_numpy(scores.rows),
        "log_probabilities": torch.from_numpy(np.stack(list(scores.log_probabilities.values()))),
        "correct": torch.from_numpy(np.stack(list(scores.correct.values()))),
    }


def _from_tensors(tensors: dict[str, Tensor], arms: Sequence[Arm]) -> SplitScores:
    return SplitScores(
        tensors["rows"].numpy(),
        dict(zip(arms, tensors["log_probabilities"].numpy(), strict=True)),
        dict(zip(arms, tensors["correct"].numpy(), strict=True)),
    )


def _kept(folder: Path | None, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    r"""Returns tensors that a file keeps, or computes them."""
    if folder is None:
        return make()
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, {}, make())
    return read_file(path)[1]


def _name(backbone: str | Callable[[Tensor], Any]) -> str:
    return backbone if isinstance(backbone, str) else type(backbone).__qualname__


def _digest(arrays: Iterable[np.ndarray], *settings: Any) -> str:
    r"""Returns a name for what a file depends on."""
    digest = hashlib.sha256(repr([__version__, *settings]).encode())
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
