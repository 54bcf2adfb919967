r"""What a generator is made of and how it is trained."""

__all__ = ["GeneratorSettings"]

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import torch

from .._utils.devices import multiplies_bfloat16_fast
from .networks import Architecture, resolve_architecture
from .objectives import Model, resolve_model
from ..fitting.training import SCHEDULES

STARTS = 8
"""The first weights that are tried for vectors."""

REACH = 1.5
"""How far a training image is moved towards a new code, where ``anchored="auto"``; 1 is all the way.

Beyond it images of a scarce class differ more. On validation images of the blood cells a classifier gained 0.39 (1),
0.66 (1.5) and 0.91 points (2) with 40 images of the two scarce classes, and 0.34 (1) and 0.67 (1.5) with 210. On
training images that the counts of DeepSMOTE leave out it gained, over class-balanced sampling, on Fashion-MNIST 1.6 (1)
and 1.9 points (1.5) without and 0.4 and 0.6 with random affine maps of all images, and on MNIST 0.9 and 1.2, 0.2 and
0.3; images that are not anchored gained 0.0, 0.5, 0.4 and 0.1.
"""

FARTHEST = 3.0
"""The farthest that it can be moved."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What the products of a training are computed in."""

CHOSEN_DENSITIES = ("mixture", "normal", "standard_normal")
"""The densities that need nothing of the model and can be chosen for any."""


