r"""A generative model with its hyper-parameters."""

__all__ = ["LR_SCHEDULES", "MAX_STEP", "PRECISIONS", "SYNTHESES", "GenerativeModel"]

import math
from numbers import Integral, Real
from typing import Any, Literal, Self

import torch
from sklearn.base import BaseEstimator

from .definitions import ModelDefinition, resolve_definition
from .networks import Architecture, check_architecture

LR_SCHEDULES = ("cosine", "constant")
"""The names of the learning-rate schedules."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The data types of matrix products in training, by name."""

DENSITIES_OF_ANY_MODEL = ("mixture", "normal", "standard_normal")
"""The names of the latent densities that every model accepts."""

SYNTHESES = ("decoded", "residual", "deformed")
"""The ways to make a new image, by what they keep of a training image: nothing, its detail, or all its texture."""

MAX_STEP = 3.0
"""The largest ``step`` that :class:`GenerativeModel` accepts."""


class GenerativeModel(BaseEstimator):
    r"""A generative model and its hyper-parameters, for :class:`gae_augment.GAEAugmenter`.

    The class supports scikit-learn's ``clone``, ``get_params`` and ``set_params``, but has no ``fit`` method. In a
    parameter search over an augmenter, hyper-parameters have names like ``model__latent_dim``. After a fit of the
    augmenter, ``augmenter.report_[label].plan`` shows the value of each ``"auto"``.

    Below, a code is a latent vector. The values of an image are its pixels in all channels, and the values of a vector
    are its features.

    Args:
        definition: A key of :data:`gae_augment.MODELS`, or a custom :class:`gae_augment.models.ModelDefinition`.
        latent_dim: The latent dimension. ``"auto"`` is 10 for images or vectors of up to 1024 values, and 32 for larger
            ones. ``"auto"`` never exceeds the number of values.
        architecture: ``"fc"`` and ``"paper"`` are fully connected, with encoder widths 1000-500 and 500-500-2000.
            ``"conv"`` and ``"conv_half"`` are convolutional. The largest feature maps of ``"conv_half"`` have half the
            height and width of the image, so it is several times as fast. A tuple gives the widths of a fully connected
            encoder. ``"auto"`` is ``"fc"`` for vectors and for images of up to 1024 values, and ``"conv_half"`` for
            larger images.
        density: The distribution of new codes. ``"mixture"`` fits a Gaussian mixture to the codes of the training
            images, and ``"normal"`` fits a single Gaussian. ``"standard_normal"`` is :math:`N(0, I)`. ``"auto"`` is the
            default density of ``definition``.
        n_components: The maximum number of mixture components, or a tuple (minimum, maximum). For a mixture fitted
            after training, the Bayesian information criterion chooses the number, with at least 20 codes per component.
            The default maximum is 80. A mixture trained together with the network ignores the minimum. Its default
            maximum is 10.
        delta: Training stops when the reconstruction error of training images falls below this value, in nats per
            pixel. A perfect reconstruction has an error of 0. Built-in models other than ``"gae"`` train for all
            epochs, and accept only ``"auto"``. For ``"gae"``, ``"auto"`` depends on the size of the class. With at
            least 200 images or vectors, training holds out a tenth, and stops when the held-out error no longer falls.
            With fewer images, it stops below 30 % of the error of the mean image as a reconstruction. With fewer
            vectors, it stops when the training error no longer falls.
        epochs: The maximum number of epochs. ``"auto"`` is the smallest number with at least 600 optimiser steps, or
            450 for convolutional networks that stop below 30 % of the mean image's error.
        batch_size: The number of images in a batch. ``"auto"`` is 64, but 32 for convolutional networks, or 16
            if they learn from fewer than 200 images.
        learning_rate: Adam's initial learning rate.
        lr_schedule: ``"cosine"`` lowers the learning rate to 0 along a cosine; ``"constant"`` does not change it.
        precision: The data type of matrix products and convolutions in training, ``"float32"`` or ``"bfloat16"``.
            ``"auto"`` is float32 for vectors, and on hardware that cannot multiply bfloat16 matrices. Otherwise, it is
            bfloat16.
        n_init: The number of random initialisations of the network. Several initialisations share half the epochs
            equally. The network with the lowest reconstruction error is then trained for the remaining epochs.
            ``"auto"`` is 8 for vectors with more features than latent dimensions, and 1 for all other data.
        truncated: Whether a new code is redrawn if it lies outside the range of the training codes in any dimension.
            This has no effect with fewer than 20 images per latent dimension, or with a density that is not fitted to
            the codes.
        synthesis: What a new image keeps of a training image. Let :math:`z` be a new code, and :math:`x_i` the training
            image with the nearest code :math:`z_i`. Let :math:`f_d` be the decoder, and :math:`t` the step. A
            ``"decoded"`` image is :math:`f_d(z)`. A ``"residual"`` image is
            :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`. A ``"deformed"`` image is a training image that a smooth
            map moves, as :math:`f_d(z_i)` moves to :math:`f_d(z_i + t (z - z_i))`. It is sharp, and as large as the
            training image. ``"auto"`` is ``"decoded"`` for vectors, ``"deformed"`` for images larger than the
            augmenter's working size, and ``"residual"`` for other images.
        step: The step :math:`t`, above 0 and up to 3. ``"auto"`` is 1.5.
        max_similarity: The maximum similarity of a new image to any training image of its class, in (0, 1]. Similarity
            is the correlation of two images after small shifts that align them. New images above the limit are redrawn,
            up to 20 times. With a limit, a saved augmenter contains the training images. ``None`` sets no limit.
            Vectors accept no other value.
        n_threads: The number of CPU threads that train the model of one class. New images depend slightly on this
            number, through rounding.

    Example:
        >>> model = GenerativeModel("vae", latent_dim=16).set_params(epochs=50)
        >>> model
        GenerativeModel(definition='vae', epochs=50, latent_dim=16)
    """

    def __init__(
        self,
        definition: str | ModelDefinition = "gae",
        *,
        latent_dim: int | Literal["auto"] = "auto",
        architecture: Architecture = "auto",
        density: str = "auto",
        n_components: int | tuple[int, int] | Literal["auto"] = "auto",
        delta: float | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 1e-3,
        lr_schedule: str = "cosine",
        precision: str = "auto",
        n_init: int | Literal["auto"] = "auto",
        truncated: bool = True,
        synthesis: str = "auto",
        step: float | Literal["auto"] = "auto",
        max_similarity: float | None = None,
        n_threads: int = 1,
    ) -> None:
        self.definition = definition
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.density = density
        self.n_components = n_components
        self.delta = delta
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.precision = precision
        self.n_init = n_init
        self.truncated = truncated
        self.synthesis = synthesis
        self.step = step
        self.max_similarity = max_similarity
        self.n_threads = n_threads

    @property
    def resolved_definition(self) -> ModelDefinition:
        r"""The model's :class:`gae_augment.models.ModelDefinition`.

        Raises:
            ValueError: If no built-in model has the given name, or if a custom definition has the name of a built-in
                model.
        """
        return resolve_definition(self.definition)

    def validated(self) -> Self:
        r"""Returns a copy with validated hyper-parameters.

        Raises:
            ValueError: If a hyper-parameter has an invalid value.
        """
        definition = self.resolved_definition
        values: dict[str, Any] = self.get_params(deep=False)
        for name, allowed in (
            ("density", ("auto", *DENSITIES_OF_ANY_MODEL)),
            ("lr_schedule", LR_SCHEDULES),
            ("precision", ("auto", *PRECISIONS)),
            ("synthesis", ("auto", *SYNTHESES)),
        ):
            if values[name] not in allowed:
                raise ValueError(f"'{name}' is {values[name]!r}, but must be one of {', '.join(map(repr, allowed))}.")
        for name in ("architecture", "n_components"):
            if isinstance(values[name], list):
                # JSON and YAML have no tuples.
                values[name] = tuple(values[name])
        if values["architecture"] != "auto":
            check_architecture(values["architecture"], (1, 1, 1))
        if isinstance(values["n_components"], tuple):
            values["n_components"] = _component_range(values["n_components"])
        for name in ("latent_dim", "n_components", "epochs", "batch_size", "n_init", "n_threads"):
            if not isinstance(values[name], tuple) and not (name != "n_threads" and values[name] == "auto"):
                values[name] = _positive_integer(name, values[name])
        for name in ("delta", "learning_rate"):
            if not (name == "delta" and values[name] == "auto"):
                values[name] = _number(name, values[name], math.inf)
        if values["delta"] != "auto" and not definition.early_stopping:
            raise ValueError(
                f"'delta' is {values['delta']!r}, but {definition.name!r} has no early stopping and trains for all its "
                f"epochs. Leave 'delta' at 'auto'."
            )
        if values["truncated"] not in (True, False):
            raise ValueError(f"'truncated' is {values['truncated']!r}, but must be True or False.")
        if values["step"] != "auto":
            values["step"] = _number("step", values["step"], MAX_STEP, "'auto', or ")
        if values["max_similarity"] is not None:
            values["max_similarity"] = _number("max_similarity", values["max_similarity"], 1.0, "None, or ")
        return type(self)(**values)


def _positive_integer(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"'{name}' is {value!r}, but must be an integer of at least 1.")
    return int(value)


def _number(name: str, value: Any, highest: float, alternatives: str = "") -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= highest or math.isinf(value):
        bound = "" if math.isinf(highest) else f" and at most {highest:g}"
        raise ValueError(f"'{name}' is {value!r}, but must be {alternatives}a number above 0{bound}.")
    return float(value)


def _component_range(values: tuple[Any, ...]) -> tuple[int, int]:
    if len(values) == 2 and all(type(number) is int for number in values) and 1 <= values[0] <= values[1]:
        return values
    raise ValueError(
        f"'n_components' is {values!r}, but must be a maximum, or (minimum, maximum) such as (10, 10) for exactly ten."
    )
