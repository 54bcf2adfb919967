r"""The training loop of all models."""

__all__ = [
    "MAX_CHECKED",
    "MIN_IMAGE_ERROR",
    "PREPARED_VALUES",
    "TrainingLog",
    "likelihood_for",
    "mean_excess_error",
    "mean_image_error",
    "train",
]

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .._utils.chunks import VALUES_PER_CHUNK, chunk_size
from .._utils.seeding import derive_seed, make_generator
from .._utils.threads import check_interruption
from ..data import ValueScale
from ..models import CONVOLUTIONAL, Autoencoder, Bernoulli, Gaussian, Likelihood, Objective, excess_error

CHECK_EVERY = 25
"""The number of optimiser steps between two measurements of the error, rounded to whole epochs."""

CHECK_DELTA_EVERY = 5
"""This number replaces ``CHECK_EVERY`` if :func:`train` has a ``delta``."""

CHECK_CONVOLUTIONAL_EVERY = 20
"""This number replaces ``CHECK_DELTA_EVERY`` for convolutional networks, because their batches are smaller."""

EXPLOSION_FACTOR = 10_000
"""Training has diverged if the error reaches this multiple of the mean image's error."""

MIN_IMAGE_ERROR = 0.01
"""Tests for divergence use at least this value, in nats per pixel, as the mean image's error."""

MAX_CHECKED = 1000
"""The maximum number of images on which a reconstruction error is measured."""

PREPARED_ON = 5000
"""``Objective.prepare`` receives at most this number of training images."""

PREPARED_VALUES = 4 * VALUES_PER_CHUNK
"""At most this number of pixel values, in all images together, initialise a network or an objective."""


@dataclass
class TrainingLog:
    r"""A record of the training of one network.

    All errors are excess reconstruction errors in nats per pixel. A perfect reconstruction has an excess error of 0.

    Attributes:
        epochs: The number of epochs trained.
        steps: The number of optimiser steps.
        errors: The errors measured during training, one every few epochs.
        checked_after: The epochs after which ``errors`` were measured.
        training_error: The mean error of training images after training.
        reached: Whether the error fell below ``delta`` or, with ``delta=None``, stopped falling.
    """

    epochs: int = 0
    steps: int = 0
    errors: list[float] = field(default_factory=list)
    checked_after: list[int] = field(default_factory=list)
    training_error: float = math.inf
    reached: bool = False


def likelihood_for(values: ValueScale) -> Likelihood:
    r"""Returns the distribution of a pixel given the decoder's output.

    The distribution is Gaussian if ``values`` standardises images, and Bernoulli if ``values`` scales pixels to [0, 1].
    """
    return Gaussian() if values.kind == "standardised" else Bernoulli()


