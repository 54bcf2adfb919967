r"""The plan of a fit, which has a value for each ``"auto"`` of the model."""

__all__ = [
    "MEAN_IMAGE_FRACTION",
    "MIN_IMAGES",
    "STEP",
    "STOPPING_RULES",
    "Plan",
    "check_classes",
    "deformed_classes",
    "make_plan",
    "synthesis_of",
]

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from .._utils.devices import multiplies_bfloat16_fast, resolve_device
from ..data import Label
from ..models import (
    CONVOLUTIONAL,
    Architecture,
    Bernoulli,
    GenerativeModel,
    ModelDefinition,
    Objective,
    check_architecture,
    supported_components,
)

MIN_IMAGES = 2
"""The minimum number of images that a model learns from."""

SMALL_IMAGE = 1024
"""``"auto"`` settings treat images and vectors with at most this number of values as small."""

MEAN_IMAGE_FRACTION = 0.3
"""Training on few images stops when the error is below this fraction of the mean image's error."""

LIMITS_FROM = 20
"""With at least this number of images per latent dimension, new codes stay in the range of the training codes."""

STEPS = 600
"""The minimum number of optimiser steps with ``epochs="auto"``."""

SMALL_CLASS_SHARE = 0.75
"""Convolutional networks that stop below a fraction of the mean image's error take this part of ``STEPS``.

Nine classes of photographs stopped within 260 steps with either number, and none failed to reach ``delta``.
"""

BATCH = 64
"""The number of images in a batch of a fully connected network with ``batch_size="auto"``."""

CONVOLUTIONAL_BATCH, SMALL_CLASS_BATCH = 32, 16
"""These replace ``BATCH`` for convolutional networks, the second with fewer images than ``HOLD_OUT_FROM``.

The same number of steps with half the batch takes less time. The error stays the same within 2 %, except in classes of
thousands of images, where it grows by up to 7 % with batches of 16.
"""

HOLD_OUT_FROM = 200
"""With ``delta="auto"`` and at least this number of images, a fit holds out a tenth of the images."""

MAX_COMPONENTS = 80
"""With ``n_components="auto"``, a mixture fitted to the codes has at most this number of components."""

LEARNED_COMPONENTS = 10
"""With ``n_components="auto"``, a mixture learned with the network has at most this number of components."""

VECTOR_INITS = 8
"""The number of initialisations with ``n_init="auto"``, for vectors longer than their codes."""

STEP = 1.5
"""The step from a training image's code to a new code with ``step="auto"``. A step of 1 reaches the new code.

Residual images raised a classifier's score by these percentage points:

- Blood cells, 40 images of the two scarce classes: 0.39 (step 1), 0.66 (step 1.5), 0.91 (step 2).
- Blood cells, 210 images of these classes: 0.34 (step 1), 0.67 (step 1.5).
- Fashion-MNIST: 0.0 (decoded), 1.6 (step 1), 1.9 (step 1.5). With random affine maps: 0.5, 0.4, 0.6.
- MNIST: 0.4 (decoded), 0.9 (step 1), 1.2 (step 1.5). With random affine maps: 0.1, 0.2, 0.3.

Blood cells: measured on validation images. Fashion-MNIST and MNIST: measured on unused training images, with
DeepSMOTE's class sizes, in comparison with class-balanced sampling.
"""

RESOLUTION = 1e-3
"""An excess reconstruction error of images below this value, in nats per pixel, counts as 0."""

VECTOR_RESOLUTION = 1e-5
"""An excess reconstruction error of vectors below this value, in nats per feature, counts as 0."""

STOPPING_RULES = {
    "all epochs": "trains for all epochs",
    "delta": "stops when the error of training images is below delta",
    "mean image": f"stops when the error of training images is below {MEAN_IMAGE_FRACTION:g} of the mean image's",
    "plateau": "stops when the error of training vectors stops falling",
    "held-out": "stops when the error of held-out images stops falling, and returns to the best weights",
}
"""A description of each stopping rule of training, by the name of the rule."""


