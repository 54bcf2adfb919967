r"""A generative model with its hyper-parameters."""

__all__ = ["LR_SCHEDULES", "MAX_ANCHOR_STEP", "PRECISIONS", "GenerativeModel"]

import math
from numbers import Integral, Real
from typing import Any, Literal, Self

import torch
from sklearn.base import BaseEstimator

from .definitions import ModelDefinition, resolve_definition
from .networks import Architecture, check_architecture

LR_SCHEDULES = ("cosine", "constant")
"""The schedules: ``"cosine"`` lowers the learning rate to 0 along a cosine; ``"constant"`` does not change it."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The data types in which matrix products can be computed during training, by name."""

DENSITIES_OF_ANY_MODEL = ("mixture", "normal", "standard_normal")
"""The names of the latent densities that every model accepts."""

MAX_ANCHOR_STEP = 3.0
"""The largest number that :class:`GenerativeModel` accepts for ``anchored``."""


class GenerativeModel(BaseEstimator):
    r"""A generative model and its hyper-parameters, for :class:`gae_augment.GAEAugmenter`.

    The class is a scikit-learn estimator without a ``fit`` method. It supports ``clone``, ``get_params`` and
    ``set_params``. A parameter search over an augmenter can set hyper-parameters by names such as
    ``model__latent_dim``. When an augmenter fits the model to a class, it replaces each ``"auto"`` by a value;
    ``augmenter.report_[label].plan`` shows the value.

    Below, a code is a latent vector. The values of an image are its pixels in all channels, and the values of a vector
    are its features.

    Args:
        definition: A key of :data:`gae_augment.MODELS`, or a custom :class:`gae_augment.models.ModelDefinition`.
        latent_dim: The latent dimension. ``"auto"`` is 10 for images or vectors of up to 1024 values and 32 for larger
            ones, but at most the number of values.
        architecture: ``"fc"`` and ``"paper"`` are fully connected, with encoder widths 1000-500 and 500-500-2000.
            ``"conv"`` is convolutional. A tuple gives the widths of a fully connected encoder. ``"auto"`` is ``"fc"``
            for vectors and for images of up to 1024 values, and ``"conv"`` for larger images.
        density: The distribution from which new codes are drawn. ``"mixture"`` is a Gaussian mixture and ``"normal"`` a
            single Gaussian, each fitted to the codes of the training images. ``"standard_normal"`` is :math:`N(0, I)`.
            ``"auto"`` is the default density of ``definition``.
        n_components: The maximum number of mixture components, or a tuple (minimum, maximum). For a mixture fitted
            after training, the Bayesian information criterion chooses the number of components, with at least 20 codes
            per component; ``"auto"`` sets the maximum to 80. A mixture trained together with the network ignores the
            minimum; ``"auto"`` sets the maximum to 10.
        delta: The reconstruction error of training images below which training stops, in nats per pixel. The error of a
            perfect reconstruction counts as 0. Only models with early stopping, such as ``"gae"``, accept a number.
            With ``"auto"`` and at least 200 images or vectors of a class, a tenth is held out, and training stops when
            the error of the held-out data no longer falls. With fewer images, training stops below 30 % of the error
            that results if every image is reconstructed as the mean image. With fewer vectors, training stops when the
            error of training vectors no longer falls.
        epochs: The maximum number of epochs. ``"auto"`` is the smallest number with at least 600 optimiser steps.
        batch_size: The number of images in a batch.
        learning_rate: Adam's initial learning rate.
        lr_schedule: ``"cosine"`` lowers the learning rate to 0 along a cosine; ``"constant"`` does not change it.
        precision: The data type of matrix products and convolutions in training, ``"float32"`` or ``"bfloat16"``. All
            other computations use float32. ``"auto"`` is float32 for all vectors, for convolutional networks on a CPU,
            and on devices that cannot multiply bfloat16 matrices in hardware; else bfloat16.
        n_init: The number of random initialisations of the network. If there are several, half the epochs are divided
            equally among them. The network with the lowest reconstruction error is then trained for the other half.
            ``"auto"`` is 8 for vectors with more features than latent dimensions, and 1 for all other data.
        truncated: Whether a new code is redrawn if it lies outside the range of the training codes in any dimension.
            Has no effect if the density is not fitted to the codes, or if the class has fewer than 20 images per latent
            dimension.
        anchored: Whether a new image starts from a training image, to keep details that the autoencoder cannot
            reproduce. Let :math:`z` be a new code, :math:`z_i` the nearest code of a training image, :math:`x_i` this
            training image, and :math:`f_d` the decoder. With ``False``, the new image is :math:`f_d(z)`. Otherwise, the
            new image is :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`. A number above 0 and up to 3 is the step
            :math:`t`. ``True`` is :math:`t = 1`. ``"auto"`` is :math:`t = 1.5` for images and ``False`` for vectors.
            Unless ``anchored`` is ``False``, the training images are saved with the augmenter, and new images are more
            similar to the training images.
        max_similarity: The maximum similarity of a new image to any training image of its class, in (0, 1]. Similarity
            is the correlation of two images after small shifts that align them. New images above the limit are redrawn,
            up to 20 times. With a limit, the training images are saved with the augmenter. ``None`` sets no limit, and
            is the only valid value for vectors.
        n_threads: The number of CPU threads that train the model of one class. New images depend slightly on this
            number, through rounding. Several threads are faster only for classes of thousands of images, if there are
            fewer such classes than CPU cores.

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
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        lr_schedule: str = "cosine",
        precision: str = "auto",
        n_init: int | Literal["auto"] = "auto",
        truncated: bool = True,
        anchored: bool | float | Literal["auto"] = "auto",
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
        self.anchored = anchored
        self.max_similarity = max_similarity
        self.n_threads = n_threads

    @property
    def resolved_definition(self) -> ModelDefinition:
        r"""The model's :class:`gae_augment.models.ModelDefinition`, looked up by name if ``definition`` is a name.

        Raises:
            ValueError: If no built-in model has the given name, or if a custom definition has the name of a built-in
                model.
        """
        return resolve_definition(self.definition)

    def validated(self) -> Self:
        r"""Returns a copy with validated hyper-parameters, converted to Python types such as ``int`` and ``tuple``.

        Raises:
            ValueError: If a hyper-parameter has an invalid value.
        """
        definition = self.resolved_definition
        values: dict[str, Any] = self.get_params(deep=False)
        for name, allowed in (
            ("density", ("auto", *DENSITIES_OF_ANY_MODEL)),
            ("lr_schedule", LR_SCHEDULES),
            ("precision", ("auto", *PRECISIONS)),
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
            may_be_auto = name not in ("batch_size", "n_threads")
            if not isinstance(values[name], tuple) and not (may_be_auto and values[name] == "auto"):
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
        if values["anchored"] not in (True, False, "auto"):
            values["anchored"] = _number("anchored", values["anchored"], MAX_ANCHOR_STEP, "True, False, 'auto', or ")
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
