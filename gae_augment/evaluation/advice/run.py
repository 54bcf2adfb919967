r"""Advises on synthetic images: compares ways of training on held-out images, and gives a verdict in minutes."""

__all__ = ["advise"]

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._utils.checks import check_integer, check_number
from ..._utils.files import read_file, write_file
from ..._utils.seeding import derive_seed, global_seed
from ..._utils.version import __version__
from ...data import DatasetView
from .backbones import Backbone, load_backbone
from .frozen import compare_frozen
from .heads import STRATEGIES
from .scratch import SMALL_NETWORK, SMALL_SIDE, compare_scratch, small_images
from .setting import FOLDS, PARTNERS, LearnMotions, Setting
from .splits import check_groups
from .verdict import Advice, class_facts, name_of
from .views import LONGEST_SIDE, Pictures, View, standard_views

SHARE_OF_FEATURES = 0.4
"""The part of the time that features may take. It limits the number of images."""

LEAST_IMAGES, MOST_IMAGES = 200, 3000
"""The number of images that are compared lies between these, if there are so many."""

SHARE_OF_READING, MOST_SMALL_IMAGES = 0.1, 10_000
"""These replace ``SHARE_OF_FEATURES`` and ``MOST_IMAGES`` where networks are trained from scratch on small images."""

SAME_FEATURES = 1e-3
"""Features that differ by at most this fraction of their norm are those of the same network and transform."""

PILOT_IMAGES = 24
"""The number of images that show how fast the network is."""


