r"""Models of the classes at a small working size, and the motions that they have learned."""

__all__ = ["ClassModels", "elastic_fields"]

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
from gae_augment._utils.seeding import derive_seed
from gae_augment._utils.threads import map_in_threads
from gae_augment.fitting import FittedModel, fit_model, models_from_state, models_to_state
from gae_augment.motion import MotionBank, learn_motions
from gae_augment.synthesis import sample

from ..kept import Content, kept

WORKING_SIDE = 64
"""The side in pixels of the images that the models are fitted to."""

MOTIONS = 200
"""The number of motions of each class."""

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

    def bank(self, label: int | None = None) -> MotionBank:
        r"""Returns the motions of a class, or of all classes."""
        chosen: dict[Any, Tensor] = dict(self.fields) if label is None else {label: self.fields[label]}
        return MotionBank(chosen)

    def residual_images(self, label: int, n: int, side: int) -> Tensor:
        r"""Returns new images of a class, enlarged, uint8 with shape :math:`(n, 3, side, side)`."""
        small = sample(self.fitted[label], n, seed=derive_seed(self.seed, "residual", label))
        return functional.resize(small.expand(-1, 3, -1, -1), [side, side], antialias=True)


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
