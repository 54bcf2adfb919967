r"""The sources of synthetic images: our models and other methods."""

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
from gae_augment._utils.seeding import make_generator
from gae_augment.data import resolve_strategy
from gae_augment.evaluation.images import Labelled

from .deepsmote import DeepSMOTE
from .pythae_models import fit_pythae

NOTHING = "nothing"
"""The source of no images."""

AUTO = "auto"
"""The value of a synthetic fraction that is chosen on held-out training images."""

Make = Callable[[Labelled, dict[int, int], int], dict[int, Tensor]]
"""From training images, the number to make of each class and a seed, the new images of each class."""


@dataclass(frozen=True)
class Source:
    r"""A source of synthetic images, and how they are mixed with real ones.

    Attributes:
        name: Its text on the command line.
        make: The function that returns the images.
        mixing: Arguments of :class:`gae_augment.MixedSampler`.
    """

    name: str
    make: Make
    mixing: dict[str, Any] = field(default_factory=dict)

    def images(self, train: Labelled, seed: int) -> Labelled:
        r"""Returns new images that fill every class up to the largest one, and their labels."""
        missing = resolve_strategy("auto", train[1].numpy())
        samples = self.make(train, {int(label): number for label, number in missing.items() if number}, seed)
        if not samples:
            return train[0][:0], train[1][:0]
        labels = torch.tensor(list(samples)).repeat_interleave(
            torch.tensor([len(images) for images in samples.values()])
        )
        return torch.cat(list(samples.values())), labels


def by_augmenter(train: Labelled, missing: dict[int, int], seed: int, **hyper_parameters: Any) -> dict[int, Tensor]:
    r"""Samples images from one of our models."""
    augmenter = GAEAugmenter(GenerativeModel(**hyper_parameters), random_state=seed, progress=False).fit(*train)
    return {label: augmenter.sample(label, number, seed=seed) for label, number in missing.items()}


def by_sampler(train: Labelled, missing: dict[int, int], seed: int, *, kind: str) -> dict[int, Tensor]:
    r"""Interpolates pixels: SMOTE, ADASYN."""
    from imblearn import over_sampling

    images, labels = train
    pixels, y = images.flatten(1).float().numpy(), labels.numpy()
    argument = {"SMOTE": "k_neighbors", "ADASYN": "n_neighbors"}[kind]
    counts = labels.bincount().tolist()
    samples = {}
    for label, number in missing.items():
        sampler = getattr(over_sampling, kind)(
            sampling_strategy={label: counts[label] + number},
            random_state=seed,
            **{argument: min(5, counts[label] - 1)},
        )
        try:
            new = sampler.fit_resample(pixels, y)[0][len(y) :]
        except (ValueError, RuntimeError) as error:
            # ADASYN makes no images of a class whose neighbours all belong to the same class.
            if kind != "ADASYN" or not any(words in str(error) for words in ("neigbours", "samples will be generated")):
                raise
            continue
        values = np.clip(np.rint(new), 0, 255).astype(np.uint8)
        samples[label] = torch.from_numpy(values).view(-1, *images.shape[1:])
    return samples


def by_deepsmote(train: Labelled, missing: dict[int, int], seed: int, **settings: Any) -> dict[int, Tensor]:
    r"""Interpolates codes."""
    model = DeepSMOTE(**settings).fit(train, seed)
    return {label: model.sample(label, number, seed) for label, number in missing.items()}


def nothing(train: Labelled, missing: dict[int, int], seed: int) -> dict[int, Tensor]:
    r"""Returns no images."""
    return {}


def copies(train: Labelled, missing: dict[int, int], seed: int) -> dict[int, Tensor]:
    r"""Returns copies of random real images: with soft labels, a control for these labels without new images."""
    images, labels = train
    generator, samples = make_generator(seed, "copies"), {}
    for label, number in missing.items():
        members = images[labels == label]
        samples[label] = members[torch.randint(len(members), (number,), generator=generator)]
    return samples


SOURCES: dict[str, Make] = {
    NOTHING: nothing,
    **{name: partial(by_augmenter, definition=name) for name in MODELS},
    "smote": partial(by_sampler, kind="SMOTE"),
    "adasyn": partial(by_sampler, kind="ADASYN"),
    "deepsmote": by_deepsmote,
    "pythae_vae": partial(fit_pythae, kind="vae"),
    "pythae_rhvae": partial(fit_pythae, kind="rhvae"),
    "copies": copies,
}
"""The sources by name."""

MIXING = ("synthetic_fraction", "real_last", "soft_labels")


def parse_source(text: str) -> Source:
    r"""Returns the source of a text such as ``"gae"`` or ``"gae:synthetic_fraction=0.3,step=1"``.

    Arguments are those of :class:`gae_augment.MixedSampler` or of the source, numbers or text.

    Raises:
        ValueError: If the source or the argument does not exist.
    """
    name, _, arguments = text.partition(":")
    if name not in SOURCES:
        raise ValueError(f"{name!r} is not a source. Use one of {', '.join(map(repr, SOURCES))}.")
    pairs = [pair.partition("=") for pair in arguments.split(",") if pair]
    if not all(equals and value for _, equals, value in pairs):
        raise ValueError(f"The source is {text!r}, but its arguments need values, as in 'gae:synthetic_fraction=0.3'.")
    chosen: dict[str, Any] = {key: _value(value) for key, _, value in pairs}
    mixing = {key: chosen.pop(key) for key in MIXING if key in chosen}
    if unknown := sorted(set(chosen) - _arguments(name)):
        raise ValueError(f"The source is {text!r}, but {name!r} has no argument {unknown[0]!r}.")
    # The sampler checks the values before any training.
    try:
        MixedSampler(_Pair(), **{key: value for key, value in mixing.items() if key != "soft_labels" and value != AUTO})
    except TypeError as error:
        raise ValueError(f"The source is {text!r}, but arguments of the sampler must be numbers: {error}.") from error
    weight = mixing.get("soft_labels", 0)
    if isinstance(weight, str) or not 0 <= weight <= 1:
        raise ValueError(f"'soft_labels' is {weight!r}, but must be a weight between 0 and 1.")
    return Source(text, partial(SOURCES[name], **chosen) if chosen else SOURCES[name], mixing)


def _arguments(name: str) -> set[str]:
    r"""Returns the names of a source's arguments, without those of the sampler."""
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
