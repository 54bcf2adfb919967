r"""Short trainings, each of about a second, that show how long the fit of a class takes."""

__all__ = ["FitTime", "time_fit"]

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._utils.seeding import make_generator
from .._utils.threads import map_in_threads
from ..data import ValueScale
from ..models import CONVOLUTIONAL, ModelDefinition
from .fit import fit_class
from .fitted import FittedModel
from .plan import Plan

TIMED_BATCHES, TIMED_SECONDS = 4, 1.0
"""The maximum number of batches of an epoch of the timed trainings, and about the time that they may take together."""

TRIAL_SECONDS = 1.0
"""The time after which a trial training ends at its next measurement of the error."""

TYPICAL_SHARE = {"held-out": (0.6, 0.3), "mean image": (0.45, 0.05), "plateau": (0.5, 0.5), "delta": (0.5, 0.5)}
"""The part of the planned epochs after which training stops, with convolutional networks and with others.

Classes of leaves, tiles and CIFAR-10 took 0.36 to 1 of the epochs with held-out images, and those of MNIST 0.24 to
0.86. Without held-out images, they took 0.09 to 1 and 0.02 to 0.03, so a trial comes first.
"""

CODES, CLUSTERS = 500, 5
"""The number of codes to which a density is fitted to take its time, and the number of their clusters."""


@dataclass(frozen=True)
class FitTime:
    r"""What the duration of the fits of some classes depends on.

    Attributes:
        step: The duration of an optimiser step, in seconds.
        share: The fraction of the planned epochs after which training stops.
        density: The duration of fitting the latent density, in seconds per image.
        fitted: A model after few steps.
    """

    step: float
    share: float
    density: float
    fitted: FittedModel

    def of(self, plan: Plan) -> float:
        r"""Returns the duration of a fit, in seconds."""
        steps_per_epoch = math.ceil((plan.images - plan.held_out) / plan.batch_size)
        return self.share * plan.epochs * steps_per_epoch * self.step + plan.images * self.density


def time_fit(
    images: Tensor, plan: Plan, definition: ModelDefinition, values: ValueScale, *, at_a_time: int = 1
) -> FitTime:
    r"""Trains shortly on images of one class, and returns what the duration of whole fits depends on.

    Args:
        images: Images of the class, with shape :math:`(N, *)`. A few hundred are enough.
        plan: The settings of the fit.
        definition: The model's objective, latent density and type of encoder.
        values: The conversion from image values to network inputs, and back.
        at_a_time: The number of fits that run in parallel, and share the bandwidth of the memory.
    """

    def timed(epochs: int, batches: int) -> tuple[float, FittedModel]:
        few = images[: batches * plan.batch_size]
        # One Gaussian, because the time of a mixture depends on the codes, which differ after few steps.
        short = replace(
            plan,
            images=len(few),
            epochs=epochs,
            stopping="all epochs",
            held_out=0,
            n_init=1,
            density="normal",
            truncated=False,
        )
        start = time.perf_counter()
        *_, fitted = map_in_threads(
            lambda _: fit_class(few, short, definition, values, seed=0), range(at_a_time), plan.n_threads
        )
        return time.perf_counter() - start, fitted

    # Not timed, because the first training also loads libraries.
    timed(1, 1)
    once, _ = timed(1, 1)
    # Epochs of as many batches as there is time for. What they take more than one epoch is free of fixed costs.
    batches = min(math.ceil(len(images) / plan.batch_size), TIMED_BATCHES, int(TIMED_SECONDS / (4 * once)))
    epochs = 3 if batches else 2
    batches = max(1, batches)
    if batches > 1:
        once, _ = timed(1, batches)
    several, fitted = timed(epochs, batches)
    step = max(several - once, 0.1 * several) / ((epochs - 1) * batches)
    return FitTime(step, _share(images, plan, definition, values), _density_seconds(fitted, plan), fitted)


class _TimeUpError(Exception):
    r"""Ends a trial training."""


def _share(images: Tensor, plan: Plan, definition: ModelDefinition, values: ValueScale) -> float:
    r"""Returns the part of the epochs after which training stops, from a trial of a second if that is long enough."""
    if plan.stopping not in TYPICAL_SHARE:
        return 1.0
    typical = TYPICAL_SHARE[plan.stopping][plan.architecture not in CONVOLUTIONAL]
    if plan.stopping == "held-out" or len(images) < plan.images:
        return typical
    start = time.perf_counter()

    def progress(error: float, delta: float | None) -> None:
        if time.perf_counter() - start > TRIAL_SECONDS:
            raise _TimeUpError

    try:
        fitted = fit_class(images, replace(plan, density="normal", truncated=False), definition, values, 0, progress)
    except _TimeUpError:
        return typical
    return fitted.report.epochs / plan.epochs


def _density_seconds(fitted: FittedModel, plan: Plan) -> float:
    r"""Returns the duration of fitting the latent density to codes in clusters, in seconds per code."""
    if plan.learned_prior:
        return 0.0
    generator = make_generator(0, "codes")
    centres = 3 * torch.randn(CLUSTERS, plan.latent_dim, generator=generator)
    codes = torch.randn(CODES, plan.latent_dim, generator=generator) + centres.repeat(CODES // CLUSTERS, 1)
    density = FittedModel(plan, fitted.definition, fitted.values).build_density()
    start = time.perf_counter()
    density.fit(codes)
    return (time.perf_counter() - start) / CODES
