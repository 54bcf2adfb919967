r"""The one training loop."""

__all__ = ["PREPARED_VALUES", "SCHEDULES", "VALUES_AT_ONCE", "TrainingLog", "at_once", "train"]

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.networks import Autoencoder
from ..models.objectives import Objective, excess_error
from .._utils.seeding import derive_seed, make_generator
from ..data.values import ValueScale

CHECK_EVERY = 25
"""The error is measured once in so many steps, or once an epoch where that is rarer."""

CHECK_DELTA_EVERY = 5
"""The same where it is compared with a boundary, which a small class passes within some dozen steps."""

RESOLVED = 1e-3
"""The excess error, in nats per pixel, below which nothing is left to learn: some levels of 255 at mid-grey."""

EXPLODED = 10_000
"""An error of so many times that of the mean image, or more, comes of weights that have run away."""

FLAT = 0.01
"""The mean image's error, in nats per pixel, of images that hardly differ: it cannot say what is large."""

AT_MOST_CHECKED = 1000
"""The error is measured on at most so many images."""

PREPARED_ON = 5000
"""Objectives see at most so many images at once, to begin from."""

VALUES_AT_ONCE = 2**22
"""So many values of images pass through a network together where nothing is learned: large images come in fewer."""

PREPARED_VALUES = 4 * VALUES_AT_ONCE
"""So many are looked at together before training."""

SCHEDULES = ("cosine", "constant")
"""How the learning rate goes on: to 0 along a cosine, or as it began."""


@dataclass
class TrainingLog:
    r"""What a training came to.

    Attributes:
        epochs: The epochs trained.
        steps: The optimiser's steps.
        errors: The excess reconstruction error at each check, in nats per pixel.
        checked_after: The epochs trained at each check.
        training_error: That of the training images at the end.
        reached: Whether the error came below ``delta``, or with ``delta=None`` whether it stopped falling.
    """

    epochs: int = 0
    steps: int = 0
    errors: list[float] = field(default_factory=list)
    checked_after: list[int] = field(default_factory=list)
    training_error: float = math.inf
    reached: bool = False


