r"""Where synthetic images come from: our models, and the peers'."""

__all__ = ["AUTO", "NOTHING", "SOURCES", "Source", "parse_source"]

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gae_augment import MODELS, GAEAugmenter, GenerativeModel, MixedSampler
from gae_augment.data import resolve_strategy
from gae_augment.evaluation.images import Labelled

from .deepsmote import DeepSMOTE
from .pythae_models import fit_pythae

NOTHING = "nothing"
"""The source of no images."""

AUTO = "auto"
"""The synthetic fraction that is chosen on held-out training images."""

Make = Callable[[Labelled, dict[int, int], int], dict[int, Tensor]]
"""From training images, the number to make of each class and a seed, the new images of each class."""


@dataclass(frozen=True)
class Source:
    r"""A source of synthetic images, and how they are mixed in.

    Attributes:
        name: As it was asked for.
        make: Makes the images.
        mixing: Arguments of :class:`gae_augment.MixedSampler`.
    """

    name: str
    make: Make
    mixing: dict[str, Any] = field(default_factory=dict)

    def images(self, train: Labelled, seed: int) -> Labelled:
        r"""Returns as many new images of each class as it lacks to the largest, and their labels."""
        missing = resolve_strategy("auto", train[1].numpy())
        made = self.make(train, {int(label): number for label, number in missing.items() if number}, seed)
        if not made:
            return train[0][:0], train[1][:0]
        labels = torch.tensor(list(made)).repeat_interleave(torch.tensor([len(images) for images in made.values()]))
        return torch.cat(list(made.values())), labels


def by_augmenter(train: Labelled, missing: dict[int, int], seed: int, **hyper_parameters: Any) -> dict[int, Tensor]:
    r"""Samples images from one of our models."""
    augmenter = GAEAugmenter(GenerativeModel(**hyper_parameters), random_state=seed, progress=False).fit(*train)
    return {label: augmenter.sample(label, number, seed=seed) for label, number in missing.items()}


def by_sampler(train: Labelled, missing: dict[int, int], seed: int, *, kind: str) -> dict[int, Tensor]:
    r"""Makes images by interpolation of pixels: SMOTE, ADASYN."""
    from imblearn import over_sampling

    images, labels = train
    pixels, y = images.flatten(1).float().numpy(), labels.numpy()
    argument = {"SMOTE": "k_neighbors", "ADASYN": "n_neighbors"}[kind]
    counts = labels.bincount().tolist()
    made = {}
    for label, number in missing.items():
        sampler = getattr(over_sampling, kind)(
            sampling_strategy={label: counts[label] + number},
            random_state=seed,
            **{argument: min(5, counts[label] - 1)},
        )
        try:
            new = sampler.fit_resample(pixels, y)[0][len(y) :]
        except (ValueError, RuntimeError) as error:
            # It makes images where a class borders on others, and none of one whose neighbours are its own.
            if kind != "ADASYN" or not any(part in str(error) for part in ("neigbours", "samples will be generated")):
                raise
            continue
        values = np.clip(np.rint(new), 0, 255).astype(np.uint8)
        made[label] = torch.from_numpy(values).view(-1, *images.shape[1:])
    return made


def by_deepsmote(train: Labelled, missing: dict[int, int], seed: int, **settings: Any) -> dict[int, Tensor]:
    r"""Makes images by interpolation of codes."""
    model = DeepSMOTE(**settings).fit(train, seed)
    return {label: model.sample(label, number, seed) for label, number in missing.items()}


def nothing(train: Labelled, missing: dict[int, int], seed: int) -> dict[int, Tensor]:
    r"""Makes no images."""
    return {}


SOURCES: dict[str, Make] = {
    NOTHING: nothing,
    **{name: partial(by_augmenter, definition=name) for name in MODELS},
    "smote": partial(by_sampler, kind="SMOTE"),
    "adasyn": partial(by_sampler, kind="ADASYN"),
    "deepsmote": by_deepsmote,
    "pythae_vae": partial(fit_pythae, kind="vae"),
    "pythae_rhvae": partial(fit_pythae, kind="rhvae"),
}
"""The sources by name."""

MIXING = ("synthetic_fraction", "real_last", "soft_labels")


def parse_source(text: str) -> Source:
    r"""Returns the source of a text such as ``"gae"`` or ``"gae:synthetic_fraction=0.3,anchored=1"``.

    Arguments are those of :class:`gae_augment.MixedSampler` or of the source, numbers or text.

    Raises:
        ValueError: If there is no such source, or it has no such argument.
    """
    name, _, arguments = text.partition(":")
    if name not in SOURCES:
        raise ValueError(f"Sources are {', '.join(map(repr, SOURCES))}, and there is {name!r}.")
    pairs = [pair.partition("=") for pair in arguments.split(",") if pair]
    if not all(equals and value for _, equals, value in pairs):
        raise ValueError(f"Arguments of a source have values, as in 'gae:synthetic_fraction=0.3', and it is {text!r}.")
    chosen: dict[str, Any] = {key: _value(value) for key, _, value in pairs}
    mixing = {key: chosen.pop(key) for key in MIXING if key in chosen}
    if unknown := sorted(set(chosen) - _arguments(name)):
        raise ValueError(f"{name!r} has no argument {unknown[0]!r}; it is {text!r}.")
    # The sampler's own checks, before any work.
    try:
        MixedSampler(_Pair(), **{key: value for key, value in mixing.items() if key != "soft_labels" and value != AUTO})
    except TypeError as error:
        raise ValueError(f"Arguments of the sampler are numbers, and there is {text!r}: {error}.") from error
    weight = mixing.get("soft_labels", 0)
    if isinstance(weight, str) or not 0 <= weight <= 1:
        raise ValueError(f"'soft_labels' is a weight between 0 and 1, and it is {weight}.")
    return Source(text, partial(SOURCES[name], **chosen) if chosen else SOURCES[name], mixing)


def _arguments(name: str) -> set[str]:
    r"""Returns the names of a source's own arguments."""
    if name in MODELS:
        return GenerativeModel().get_params().keys() - {"definition"}
    return set(inspect.signature(DeepSMOTE).parameters) if name == "deepsmote" else set()


class _Pair:
    targets, is_synthetic = (0, 1), (False, False)


def _value(text: str) -> float | int | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