def advise(
    train: Any,
    learn_motions: LearnMotions | None = None,
    *,
    groups: Sequence[Any] | None = None,
    backbone: str | Callable[[Tensor], Any] | None = "auto",
    minutes: float = 5.0,
    strengths: Sequence[float] = (0.5, 1.0),
    synthetic_images: bool = True,
    strategy: str | None = None,
    standard_views: bool | View | None = None,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
    checkpoint_dir: str | Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Advice:
    r"""Returns whether learned motions or synthetic images help on a training set, and which training is best.

    Linear classifiers are trained on the features of a fixed network, or small networks from scratch. Random splits
    hold out each image once per repetition, and images of one group together. A split learns motions from its training
    images alone. The score of a way of training is the calibrated probability of the right class on held-out images,
    each class counting alike.

    The rule: the gain of each way of training has a prior, the mean and the standard deviation of its gains on other
    data sets. The measured difference, paired by image, updates the prior; its standard error counts each group once.
    The best training without synthetic images has the largest posterior mean. Motions and synthetic images are compared
    on top of it, and motions on top of class-balanced and square-root sampling too. The best of these is used if it
    gains with a probability of at least 90 %, and training with or without it beats chance. With a network and standard
    views, synthetic images compete with as many more standard views of the same images.

    Args:
        train: The training set, a map-style dataset of images of any size and integer labels. Its transforms are not
            used.
        learn_motions: A function ``learn_motions(part, seed)`` that learns from a part of the training set. It returns
            a function ``motion(strength=…, p=…)``, such as the method of a fitted :class:`gae_augment.GAEAugmenter`.
            With ``None``, motions and synthetic images are not compared.
        groups: The object that each image shows, one value per image. ``None`` treats images as independent.
        backbone: ``"auto"`` (a network of torchvision whose weights are on disk, else none), the name of a network of
            torchvision, ``"MODULE:FUNCTION"`` or a callable. It maps uint8 images, with shape :math:`(B, 3, S, S)`, to
            features, with shape :math:`(B, F)`. Its attribute ``size`` is :math:`S`, by default 224. ``None`` trains
            small networks from scratch, on images of at most 64 pixels.
        minutes: The time that the comparison may take. At least one repetition of three splits is done.
        strengths: The strengths of the motions.
        synthetic_images: Whether moved images of the scarce classes alone are compared too.
        strategy: The remedy for imbalance that you train with: ``"plain training"``, ``"class-balanced sampling"``,
            ``"square-root sampling with balanced softmax"``, ``"balanced softmax"`` or ``"balanced softmax with τ =
            1.5"``. The verdict is on top of it. By default the best one is chosen.
        standard_views: Whether you train with crops, mirror images and colours, or the transform that you train with.
            It maps uint8 images, with shape :math:`(3, H, W)` or :math:`(N, C, H, W)`, to such images. By default the
            better way is chosen.
        class_names: The names of the classes, from label 0 on or by label; by default their labels.
        seed: The seed of all random numbers.
        device: A torch device for networks of torchvision and small networks.
        checkpoint_dir: A folder for features and finished splits. The same call resumes from there. If you change
            ``learn_motions`` or its model, name another folder: they are not part of what identifies a call.
        progress: A function that is called with lines of text.

    Raises:
        ValueError: If an argument is invalid, there are fewer than two classes, a class has no name, or nothing can be
            held out.
        FileNotFoundError: If the weights of the named network are not on disk.
    """
    start = time.monotonic()
    check_number(minutes, "minutes", 0.01, 24 * 60)
    check_integer(seed, "seed")
    for strength in strengths:
        check_number(strength, "strengths", 0, 3)
    if strategy is not None and strategy not in STRATEGIES:
        raise ValueError(f"'strategy' is {strategy!r}, but must be one of {', '.join(map(repr, STRATEGIES))}, or None.")
    network = load_backbone(backbone, device)
    name = network.name if network is not None else SMALL_NETWORK
    labels, names, codes = _facts(train, groups, class_names)
    if learn_motions is None:
        strengths = ()

    def most() -> dict[str, Tensor]:
        return {"images": torch.tensor(_most_images(train, network, minutes, len(strengths), synthetic_images))}

    # How many images are compared depends on the speed of the machine. A resumed comparison has as many.
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    setting = Setting(
        labels=labels,
        counts=np.bincount(labels),
        groups=codes,
        strengths=tuple(strengths),
        learn_motions=learn_motions,
        synthetic_images=synthetic_images,
        strategy=strategy,
        standard_views=None if standard_views is None else bool(standard_views),
        transform=standard_views if callable(standard_views) else None,
        seed=seed,
        device=device,
        minutes=minutes,
        folder=None if folder is None else folder / _digest([labels, codes], minutes, len(strengths), name),
        progress=progress,
        start=start,
    )
    rows = _choose(labels, int(setting.keep("images", most)["images"]), seed)
    pictures = Pictures.read(train, rows, LONGEST_SIDE if network is not None else SMALL_SIDE)
    _check_transform(setting.transform, pictures)
    if folder is not None:
        arrays = [labels[rows], codes[rows], *(image.numpy() for image in pictures.images)]
        choices = (name, synthetic_images, strategy, standard_views is None, PARTNERS)
        called = _digest(arrays, setting.strengths, seed, *choices)
        folder = _same_or_new(folder, called, _fingerprint(setting, pictures, network))
    setting = replace(setting, labels=labels[rows], groups=codes[rows], folder=folder)
    progress(
        f"{len(rows)} of {len(labels)} images, {len(names)} classes, {len(np.unique(codes[rows]))} objects; "
        f"network: {name}"
    )
    warnings: list[str] = []
    if network is not None:
        comparison, decision, warnings = compare_frozen(setting, pictures, network)
    else:
        comparison, decision = compare_scratch(setting, small_images(pictures))
    objects = [len(np.unique(codes[labels == label])) for label in range(len(names))]
    facts, of_classes = class_facts(comparison, names, np.bincount(labels).tolist(), objects, decision)
    best = decision.best or decision.base
    return Advice(
        use=decision.use,
        strategy=(best if decision.use else decision.base).strategy,
        standard_views=decision.base.standard,
        more_views=not decision.use and decision.base.more_views,
        ours=best.ours,
        strength=best.strength,
        gain=decision.gain,
        best=name_of(best),
        over=name_of(decision.base),
        rows=decision.rows,
        beats_chance=decision.beats_chance,
        classes=facts,
        warnings=(*warnings, *of_classes),
        backbone=name,
        splits=sum(map(len, comparison.repetitions)),
        images=len(rows),
        seconds=time.monotonic() - start,
    )


def _facts(
    train: Any, groups: Sequence[Any] | None, class_names: Sequence[str] | Mapping[Any, str] | None
) -> tuple[np.ndarray, list[str], np.ndarray]:
    r"""Returns labels from 0 without gaps, the names of the classes, and the group of each image as an integer."""
    raw = DatasetView(train).labels
    present, labels = np.unique(raw, return_inverse=True)
    if len(present) < 2:
        raise ValueError(f"The training set has {len(present)} class, but a classifier needs at least 2. Add images.")
    names = _names(present.tolist(), class_names)
    if groups is None:
        return labels, names, np.arange(len(labels))
    check_groups(groups, len(labels))
    return labels, names, np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]