@dataclass(frozen=True)
class Plan:
    r"""The settings with which one class is fitted and sampled. Each ``"auto"`` of the model is replaced by a value.

    ``print(plan)`` shows one setting per line.

    Attributes:
        model: The name of the model.
        shape: The shape of one image: :math:`(C, H, W)`, :math:`(H, W)` or :math:`(F,)`.
        images: The number of images of the class that the model learns from.
        latent_dim: The latent dimension :math:`d`.
        architecture: ``"conv"`` or ``"conv_half"`` (both convolutional), ``"fc"`` or ``"paper"`` (both fully
            connected), or the layer widths of a fully connected encoder.
        density: The latent density, a key of :data:`gae_augment.models.DENSITIES`.
        learned_prior: Whether training learns the density. Otherwise, the density is fitted to the codes afterwards.
        min_components: The minimum number of components of a mixture that is fitted to the codes.
        max_components: The maximum number of components of a mixture that is fitted to the codes.
        learned_components: The maximum number of components of a mixture that is learned with the network.
        stopping: The name of the stopping rule of training. ``print(plan)`` describes the rule.
        delta: The model's ``delta``: training stops when the excess reconstruction error, in nats per pixel, is below
            it. A perfect reconstruction has an excess error of 0. ``None`` stands for ``"auto"``: another rule ends
            training.
        resolution: An excess reconstruction error below this value, in nats per pixel, counts as 0.
        held_out: The number of images left out of training to measure the reconstruction error.
        epochs: The maximum number of epochs, over all initialisations together.
        n_init: The number of random initialisations of the network. The fit keeps the best one.
        batch_size: The number of images in a batch.
        learning_rate: Adam's initial learning rate.
        lr_schedule: The schedule of the learning rate, ``"cosine"`` or ``"constant"``.
        precision: The data type of matrix products in training, ``"float32"`` or ``"bfloat16"``.
        truncated: Whether sampling redraws codes outside the range of the training images' codes.
        synthesis: What a new image keeps of a training image. Let :math:`z` be a new code, :math:`x_i` a training
            image, :math:`z_i` its code, :math:`f_d` the decoder, and :math:`t` the step. A ``"decoded"`` image is
            :math:`f_d(z)`, and a ``"residual"`` one :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`. A ``"deformed"``
            one is a training image, moved as :math:`f_d(z_i)` moves to :math:`f_d(z_i + t (z - z_i))`.
        step: The step :math:`t`.
        max_similarity: The maximum similarity of a new image to a training image, in (0, 1]; ``None`` sets no limit.
            Similarity is the correlation of two images after alignment by small shifts.
        device: The device of training and sampling.
        n_threads: The number of CPU threads that train the network.
    """

    model: str
    shape: tuple[int, ...]
    images: int
    latent_dim: int
    architecture: Architecture
    density: str
    learned_prior: bool
    min_components: int
    max_components: int
    learned_components: int
    stopping: str
    delta: float | None
    resolution: float
    held_out: int
    epochs: int
    n_init: int
    batch_size: int
    learning_rate: float
    lr_schedule: str
    precision: str
    truncated: bool
    synthesis: str
    step: float
    max_similarity: float | None
    device: str
    n_threads: int

    @property
    def keeps_images(self) -> bool:
        r"""Whether the fitted model keeps the training images for sampling."""
        return self.synthesis != "decoded" or self.max_similarity is not None

    @property
    def trial_epochs(self) -> int:
        r"""The number of trial epochs of each initialisation; 0 with a single initialisation."""
        return self.epochs // (2 * self.n_init) if self.n_init > 1 else 0

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["stopping"] = f"{self.stopping} ({STOPPING_RULES[self.stopping]})"
        supported = supported_components(self.images, self.max_components)
        if not self.learned_prior and supported < self.max_components:
            values["max_components"] = f"{self.max_components} (at most {supported} with {self.images} images)"
        width = max(map(len, values)) + 1
        return "\n".join(f"{name + ':':{width}} {value}" for name, value in values.items())