def at_once(most: int, shape: Sequence[int], values: int = VALUES_AT_ONCE) -> int:
    r"""Returns how many images of a shape, at most so many, have at most so many values together."""
    return max(1, min(most, values // math.prod(shape)))


def computed_in(precision: torch.dtype, device: torch.device) -> torch.autocast:
    r"""Returns a context in which the products inside of layers are computed in a precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


@torch.no_grad()
def mean_excess(
    network: Autoencoder,
    images: Tensor,
    values: ValueScale,
    precision: torch.dtype = torch.float32,
    batch_size: int = 500,
) -> float:
    r"""Returns the mean excess reconstruction error of images, in nats per pixel."""
    errors = []
    for batch in images.split(at_once(batch_size, images.shape[1:])):
        x = values.to_network(batch)
        with computed_in(precision, images.device):
            outputs = network.decode(network.encode(x))
        errors.append(excess_error(outputs, x, values.likelihood))
    return torch.cat(errors).double().mean().item()


@torch.no_grad()
def spread(images: Tensor, values: ValueScale) -> float:
    r"""Returns the excess error of the mean image as a reconstruction of all, in nats per pixel.

    It is what an autoencoder begins with once it has learned that mean, whatever the contrast of the data.
    """
    x = values.to_network(images)
    mean = x.mean(dim=0, keepdim=True)
    outputs = mean.logit(eps=1e-6) if values.likelihood == "bernoulli" else mean
    return excess_error(outputs.expand_as(x), x, values.likelihood).double().mean().item()


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
    schedule: str = "cosine",
    precision: torch.dtype = torch.float32,
    components: int = 10,
    delta: float | None,
    resolved: float = RESOLVED,
    generator: torch.Generator,
    progress: Callable[[float], None] = lambda error: None,
) -> TrainingLog:
    r"""Trains a network with Adam.

    An objective may have several losses, each for parameters of its own. Adam moves each parameter by its own gradients
    alone and leaves one without any as it is, so that one instance is as many optimisers as there are losses.

    Args:
        network: The network, on the device of the images.
        objective: What is minimised.
        images: The training images, with shape :math:`(N, *)`, in the user's values.
        values: How these values are seen by the network.
        rows: The places of the images that are trained on, where it is not all of them; no copy is made of these.
        held_out: Images of the same kind that are not trained on. The error is measured on them, and the network ends
            with the weights that had the least; without them it is measured on training images.
        epochs: The most epochs.
        batch_size: The images in a batch.
        learning_rate: Adam's first learning rate.
        schedule: One of :data:`SCHEDULES`.
        precision: What the products inside of the layers are computed in, forwards and backwards. Weights are float32
            in any case, and so is what losses and the error are summed from.
        components: The most components of a mixture, for objectives that have one.
        delta: The excess reconstruction error, in nats per pixel, below which training stops. With ``None`` it stops
            when the error stops falling: when the last quarter of the checks has not lowered it, or when it is too
            small to be seen. With 0 it goes on for all epochs.
        resolved: The error, in nats per pixel, that is too small to be seen.
        generator: What the order of the images is drawn from, and then everything else that is random.
        progress: Called with the error at each check.

    Raises:
        FloatingPointError: If the error is no longer a finite number, or ten thousand times that of the mean image.
    """
    log = TrainingLog()
    best = None
    rows = torch.arange(len(images), device=images.device) if rows is None else rows
    steps_per_epoch = math.ceil(len(rows) / batch_size)
    check_every = max(1, round((CHECK_EVERY if delta is None else CHECK_DELTA_EVERY) / steps_per_epoch))
    checked = images[rows[:AT_MOST_CHECKED]] if held_out is None else held_out[:AT_MOST_CHECKED]

    # A stream of its own, so that what an objective draws leaves the order of the images as it is.
    noise_seed = derive_seed(generator.initial_seed(), "noise")
    noise = torch.Generator(images.device).manual_seed(noise_seed)
    sample = values.to_network(images[rows[: at_once(PREPARED_ON, images.shape[1:], PREPARED_VALUES)]])
    objective.prepare(network, sample, components=components, generator=make_generator(noise_seed, "prepare"))
    objective.to(images.device)

    parameters = [*network.parameters(), *objective.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    rates = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * steps_per_epoch)
        if schedule == "cosine"
        else torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    )
    exploded = EXPLODED * max(spread(checked, values), FLAT)
    for epoch in range(1, epochs + 1):
        objective.advance(network, sample, (epoch - 1) / epochs)
        order = rows[torch.randperm(len(rows), generator=generator).to(images.device)]
        for chosen in order.split(batch_size):
            with computed_in(precision, images.device):
                losses = objective.losses(network, values.to_network(images[chosen]), noise)
            optimiser.zero_grad(set_to_none=True)
            # All gradients are taken before any parameter moves.
            for place, (loss, own) in enumerate(losses, start=1):
                torch.autograd.backward(loss, inputs=own, retain_graph=place < len(losses))
            optimiser.step()
            rates.step()
        log.epochs = epoch
        log.steps += steps_per_epoch
        if epoch % check_every == 0 or epoch == epochs:
            error = mean_excess(network, checked, values, precision)
            if not error < exploded:
                raise FloatingPointError(
                    f"The reconstruction error is {error} after {epoch} epochs: training diverged. "
                    f"Lower 'learning_rate', which is {learning_rate}."
                )
            log.errors.append(error)
            log.checked_after.append(epoch)
            progress(error)
            if held_out is not None and error == min(log.errors):
                best = copy.deepcopy((network.state_dict(), objective.state_dict()))
            log.reached = error < (resolved if delta is None else delta) or (
                delta is None and stopped_falling(log.errors, tolerance=0.005)
            )
            if log.reached:
                break
    # They would take as much memory as the weights for as long as the network is there.
    optimiser.zero_grad(set_to_none=True)
    # The learning rate ends at 0, so what counts at the end is whether the error was still on its way down.
    if not log.reached:
        log.reached = delta is None and stopped_falling(log.errors, tolerance=0.1)
    if best is not None:
        network.load_state_dict(best[0])
        objective.load_state_dict(best[1])
    objective.advance(network, sample, 1.0)
    log.training_error = mean_excess(network, images[rows[:AT_MOST_CHECKED]], values, precision)
    return log


def stopped_falling(errors: list[float], tolerance: float) -> bool:
    r"""Returns whether the last quarter of the errors, at least four, lowered the least one by less than a part."""
    recent = max(4, len(errors) // 4)
    return len(errors) > recent and min(errors[-recent:]) >= (1 - tolerance) * min(errors[:-recent])