def _names(labels: list[int], class_names: Sequence[str] | Mapping[Any, str] | None) -> list[str]:
    r"""Returns one name per label. A repeated name gets its label appended."""
    if class_names is None:
        return [str(label) for label in labels]
    if not isinstance(class_names, Mapping):
        if not 0 <= labels[0] <= labels[-1] < len(class_names):
            raise ValueError(
                f"'class_names' lists {len(class_names)} names, of the labels 0 to {len(class_names) - 1}, but the "
                f"labels run from {labels[0]} to {labels[-1]}. Pass a mapping from labels to names."
            )
        class_names = dict(enumerate(class_names))
    if missing := [label for label in labels if label not in class_names]:
        raise ValueError(f"'class_names' has no name for the labels {missing}. Add them.")
    names = [str(class_names[label]) for label in labels]
    return [f"{name}-{label}" if names.count(name) > 1 else name for name, label in zip(names, labels, strict=True)]


def _most_images(train: Any, network: Backbone | None, minutes: float, strengths: int, synthetic_images: bool) -> int:
    r"""Returns how many images can be compared in the time, from the time of a few."""
    rows = range(min(PILOT_IMAGES, len(train)))
    start = time.perf_counter()
    pictures = Pictures.read(train, rows, LONGEST_SIDE if network is not None else SMALL_SIDE)
    if network is None:
        share, most, passes = SHARE_OF_READING, MOST_SMALL_IMAGES, 1.0
    else:
        # Each of three splits moves two thirds of the images. Scarce classes have more standard views.
        share, most = SHARE_OF_FEATURES, MOST_IMAGES
        passes = 2 + FOLDS * (2 / 3) * strengths + bool(synthetic_images and strengths)
        # The first pass prepares the network.
        for _ in range(2):
            start = time.perf_counter()
            pictures.features(rows, network, moves=None, then=standard_views(network.size), seed=0)
    seconds = (time.perf_counter() - start) / len(rows)
    return min(most, max(LEAST_IMAGES, int(share * 60 * minutes / (seconds * passes))))


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


def _fingerprint(setting: Setting, pictures: Pictures, network: Backbone | None) -> Tensor:
    r"""Returns features of a few pictures, which tell networks and transforms apart."""
    rows = range(min(PILOT_IMAGES, len(pictures.images)))
    standards = (False, True) if setting.standard_views is None else (setting.standard_views,)
    shown = network or _Pixels(SMALL_SIDE)
    views = [setting.view(shown.size, standard=standard) for standard in standards]
    return torch.cat([pictures.features(rows, shown, moves=None, then=view, seed=0) for view in views]).float()


def _same_or_new(folder: Path, called: str, fingerprint: Tensor) -> Path:
    r"""Returns the folder of a comparison with this name and fingerprint, or a new one.

    Fingerprints are compared with a tolerance, because features differ in the last digits from call to call.
    """
    number = 0
    while True:
        path = folder / f"{called}-{number}"
        file = path / "fingerprint.safetensors"
        if not file.is_file():
            path.mkdir(parents=True, exist_ok=True)
            write_file(file, {}, {"features": fingerprint})
            return path
        known = read_file(file)[1]["features"]
        if known.shape == fingerprint.shape and (known - fingerprint).norm() <= SAME_FEATURES * known.norm():
            return path
        number += 1


class _Pixels:
    r"""The pixels of images as features."""

    name = "pixels"

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, images: Tensor) -> Tensor:
        r"""Returns the pixels."""
        return images.flatten(1).float()


def _check_transform(transform: View | None, pictures: Pictures) -> None:
    r"""Checks that a transform keeps images uint8.

    Raises:
        ValueError: If it returns something else.
    """
    if transform is None:
        return
    image = pictures.images[0].contiguous()
    with global_seed(0):
        shown = transform(image)
    if not isinstance(shown, Tensor) or shown.dtype != torch.uint8 or shown.ndim != 3 or len(shown) != len(image):
        kind = f"{shown.dtype} with shape {tuple(shown.shape)}" if isinstance(shown, Tensor) else type(shown).__name__
        raise ValueError(
            f"'standard_views' returns {kind} for a uint8 image with shape {tuple(image.shape)}, but must return such "
            f"an image. Leave out ToDtype, Normalize and what converts images."
        )


def _digest(arrays: Iterable[np.ndarray], *settings: Any) -> str:
    r"""Returns a name for what a file depends on."""
    digest = hashlib.sha256(repr([__version__, *settings]).encode())
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