def _autocast(precision: torch.dtype, device: torch.device) -> torch.autocast:
    r"""Returns a context manager that makes network layers multiply matrices in ``precision``."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


@torch.no_grad()
def mean_excess_error(
    network: Autoencoder,
    images: Tensor,
    values: ValueScale,
    precision: torch.dtype = torch.float32,
    batch_size: int = 500,
    entropies: Tensor | None = None,
) -> float:
    r"""Returns the mean excess reconstruction error of images, in nats per pixel.

    A perfect reconstruction has an excess error of 0. ``values`` converts the images to network inputs. The images'
    ``entropies``, from :func:`image_entropies`, are computed if they are ``None``.
    """
    errors = []
    likelihood = likelihood_for(values)
    for batch in images.split(chunk_size(batch_size, images.shape[1:])):
        x = values.to_network(batch)
        with _autocast(precision, images.device):
            outputs = network.decode(network.encode(x))
        errors.append(likelihood.negative_log_likelihood(outputs, x))
    entropies = image_entropies(images, values) if entropies is None else entropies
    return ((torch.cat(errors) - entropies) / images[0].numel()).double().mean().item()


def image_entropies(images: Tensor, values: ValueScale) -> Tensor:
    r"""Returns the lowest possible reconstruction error of each image, in nats, with shape :math:`(N,)`."""
    batches = images.split(chunk_size(500, images.shape[1:]))
    return torch.cat([likelihood_for(values).entropy(values.to_network(batch)) for batch in batches])


@torch.no_grad()
def mean_image_error(images: Tensor, values: ValueScale) -> float:
    r"""Returns the mean excess error, in nats per pixel, if every image is reconstructed as the mean image.

    A perfect reconstruction has an excess error of 0. ``values`` converts the images to network inputs.
    """
    x = values.to_network(images)
    mean = x.mean(dim=0, keepdim=True)
    likelihood = likelihood_for(values)
    return excess_error(likelihood.outputs_for(mean).expand_as(x), x, likelihood).double().mean().item()


@torch.enable_grad()
def train(
    network: Autoencoder,
    objective: Objective,
    images: Tensor,
    values: ValueScale,
    *,
    rows: Tensor | None = None,
    held_out: Tensor | None = None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    lr_schedule: str = "cosine",
    precision: torch.dtype = torch.float32,
    n_components: int = 10,
    delta: float | None,
    resolution: float,
    generator: torch.Generator,
    progress: Callable[[float], None] = lambda error: None,
) -> TrainingLog:
    r"""Trains a network with Adam, and returns the training log.

    Args:
        network: The network, on the device of the images.
        objective: The objective to minimise.
        images: The training images, with shape :math:`(N, *)`, in the user's value range.
        values: The conversion from image values to network inputs, and back.
        rows: The indices of the images to train on; ``None`` trains on all images.
        held_out: Images for measuring the reconstruction error. The network ends with the weights of the smallest
            error. With ``None``, training images replace these images, and the network keeps its last weights.
        epochs: The maximum number of epochs.
        batch_size: The number of images in a batch.
        learning_rate: Adam's initial learning rate.
        lr_schedule: ``"cosine"`` lowers the learning rate to 0 along a cosine; ``"constant"`` does not change it.
        precision: The data type of matrix products in the layers.
        n_components: The maximum number of mixture components, for objectives that learn a mixture.
        delta: Training stops when the excess reconstruction error, in nats per pixel, is below this value. A perfect
            reconstruction has an excess error of 0. ``None`` stops when the error stops falling.
        resolution: With ``delta=None``, training stops below this excess error even if the error still falls.
        generator: The random number generator of training.
        progress: A function ``progress(error)``, called with each measured excess reconstruction error.

    Raises:
        FloatingPointError: If training diverged.
    """
    log = TrainingLog()
    best = None
    rows = torch.arange(len(images), device=images.device) if rows is None else rows
    steps_per_epoch = math.ceil(len(rows) / batch_size)
    check_delta_every = CHECK_CONVOLUTIONAL_EVERY if network.architecture in CONVOLUTIONAL else CHECK_DELTA_EVERY
    check_every = max(1, round((CHECK_EVERY if delta is None else check_delta_every) / steps_per_epoch))
    checked = images[rows[:MAX_CHECKED]] if held_out is None else held_out[:MAX_CHECKED]

    # A separate stream, so that the draws of an objective do not change the order of the images.
    noise_seed = derive_seed(generator.initial_seed(), "noise")
    noise = torch.Generator(images.device).manual_seed(noise_seed)
    sample = values.to_network(images[rows[: chunk_size(PREPARED_ON, images.shape[1:], PREPARED_VALUES)]])
    objective.prepare(network, sample, n_components=n_components, generator=make_generator(noise_seed, "prepare"))
    objective.to(images.device)

    parameters = [*network.parameters(), *objective.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    rates = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * steps_per_epoch)
        if lr_schedule == "cosine"
        else torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    )
    # They do not change during training.
    entropies = image_entropies(checked, values)
    exploded = EXPLOSION_FACTOR * max(mean_image_error(checked, values), MIN_IMAGE_ERROR)
    for epoch in range(1, epochs + 1):
        objective.advance(network, sample, (epoch - 1) / epochs)
        order = rows[torch.randperm(len(rows), generator=generator).to(images.device)]
        for batch in order.split(batch_size):
            check_interruption()
            with _autocast(precision, images.device):
                losses = objective.losses(network, values.to_network(images[batch]), noise)
            optimiser.zero_grad(set_to_none=True)
            # All gradients are computed before any parameter moves.
            for number, (loss, loss_parameters) in enumerate(losses, start=1):
                torch.autograd.backward(loss, inputs=loss_parameters, retain_graph=number < len(losses))
            optimiser.step()
            rates.step()
        log.epochs = epoch
        log.steps += steps_per_epoch
        if epoch % check_every == 0 or epoch == epochs:
            error = mean_excess_error(network, checked, values, precision, entropies=entropies)
            if not error < exploded:
                raise FloatingPointError(
                    f"Training diverged: the reconstruction error is {error} after {epoch} epochs. Lower "
                    f"'learning_rate', which is {learning_rate}."
                )
            log.errors.append(error)
            log.checked_after.append(epoch)
            progress(error)
            if held_out is not None and error == min(log.errors):
                best = copy.deepcopy((network.state_dict(), objective.state_dict()))
            log.reached = error < (resolution if delta is None else delta) or (
                delta is None and stopped_falling(log.errors, tolerance=0.005)
            )
            if log.reached:
                break
    # Gradients would keep as much memory as the weights for the life of the network.
    optimiser.zero_grad(set_to_none=True)
    # The learning rate ends at 0, so the last errors change little, and only a fall by 10 % counts as falling.
    if not log.reached:
        log.reached = delta is None and stopped_falling(log.errors, tolerance=0.1)
    if best is not None:
        network.load_state_dict(best[0])
        objective.load_state_dict(best[1])
    objective.advance(network, sample, 1.0)
    log.training_error = mean_excess_error(network, images[rows[:MAX_CHECKED]], values, precision)
    return log


def stopped_falling(errors: list[float], tolerance: float) -> bool:
    r"""Returns whether errors have stopped falling during training.

    The function compares the smallest recent error with the smallest earlier error. Recent errors are the last quarter,
    but at least four. Without earlier errors, the result is false.

    Args:
        errors: All errors measured so far, in order.
        tolerance: A decrease by this fraction of the smallest earlier error, or less, does not count as falling.
    """
    recent = max(4, len(errors) // 4)
    return len(errors) > recent and min(errors[-recent:]) >= (1 - tolerance) * min(errors[:-recent])
