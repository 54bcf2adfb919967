r"""A generative model with its hyper-parameters, before any data are known."""

__all__ = ["LR_SCHEDULES", "MAX_ANCHOR_STEP", "PRECISIONS", "GenerativeModel"]

import math
from numbers import Integral, Real
from typing import Any, Literal, Self

import torch
from sklearn.base import BaseEstimator

from .definitions import ModelDefinition, resolve_definition
from .networks import Architecture, check_architecture

LR_SCHEDULES = ("cosine", "constant")
"""The learning-rate schedules: ``"cosine"`` decays to 0 along a cosine, ``"constant"`` does not decay."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The data types in which matrix products can be computed during training."""

DENSITIES_OF_ANY_MODEL = ("mixture", "normal", "standard_normal")
"""The latent densities that suit every model."""

MAX_ANCHOR_STEP = 3.0
"""The maximum step :math:`t` that ``anchored`` accepts."""


class GenerativeModel(BaseEstimator):
    r"""A generative model and its hyper-parameters, for :class:`gae_augment.GAEAugmenter`.

    The class is a scikit-learn estimator without a ``fit`` method. It supports ``clone``, ``get_params``,
    ``set_params``, and searches over an augmenter's parameters such as ``model__latent_dim``. Each ``"auto"`` is
    resolved when a class is fitted; ``augmenter.report_[label].plan`` shows the values chosen.

    Args:
        definition: A key of :data:`gae_augment.MODELS`, or a custom :class:`gae_augment.models.ModelDefinition`.
        latent_dim: The latent dimension :math:`d`. ``"auto"`` is 10 for images of up to 1024 values and 32 for larger
            images, but at most the number of values.
        architecture: ``"auto"`` chooses ``"fc"`` for vectors and images of up to 1024 values, and ``"conv"`` for larger
            images. ``"fc"`` and ``"paper"`` are fully connected, with encoder widths 1000-500 and 500-500-2000.
            ``"conv"`` is convolutional. A tuple gives the widths of a fully connected encoder.
        density: The latent density from which new codes are drawn. ``"auto"`` is the model's default. ``"mixture"`` is
            a Gaussian mixture and ``"normal"`` a single Gaussian, both fitted to the codes. ``"standard_normal"`` is
            :math:`N(0, I)`.
        n_components: The maximum number of mixture components, or (minimum, maximum). For a mixture fitted to the
            codes, the Bayesian information criterion chooses the number, with at least 20 codes per component.
            ``"auto"`` is a maximum of 80 for a fitted mixture, and of 10 for a mixture learned with the network.
        delta: The boundary :math:`\delta` of the reconstruction error, for models with early stopping only. The error
            is the excess over that of a perfect reconstruction, in nats per pixel. With a number, training stops once
            the error is below the number. ``"auto"`` stops when the error of held-out images stops falling. With fewer
            than 200 images, ``"auto"`` stops at 30 % of the mean image's error; with fewer than 200 vectors, when the
            training error stops falling.
        epochs: The maximum number of epochs. ``"auto"`` is enough for 600 steps of the optimiser.
        batch_size: The number of images in a batch.
        learning_rate: Adam's initial learning rate.
        lr_schedule: ``"cosine"`` lowers the learning rate to 0 along a cosine; ``"constant"`` does not change it.
        precision: The data type of matrix products in training, ``"float32"`` or ``"bfloat16"``. All other computations
            use float32. ``"auto"`` is bfloat16 for images if the device multiplies bfloat16 matrices faster, else
            float32. Most CUDA GPUs do so, and some CPUs do so for fully connected networks.
        n_init: The number of random initialisations. Several initialisations divide half of the epochs among
            themselves; the best then trains for the other half. ``"auto"`` is 8 for vectors with more features than
            latent dimensions, where the initial weights matter most, and 1 for all other data.
        truncated: Whether codes drawn from a fitted mixture are redrawn if they lie outside the range of all training
            codes. Applies only with at least 20 images per latent dimension.
        anchored: Whether new images keep details of training images that the autoencoder cannot reproduce. If so, the
            training image :math:`x_i` whose code :math:`z_i` is nearest moves towards the new code :math:`z`: the new
            image is :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`, where :math:`f_d` is the decoder. A number is the
            step :math:`t`; ``True`` is :math:`t = 1`. ``"auto"`` is :math:`t = 1.5` for images and ``False`` for
            vectors. With a step, training images are kept and saved with the augmenter, and new images lie closer to
            the training images.
        max_similarity: The maximum similarity of a new image to any training image of its class; ``None`` sets no
            limit. Similarity is the correlation of the two images after alignment, as in
            :func:`gae_augment.synthesis.aligned_nearest`. A limit in (0, 1] rejects and redraws images of higher
            similarity. With a limit, training images are kept and saved with the augmenter.
        n_threads: The number of CPU threads that share the training of one class. The last bits of images depend on
            this number. Several threads pay off for classes of thousands of images, if there are fewer such classes
            than cores.

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
        r"""The :class:`gae_augment.models.ModelDefinition`, looked up by name if ``definition`` is a name.

        Raises:
            ValueError: If the name is unknown, or a custom definition has the name of a built-in model.
        """
        return resolve_definition(self.definition)

    def validated(self) -> Self:
        r"""Returns a copy with validated hyper-parameters, converted to plain Python types.

        Raises:
            ValueError: If a hyper-parameter has a value that is not allowed.
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
