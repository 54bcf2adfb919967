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
from ..models import Autoencoder, Bernoulli, Gaussian, Likelihood, Objective, excess_error

CHECK_EVERY = 25
"""The number of steps between two checks, which measure the error; rounded to whole epochs, at least one epoch."""

CHECK_DELTA_EVERY = 5
"""The number of steps between two checks with a boundary, which a small class crosses within a few dozen steps."""

EXPLOSION_FACTOR = 10_000
"""The weights have exploded if the error exceeds this multiple of the mean image's error."""

MIN_IMAGE_ERROR = 0.01
"""The minimum for the mean image's error in tests for divergence, in nats per pixel, if images hardly vary."""

MAX_CHECKED = 1000
"""The maximum number of images that the error is measured on."""

PREPARED_ON = 5000
"""The maximum number of images that an objective sees at once before training."""

PREPARED_VALUES = 4 * VALUES_PER_CHUNK
"""The maximum number of image values that are processed together before training."""


@dataclass
class TrainingLog:
    r"""The course of a training.

    Attributes:
        epochs: The number of epochs trained.
        steps: The number of optimiser steps.
        errors: The excess reconstruction error at each check, in nats per pixel.
        checked_after: The number of epochs before each check.
        training_error: The excess reconstruction error of the training images at the end, in nats per pixel.
        reached: Whether the error fell below ``delta``; with ``delta=None``, whether it stopped falling.
    """

    epochs: int = 0
    steps: int = 0
    errors: list[float] = field(default_factory=list)
    checked_after: list[int] = field(default_factory=list)
    training_error: float = math.inf
    reached: bool = False


def likelihood_for(values: ValueScale) -> Likelihood:
    r"""Returns the likelihood for images on the scale of the network's inputs.

    The likelihood is Gaussian for standardised values, and Bernoulli for values in [0, 1].
    """
    return Gaussian() if values.kind == "standardised" else Bernoulli()


def _autocast(precision: torch.dtype, device: torch.device) -> torch.autocast:
    r"""Context manager: layers compute matrix products in the type ``precision``."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


@torch.no_grad()
def mean_excess_error(
    network: Autoencoder,
    images: Tensor,
    values: ValueScale,
    precision: torch.dtype = torch.float32,
    batch_size: int = 500,
) -> float:
    r"""Returns the mean excess reconstruction error of images, in nats per pixel.

    The excess error is the reconstruction error of an image minus that of a perfect reconstruction.
    """
    errors = []
    for batch in images.split(chunk_size(batch_size, images.shape[1:])):
        x = values.to_network(batch)
        with _autocast(precision, images.device):
            outputs = network.decode(network.encode(x))
        errors.append(excess_error(outputs, x, likelihood_for(values)))
    return torch.cat(errors).double().mean().item()


@torch.no_grad()
def mean_image_error(images: Tensor, values: ValueScale) -> float:
    r"""Returns the mean excess error if the mean image is the reconstruction of every image, in nats per pixel.

    An autoencoder that has learned only the mean image has this error, whatever the contrast of the images.
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

    An objective may have several losses, each for its own parameters. One Adam optimiser serves all losses: it moves
    each parameter by the gradient of that parameter's loss. Parameters without a gradient do not change.

    Args:
        network: The network, on the device of the images.
        objective: The objective to minimise.
        images: The training images, with shape :math:`(N, *)`, in the user's value range.
        values: The value scale, which converts the user's values to the network's inputs.
        rows: The indices of the images to train on; by default all images.
        held_out: Images that the network is not trained on. If they are given, the error is measured on these images,
            and the network ends with the weights of the least error. By default the error is measured on training
            images.
        epochs: The maximum number of epochs.
        batch_size: The number of images in a batch.
        learning_rate: Adam's initial learning rate.
        lr_schedule: ``"cosine"``, along which the learning rate falls to 0, or ``"constant"``.
        precision: The type of matrix products inside the layers, forwards and backwards. Weights, losses and the error
            are float32.
        n_components: The maximum number of mixture components, for objectives that learn a mixture.
        delta: The excess reconstruction error, in nats per pixel, below which training stops. With 0, training runs for
            all epochs. With ``None``, training stops when the error stops falling: the last quarter of the checks did
            not lower the error, or the error is below ``resolution``.
        resolution: The excess reconstruction error below which nothing is left to learn, in nats per pixel.
        generator: The generator of the order of the images; its initial seed determines everything else that is random.
        progress: A function that is called with the error at each check.

    Raises:
        FloatingPointError: If the error is not finite, or at least ten thousand times the mean image's error.
    """
    log = TrainingLog()
    best = None
    rows = torch.arange(len(images), device=images.device) if rows is None else rows
    steps_per_epoch = math.ceil(len(rows) / batch_size)
    check_every = max(1, round((CHECK_EVERY if delta is None else CHECK_DELTA_EVERY) / steps_per_epoch))
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
            error = mean_excess_error(network, checked, values, precision)
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
    r"""Returns whether the recent errors are at most slightly lower than the least earlier error.

    Recent errors are the last quarter, and at least four. Without earlier errors, the result is false.

    Args:
        errors: The errors at all checks.
        tolerance: The largest fall, as a fraction of the least earlier error, that does not count as falling.
    """
    recent = max(4, len(errors) // 4)
    return len(errors) > recent and min(errors[-recent:]) >= (1 - tolerance) * min(errors[:-recent])
