r"""What a report tells, gathered from a fitted augmenter and the images that it was fitted to."""

__all__ = ["ClassContents", "Contents", "Pair", "gather"]

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from .._utils.seeding import make_generator
from ..assessment import assess
from ..augmenter import GAEAugmenter
from ..data import Label, ValueScale
from ..evaluation import ClassifierGain, FeatureExtractor, Memorisation, nearest
from ..fitting import FitReport

VERSIONS = ("gae-augment", "torch", "torchvision", "scikit-learn", "torch-fidelity")


@dataclass(frozen=True)
class Pair:
    r"""A synthetic image beside the training image that is nearest to it.

    Attributes:
        synthetic: The synthetic image.
        training: The training image.
        distance: The root of their pixels' mean squared difference, the range of values being 1.
    """

    synthetic: Tensor
    training: Tensor
    distance: float


@dataclass(frozen=True)
class ClassContents:
    r"""What there is to tell of a class that has a generator.

    Attributes:
        name: The name of the class.
        fit: What its fit came to.
        real: Some of its real images, for the eye, with shape :math:`(n, C, H, W)` in [0, 1]; empty for vectors.
        synthetic: As many synthetic ones.
        nearest: The synthetic images that are nearest to a training image, the nearest first.
        codes: The codes of real images, with shape :math:`(n, 2)`: along their two principal axes.
        new_codes: Codes that synthetic images are made of, along the same axes.
    """

    name: str
    fit: FitReport
    real: Tensor
    synthetic: Tensor
    nearest: tuple[Pair, ...]
    codes: Tensor
    new_codes: Tensor


@dataclass(frozen=True)
class Contents:
    r"""All that a report tells.

    Attributes:
        counts: The name of each class, its real images, and the synthetic ones that are added to it.
        classes: The classes that have a generator.
        fidelity: The figures of :func:`gae_augment.evaluation.fidelity`, by name; empty without held-out images.
        memorisation: How near synthetic images are to training images, if there are held-out images.
        gain: What a classifier gained, if it was measured.
        settings: The augmenter's parameters.
        versions: The versions that it was made with.
    """

    counts: tuple[tuple[str, int, int], ...]
    classes: tuple[ClassContents, ...]
    fidelity: dict[str, float] = field(default_factory=dict)
    memorisation: Memorisation | None = None
    gain: ClassifierGain | None = None
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def gather(
    augmenter: GAEAugmenter,
    data: Any,
    *,
    held_out: Any = None,
    extractor: FeatureExtractor | None = None,
    gain: ClassifierGain | None = None,
    images: int = 12,
    pairs: int = 4,
    seed: int = 0,
) -> Contents:
    r"""Returns what there is to tell; the arguments are those of :func:`gae_augment.report.write_report`."""
    found = assess(augmenter, data, held_out=held_out, extractor=extractor, seed=seed)
    generator = make_generator(seed, "report")
    classes = [
        _of_class(augmenter, label, found.training[label], made, images, pairs, generator)
        for label, made in found.made.items()
    ]
    return Contents(
        counts=tuple(
            (augmenter.class_names_[label], number, augmenter.sampling_strategy_.get(label, 0))
            for label, number in augmenter.counts_.items()
        ),
        classes=tuple(classes),
        fidelity=found.fidelity,
        memorisation=found.memorisation,
        gain=gain,
        settings={name: str(value) for name, value in augmenter.get_params(deep=False).items()},
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    )


def _of_class(
    augmenter: GAEAugmenter,
    label: Label,
    training: Tensor,
    made: Tensor,
    images: int,
    pairs: int,
    generator: torch.Generator,
) -> ClassContents:
    own = augmenter.models_[label]
    codes = own.encode(training).float().cpu()
    new_codes = own.draw_codes(len(made), generator).float().cpu()
    axes = torch.linalg.svd(codes - codes.mean(dim=0), full_matrices=False).Vh[:2].T
    seen, seen_made = (_for_the_eye(some, own.values) for some in (training, made))
    found: tuple[Pair, ...] = ()
    if seen.ndim == 4:
        distances, places = nearest(seen_made.flatten(1), seen.flatten(1))
        order = distances.argsort(stable=True)[:pairs].tolist()
        found = tuple(Pair(seen_made[one], seen[places[one]], distances[one].item()) for one in order)
    return ClassContents(
        name=augmenter.class_names_[label],
        fit=own.report,
        real=seen[:images],
        synthetic=seen_made[:images],
        nearest=found,
        codes=(codes - codes.mean(dim=0)) @ axes,
        new_codes=(new_codes - codes.mean(dim=0)) @ axes,
    )


def _for_the_eye(images: Tensor, values: ValueScale) -> Tensor:
    r"""Returns images with shape :math:`(n, C, H, W)`, C 1 or 3, in [0, 1]; none of vectors."""
    if images.ndim == 2:
        return torch.zeros(0)
    x = images.double()
    if values.kind == "levels":
        x = x if images.dtype == torch.bool else x / 255
    elif values.kind == "standardised":
        assert values.bounds is not None
        low, high = values.bounds.amin(), values.bounds.amax()
        x = (x - low) / (high - low).clamp(min=1e-12)
    x = x[:, None] if x.ndim == 3 else x
    return (x if x.shape[1] in (1, 3) else x[:, :3] if x.shape[1] == 4 else x[:, :1]).float()
