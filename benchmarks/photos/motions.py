r"""Models of the classes at a small working size, and the motions that they have learned."""

__all__ = ["ClassModels", "elastic_fields", "evidence_of_motion"]

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import dctn, idctn
from sklearn.base import clone
from torch import Tensor
from torchvision.transforms.v2 import functional

from gae_augment import MODELS, GenerativeModel
from gae_augment._utils.seeding import derive_seed, make_generator
from gae_augment._utils.threads import map_in_threads
from gae_augment.fitting import FittedModel, fit_model, models_from_state, models_to_state
from gae_augment.motion import MotionBank, learn_motions
from gae_augment.motion.fields import displacement, move_images
from gae_augment.motion.registration import register
from gae_augment.synthesis import draw_codes, sample

from ..kept import Content, kept

WORKING_SIDE = 64
"""The side in pixels of the images that the models are fitted to."""

MOTIONS = 200
"""The number of motions of each class."""

EVIDENCE_PAIRS = 50
"""The number of pairs of decoded images that show whether a class moves."""

REGISTERED_SIDE = 32
"""The side in pixels of images that are registered."""

LARGE_CLASS = 100
LARGE_CLASS_MODEL = {"batch_size": 16, "epochs": 25}
"""Classes of more images than this are fitted with these settings, in a third of the usual time."""


@dataclass(frozen=True)
class ClassModels:
    r"""The fitted models of one training set, which are stored on disk.

    Attributes:
        images: The training images, uint8 with shape :math:`(N, 3, H, W)`.
        labels: Their labels.
        seed: The seed of the fits, the motions and the images.
        folder: The folder of the stored models.
        model: The model of each class.
    """

    images: Tensor
    labels: Tensor
    seed: int
    folder: Path
    model: GenerativeModel

    @cached_property
    def fitted(self) -> dict[int, FittedModel]:
        r"""The fitted models, by label."""
        labels = self.labels.unique().tolist()
        return dict(zip(labels, map_in_threads(self._fit, labels), strict=True))

    def _fit(self, label: int) -> FittedModel:
        images = self.images[self.labels == label]
        # Grey photographs have three equal channels.
        if images.shape[1] == 3 and torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2]):
            images = images[:, :1]
        small = images
        if max(images.shape[-2:]) > WORKING_SIDE:
            small = functional.resize(images, [WORKING_SIDE, WORKING_SIDE], antialias=True)

        model = clone(self.model)
        if len(small) > LARGE_CLASS and model.epochs == "auto":
            model.set_params(**LARGE_CLASS_MODEL)

        def make() -> Content:
            fitted = fit_model(small, model, seed=derive_seed(self.seed, "fit", label))
            headers, tensors = models_to_state({label: fitted})
            return {"models": headers}, tensors

        header, tensors = kept(self.folder / f"model-{label}.safetensors", make)
        return models_from_state(header["models"], tensors, [label], MODELS, "cpu")[label]

    @cached_property
    def fields(self) -> dict[int, Tensor]:
        r"""The velocity fields of each class, by label."""

        def make() -> Content:
            seeds = {label: derive_seed(self.seed, "motions", label) for label in self.fitted}
            fields = {
                str(label): learn_motions(fitted, MOTIONS, seed=seeds[label]) for label, fitted in self.fitted.items()
            }
            return {}, fields

        return {int(label): fields for label, fields in kept(self.folder / "motions.safetensors", make)[1].items()}

    @cached_property
    def evidence(self) -> dict[int, float]:
        r"""The evidence of motion in each class, by label."""

        def make() -> Content:
            seeds = {label: derive_seed(self.seed, "evidence", label) for label in self.fitted}
            return {str(label): evidence_of_motion(fitted, seeds[label]) for label, fitted in self.fitted.items()}, {}

        return {int(label): weight for label, weight in kept(self.folder / "evidence.safetensors", make)[0].items()}

    def bank(self, label: int | None = None, *, weighted: bool = False) -> MotionBank:
        r"""Returns the motions of a class, or of all classes, weakened by the evidence of motion if ``weighted``."""
        fields: dict[Any, Tensor] = {
            chosen: self.fields[chosen] for chosen in (self.fields if label is None else [label])
        }
        if weighted:
            fields = {chosen: (self.evidence[chosen] * values.float()).half() for chosen, values in fields.items()}
        return MotionBank(fields)

    def residual_images(self, label: int, n: int, side: int) -> Tensor:
        r"""Returns new images of a class, enlarged, uint8 with shape :math:`(n, 3, side, side)`."""
        small = sample(self.fitted[label], n, seed=derive_seed(self.seed, "residual", label))
        return functional.resize(small.expand(-1, 3, -1, -1), [side, side], antialias=True)


def evidence_of_motion(fitted: FittedModel, seed: int) -> float:
    r"""Returns how much better motion explains a class's changes of decoded images than foreign changes, in [0, 1].

    Each pair of decoded images :math:`a` and :math:`b` is registered. So are :math:`a` and :math:`a + b' - a'`, with
    the change of another pair. Let :math:`r` and :math:`r_0` be the medians of the explained fractions of the squared
    differences. The evidence is :math:`(r - r_0) / (1 - r_0)`. If a class varies by light or texture, motion explains
    its changes no better than foreign ones.

    Args:
        fitted: The model of the class.
        seed: The seed of the codes.
    """
    assert fitted.codes is not None
    z = draw_codes(fitted, EVIDENCE_PAIRS, make_generator(seed, "pairs")).float()
    start = fitted.codes[torch.cdist(z, fitted.codes).argmin(dim=1)]
    target = start + fitted.plan.step * (z - start)
    a, b = (
        functional.resize(fitted.values.to_network(fitted.decode(codes)), [REGISTERED_SIDE], antialias=True)
        for codes in (start, target)
    )
    explained = [_explained(a, other) for other in (b, a + (b - a).roll(1, dims=0))]
    return max(0.0, (explained[0] - explained[1]) / (1 - explained[1]))


def _explained(a: Tensor, b: Tensor) -> float:
    moved = move_images(a, displacement(register(a, b)))
    a, b, moved = (
        (x - x.mean(dim=(1, 2, 3), keepdim=True)) / (x.std(dim=(1, 2, 3), correction=0, keepdim=True) + 1e-6)
        for x in (a, b, moved)
    )
    errors = [(x - b).square().mean(dim=(1, 2, 3)) for x in (moved, a)]
    return float((1 - errors[0] / errors[1].clamp(min=1e-6)).median())


def elastic_fields(fields: Tensor, learned: Tensor, generator: torch.Generator) -> Tensor:
    r"""Returns random velocity fields as strong and as smooth as learned ones, but without what was learned.

    The coefficients of a cosine transform are Gaussian, with the mean square that learned fields have at each
    frequency. Each random field then gets the mean square of one learned field.

    Args:
        fields: The learned fields that give their mean squares, with shape :math:`(B, 2, 8, 8)`.
        learned: All learned fields, which give the spectrum, with shape :math:`(N, 2, 8, 8)`.
        generator: The random number generator.
    """
    spectrum = np.sqrt(np.square(dctn(learned.double().numpy(), axes=(2, 3), norm="ortho")).mean(axis=0))
    noise = torch.randn(fields.shape, generator=generator, dtype=torch.float64).numpy() * spectrum
    random = torch.from_numpy(idctn(noise, axes=(2, 3), norm="ortho")).to(fields)
    power = [field.square().mean(dim=(1, 2, 3), keepdim=True) for field in (fields, random)]
    return random * (power[0] / power[1].clamp(min=1e-12)).sqrt()