def synthesis_of(model: GenerativeModel, shape: tuple[int, ...], *, resized: bool) -> str:
    r"""Returns what new images keep of training images: the value of the model, or the one that suits the images.

    Args:
        model: The model and its hyper-parameters.
        shape: The shape of one image as the networks see it.
        resized: Whether the images are larger than that, or differ in size.
    """
    if model.synthesis != "auto":
        return model.synthesis
    if len(shape) == 1:
        return "decoded"
    # A small code cannot hold all detail of an image. From blurred images, a classifier learns that the class is
    # blurred.
    return "deformed" if resized and model.max_similarity is None else "residual"


def make_plan(
    model: GenerativeModel,
    shape: tuple[int, ...],
    images: int,
    device: torch.device | str = "auto",
    *,
    resized: bool = False,
) -> Plan:
    r"""Returns the plan of the fit of one class, with a value for each ``"auto"`` of ``model``.

    Args:
        model: The model and its hyper-parameters.
        shape: The shape of one image: :math:`(C, H, W)`, :math:`(H, W)` or :math:`(F,)`.
        images: The number of images of the class, at least 2.
        device: The device of training and sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.
        resized: Whether the images are larger than ``shape``, or differ in size.

    Raises:
        ValueError: If ``images`` is below 2, or a hyper-parameter is invalid for the shape.
        RuntimeError: If ``device`` is not the name of a torch device.
    """
    if images < MIN_IMAGES:
        raise ValueError(f"There is {images} image, but a model needs at least {MIN_IMAGES}. Add images.")
    model = model.validated()
    definition = model.resolved_definition
    is_vector, values = len(shape) == 1, math.prod(shape)
    if is_vector and model.max_similarity is not None:
        raise ValueError(
            f"'max_similarity' compares images, but the data are vectors of {values} features. Leave it at None."
        )
    architecture = model.architecture
    if architecture == "auto":
        architecture = "fc" if is_vector or values <= SMALL_IMAGE else "conv_half"
    check_architecture(architecture, shape)
    torch_device = resolve_device(device)
    latent_dim = min(values, 10 if values <= SMALL_IMAGE else 32) if model.latent_dim == "auto" else model.latent_dim
    stopping = _stopping_rule(model, definition.early_stopping, is_vector, images)
    held_out = images // 10 if stopping == "held-out" else 0
    batch_size = model.batch_size
    convolutional = architecture in CONVOLUTIONAL
    if batch_size == "auto":
        convolutional_batch = SMALL_CLASS_BATCH if images < HOLD_OUT_FROM else CONVOLUTIONAL_BATCH
        batch_size = convolutional_batch if convolutional else BATCH
    steps = STEPS * SMALL_CLASS_SHARE if convolutional and stopping == "mean image" else STEPS
    steps_per_epoch = math.ceil((images - held_out) / batch_size)
    epochs = math.ceil(steps / steps_per_epoch) if model.epochs == "auto" else model.epochs
    n_init = model.n_init
    if n_init == "auto":
        n_init = VECTOR_INITS if is_vector and latent_dim < values else 1
    synthesis = synthesis_of(model, shape, resized=resized)
    if synthesis == "deformed" and model.max_similarity is not None:
        raise ValueError(
            "'max_similarity' is set, but deformed images hold the texture of real ones. Leave it at None, or use "
            "synthesis='decoded' or 'residual'."
        )
    if is_vector and synthesis == "deformed":
        raise ValueError(
            f"'synthesis' is 'deformed', but the data are vectors of {values} features. Leave it at 'auto'."
        )
    density = definition.density if model.density == "auto" else model.density
    learned_prior = model.density == "auto" and _learns_prior(definition)
    bounds = model.n_components if isinstance(model.n_components, tuple) else (1, model.n_components)
    return Plan(
        model=definition.name,
        shape=tuple(shape),
        images=images,
        latent_dim=latent_dim,
        architecture=architecture,
        density=density,
        learned_prior=learned_prior,
        min_components=bounds[0],
        max_components=MAX_COMPONENTS if bounds[1] == "auto" else bounds[1],
        learned_components=LEARNED_COMPONENTS if bounds[1] == "auto" else bounds[1],
        stopping=stopping,
        delta=None if model.delta == "auto" else model.delta,
        resolution=VECTOR_RESOLUTION if is_vector else RESOLUTION,
        held_out=held_out,
        epochs=epochs,
        n_init=n_init,
        batch_size=batch_size,
        learning_rate=model.learning_rate,
        lr_schedule=model.lr_schedule,
        precision=_precision(model.precision, is_vector, torch_device),
        truncated=bool(model.truncated) and _can_truncate(density, learned_prior, images, latent_dim),
        synthesis=synthesis,
        step=STEP if model.step == "auto" else model.step,
        max_similarity=model.max_similarity,
        device=str(torch_device),
        n_threads=model.n_threads,
    )