@dataclass(frozen=True)
class GeneratorSettings:
    r"""What a generator is made of and how it is trained; the parameters of :class:`gae_augment.GAEAugmenter`.

    Raises:
        ValueError: If a value is not one of those that are allowed.
    """

    model: str | Model = "gae"
    latent_dim: int | Literal["auto"] = "auto"
    architecture: Architecture = "auto"
    density: str = "auto"
    components: int | tuple[int, int] | Literal["auto"] = "auto"
    delta: float | Literal["auto"] = "auto"
    epochs: int | Literal["auto"] = "auto"
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    precision: str = "auto"
    starts: int | Literal["auto"] = "auto"
    truncated: bool = True
    anchored: bool | float | Literal["auto"] = "auto"
    max_similarity: float | None = None
    device: str = "auto"
    n_threads: int = 1

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "density": ("auto", *CHOSEN_DENSITIES),
            "schedule": SCHEDULES,
            "precision": ("auto", *PRECISIONS),
        }
        model = resolve_model(self.model)
        if isinstance(self.architecture, list | tuple):
            # A file's header has lists only.
            object.__setattr__(self, "architecture", tuple(self.architecture))
        resolve_architecture(self.architecture, (1, 1, 1))
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"'{name}' is one of {', '.join(map(repr, allowed))}, and it is {getattr(self, name)!r}."
                )
        if isinstance(self.components, list | tuple):
            object.__setattr__(self, "components", tuple(self.components))
            if (
                len(self.components) != 2
                or not all(type(number) is int for number in self.components)
                or not 1 <= self.components[0] <= self.components[1]
            ):
                raise ValueError(
                    f"'components' is the most components, or the least and the most, such as (10, 10) for just ten, "
                    f"and it is {self.components!r}."
                )
        for name in ("latent_dim", "components", "epochs", "batch_size", "starts", "n_threads"):
            value = getattr(self, name)
            if (value == "auto" and name not in ("batch_size", "n_threads")) or isinstance(value, tuple):
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
                raise ValueError(f"'{name}' is an integer of at least 1, and it is {value!r}.")
            object.__setattr__(self, name, int(value))
        for name in ("delta", "learning_rate"):
            value = getattr(self, name)
            if value == "auto" and name == "delta":
                continue
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
                raise ValueError(f"'{name}' is a number above 0, and it is {value!r}.")
            object.__setattr__(self, name, float(value))
        if self.delta != "auto" and not model.bounded:
            raise ValueError(
                f"'delta' is a boundary for models that train until their reconstruction error is small, and "
                f"{model.name!r} trains for all its epochs; it is {self.delta!r}. Leave it at 'auto'."
            )
        if self.truncated not in (True, False):
            raise ValueError(f"'truncated' is True or False, and it is {self.truncated!r}.")
        if self.anchored not in (True, False, "auto"):
            if not isinstance(self.anchored, Real) or not 0 < float(self.anchored) <= FARTHEST:
                raise ValueError(
                    f"'anchored' is True, False or 'auto', or how far a training image is moved towards a new code, a "
                    f"number above 0 and at most {FARTHEST:g}, and it is {self.anchored!r}."
                )
            object.__setattr__(self, "anchored", float(self.anchored))
        if self.max_similarity is not None:
            if not isinstance(self.max_similarity, Real) or not 0 < float(self.max_similarity) <= 1:
                raise ValueError(
                    f"'max_similarity' is None, or the largest correlation of a new image with a training image, a "
                    f"number above 0 and at most 1, and it is {self.max_similarity!r}. 0.95 is a good first choice."
                )
            object.__setattr__(self, "max_similarity", float(self.max_similarity))
        if self.device != "auto":
            try:
                torch.empty(0, device=torch.device(self.device))
            except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
                raise ValueError(
                    f"'device' is one that torch can use here, and it is {self.device!r}. Use 'auto' or 'cpu'. "
                    f"({error})"
                ) from error
            object.__setattr__(self, "device", str(self.device))

    def latent_dim_for(self, shape: tuple[int, ...]) -> int:
        r"""Returns the latent dimension for images of a shape: 10 for up to 1024 values, else 32, as in the paper."""
        if self.latent_dim != "auto":
            return self.latent_dim
        pixels = math.prod(shape)
        return min(pixels, 10 if pixels <= 1024 else 32)

    def component_range(self, most: int) -> tuple[int, int]:
        r"""Returns the least and the most components; with ``"auto"`` from 1 to so many."""
        if isinstance(self.components, tuple):
            return self.components
        return 1, most if self.components == "auto" else self.components

    def precision_for(self, shape: tuple[int, ...], device: torch.device) -> torch.dtype:
        r"""Returns what the products of a training on data of a shape are computed in.

        With ``"auto"`` it is bfloat16 for images where the device is fast at it: on a CPU that is so for fully
        connected networks. Vectors need more than its three digits.
        """
        if self.precision != "auto":
            return PRECISIONS[self.precision]
        convolutional = resolve_architecture(self.architecture, shape) == "conv"
        suits = len(shape) > 1 and not (device.type == "cpu" and convolutional)
        return torch.bfloat16 if suits and multiplies_bfloat16_fast(device) else torch.float32

    def starts_for(self, shape: tuple[int, ...]) -> int:
        r"""Returns how many first weights are tried for data of a shape.

        A code of fewer dimensions than a vector has can begin folded, two parts of the data on one code, and no
        training unfolds it. Images have not shown it.
        """
        if self.starts != "auto":
            return self.starts
        return STARTS if len(shape) == 1 and self.latent_dim_for(shape) < shape[0] else 1

    def reach_for(self, shape: tuple[int, ...]) -> float | None:
        r"""Returns how far training images of a shape are moved towards new codes, or ``None`` if none is kept.

        With ``"auto"`` images are, and vectors are not. Images hold detail that no small code has, and a class whose
        synthetic images lack it is taken for a blurred one.
        """
        if self.anchored == "auto":
            return REACH if len(shape) > 1 else None
        # True is 1.0, all the way.
        return float(self.anchored) or None

    def keeps_images_of(self, shape: tuple[int, ...]) -> bool:
        r"""Returns whether a generator of data of a shape keeps the training images."""
        return self.reach_for(shape) is not None or self.max_similarity is not None

    def check_shape(self, shape: tuple[int, ...]) -> None:
        r"""Raises a ValueError if the settings do not suit data of a shape."""
        resolve_architecture(self.architecture, shape)
        if self.max_similarity is not None and len(shape) == 1:
            raise ValueError(
                f"'max_similarity' compares images, and these are vectors of {shape[0]} features. Leave it out."
            )