def deformed_classes(
    models: Mapping[Any, GenerativeModel], labels: Iterable[Label], shape: tuple[int, ...], *, resized: bool
) -> set[Label]:
    r"""Returns the labels of the classes whose new images are deformed real ones.

    Args:
        models: The models by label. The key ``None`` holds the model of all other labels.
        labels: The labels of all classes.
        shape: The shape of one image as the networks see it.
        resized: Whether the images are larger than that, or differ in size.
    """
    chosen = {label: models.get(label, models[None]) for label in labels}
    return {label for label in chosen if synthesis_of(chosen[label], shape, resized=resized) == "deformed"}


def check_classes(
    models: Mapping[Any, GenerativeModel],
    counts: Mapping[Label, int],
    scarce: Iterable[Label],
    deformed: Collection[Label],
    names: Mapping[Label, str],
) -> None:
    r"""Checks the sizes of the classes to fit and the labels in ``models``.

    Args:
        models: The models by label. The key ``None`` holds the model of all other labels.
        counts: The number of images of each class, by label.
        scarce: The labels of the classes that need images.
        deformed: The labels of the classes whose images are deformed. One image is enough if another such class has
            two.
        names: The name of each class, by label.

    Raises:
        ValueError: If a class to fit has fewer than 2 images, or the data lack a label of ``models``.
    """
    unknown = [label for label in models if label is not None and label not in counts]
    if unknown:
        raise ValueError(
            f"'model' maps the labels {unknown}, but the data have no such class. Its classes are {list(counts)}."
        )
    can_learn_motions = any(counts[label] >= MIN_IMAGES for label in deformed)
    for label in scarce:
        if counts[label] < MIN_IMAGES and not (label in deformed and can_learn_motions):
            name = f"{label!r}" if names[label] == str(label) else f"{label!r} ({names[label]})"
            raise ValueError(
                f"Class {name} has {counts[label]} image, but a model needs at least {MIN_IMAGES}. Add images, leave "
                f"the class out of 'sampling_strategy', or merge it with another class."
            )


def _can_truncate(density: str, learned_prior: bool, images: int, latent_dim: int) -> bool:
    # Few codes do not show the range of the density. Learned and fixed densities do not depend on the range of codes.
    return density in ("mixture", "normal") and not learned_prior and images >= LIMITS_FROM * latent_dim


def _learns_prior(definition: ModelDefinition) -> bool:
    return type(definition.objective(Bernoulli())).prior is not Objective.prior


def _stopping_rule(model: GenerativeModel, early_stopping: bool, is_vector: bool, images: int) -> str:
    if not early_stopping:
        return "all epochs"
    if model.delta != "auto":
        return "delta"
    if images >= HOLD_OUT_FROM:
        return "held-out"
    # A small class has no images to hold out. Memorised images give worse samples than coarse reconstructions.
    return "plateau" if is_vector else "mean image"


def _precision(precision: str, is_vector: bool, device: torch.device) -> str:
    if precision != "auto":
        return precision
    # The three digits of bfloat16 are too few for vectors.
    return "bfloat16" if not is_vector and multiplies_bfloat16_fast(device) else "float32"
