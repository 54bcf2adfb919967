r"""Fits the generative model of one class."""

__all__ = ["Progress", "fit_class", "fit_model", "no_progress"]

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._utils.chunks import chunk_size
from .._utils.devices import to_device
from .._utils.seeding import derive_seed, make_generator
from .._utils.threads import use_threads
from ..data import ValueScale
from ..models import PRECISIONS, Autoencoder, GenerativeModel, ModelDefinition, Objective
from .fitted import IMAGES_PER_CHUNK, FitReport, FittedModel
from .plan import MEAN_IMAGE_FRACTION, Plan, make_plan
from .training import (
    MAX_CHECKED,
    MIN_IMAGE_ERROR,
    PREPARED_VALUES,
    TrainingLog,
    likelihood_for,
    mean_image_error,
    train,
)

Progress = Callable[[float, float | None], None]
"""The type of a function ``progress(error, threshold)``. Both numbers are in nats per pixel.

Training stops when ``error`` is below ``threshold``, which is ``None`` under another stopping rule.
"""

NORMALISED_ON = 5000
"""The maximum number of training images that define the network's normalisation."""

DIVERGENCE_FACTOR = 10
"""Training has diverged if its final reconstruction error exceeds this multiple of the mean image's error."""

LEARNING_RATE_FACTORS = (1.0, 0.1, 0.01)
"""The first attempt and the two retries multiply ``Plan.learning_rate`` by these factors."""


def no_progress(error: float, delta: float | None) -> None:
    r"""Shows no progress."""


def fit_model(
    images: Tensor,
    model: GenerativeModel | None = None,
    *,
    seed: int,
    values: ValueScale | None = None,
    device: torch.device | str = "auto",
    progress: Progress = no_progress,
) -> FittedModel:
    r"""Returns a model fitted to the images of one class.

    Args:
        images: The images, with shape :math:`(N, *)`, :math:`N \geq 2`.
        model: The model and its hyper-parameters. ``None`` is the generative autoencoder with its defaults.
        seed: The seed of all random numbers.
        values: The conversion from image values to network inputs, and back. ``None`` chooses one for ``images``.
        device: The device of training and sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.
        progress: A function ``progress(error, threshold)``, called during training. ``error`` is the latest
            reconstruction error, in nats per pixel. Training stops when ``error`` is below ``threshold``, which is
            ``None`` under another stopping rule.

    Raises:
        ValueError: If there are fewer than 2 images, or a hyper-parameter is invalid for the images.
        RuntimeError: If ``device`` is not the name of a torch device.
        FloatingPointError: If training diverged in three attempts with decreasing learning rates.

    Example:
        >>> images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> fitted = fit_model(images, GenerativeModel(epochs=2), seed=0)
        >>> fitted.encode(images).shape
        torch.Size([20, 10])
    """
    model = model or GenerativeModel()
    plan = make_plan(model, tuple(images.shape[1:]), len(images), device)
    return fit_class(images, plan, model.resolved_definition, values or ValueScale.of(images), seed, progress)


def fit_class(
    images: Tensor,
    plan: Plan,
    definition: ModelDefinition,
    values: ValueScale,
    seed: int,
    progress: Progress = no_progress,
) -> FittedModel:
    r"""Returns a model fitted to the images of one class, with the settings of a plan.

    Args:
        images: The images, with shape :math:`(N, *)`, :math:`N \geq 2`.
        plan: The settings of the fit.
        definition: The model's objective, latent density and type of encoder.
        values: The conversion from image values to network inputs, and back.
        seed: The seed of all random numbers.
        progress: A function ``progress(error, threshold)``, called during training. ``error`` is the latest
            reconstruction error, in nats per pixel. Training stops when ``error`` is below ``threshold``, which is
            ``None`` under another stopping rule.

    Raises:
        FloatingPointError: If training diverged in three attempts with decreasing learning rates.
    """
    start = time.perf_counter()
    anchors = images.cpu()
    images = to_device(images, torch.device(plan.device))
    for retries, factor in enumerate(LEARNING_RATE_FACTORS):
        attempt = plan
        if retries:
            attempt = replace(plan, learning_rate=factor * plan.learning_rate, precision="float32")
        fitted = FittedModel(attempt, definition, values)
        try:
            log, delta = _train_and_fit_density(fitted, images, seed, progress)
            break
        except FloatingPointError:
            if factor == LEARNING_RATE_FACTORS[-1]:
                raise
    fitted.anchors = anchors if plan.keeps_images else None
    fitted.report = FitReport(
        images=len(images),
        epochs=log.epochs,
        reconstruction_error=log.training_error,
        delta=delta,
        delta_reached=None if delta is None else log.reached,
        n_components=fitted.density.n_components,
        seconds=time.perf_counter() - start,
        retries=retries,
        curve=tuple(zip(log.checked_after, log.errors, strict=True)),
        plan=fitted.plan,
    )
    fitted.network.cpu()
    return fitted


def _train_and_fit_density(
    fitted: FittedModel, images: Tensor, seed: int, progress: Progress
) -> tuple[TrainingLog, float | None]:
    r"""Trains the network of ``fitted`` and sets its density. Returns the training log and ``FitReport.delta``."""
    plan = fitted.plan
    with use_threads(plan.n_threads):
        log, objective, delta = _train(fitted, images, seed, progress)
        mean_error = mean_image_error(images[:MAX_CHECKED], fitted.values)
    if fitted.definition.early_stopping and log.training_error > DIVERGENCE_FACTOR * max(mean_error, MIN_IMAGE_ERROR):
        raise FloatingPointError(
            f"Training diverged: the final reconstruction error is {log.training_error}, more than "
            f"{DIVERGENCE_FACTOR} times that of the mean image. Lower 'learning_rate', which is {plan.learning_rate}."
        )
    codes = fitted.encode(images)
    if not codes.isfinite().all():
        raise FloatingPointError("Training diverged: codes of training images are not finite. Lower 'learning_rate'.")
    is_image = len(plan.shape) > 1
    if is_image or plan.keeps_images:
        fitted.codes = codes.cpu()
    if is_image:
        fitted.explained = _explained(fitted, images[:MAX_CHECKED], codes[:MAX_CHECKED])
    prior = objective.prior(fitted.network) if plan.learned_prior else None
    if prior is not None:
        fitted.density = prior
        return log, delta
    fitted.density = fitted.build_density().fit(codes, seed=derive_seed(seed, "density"))
    if plan.truncated:
        fitted.limits = torch.stack([codes.amin(dim=0), codes.amax(dim=0)]).cpu().double()
    return log, delta


# With several threads, rounding errors would depend on their number.
@use_threads(1)
@torch.no_grad()
def _explained(fitted: FittedModel, images: Tensor, codes: Tensor) -> float:
    r"""Returns the fraction of the variance of images that their reconstructions from codes explain, in [0, 1]."""
    residual, deviation = 0.0, 0.0
    for rows in torch.arange(len(images)).split(chunk_size(IMAGES_PER_CHUNK, fitted.shape)):
        x = fitted.values.to_network(images[rows])
        residual += float((x - fitted.likelihood.mean(fitted.network.decode(codes[rows]))).square().sum())
        deviation += float((x - fitted.network.mean).square().sum())
    return min(1.0, max(0.0, 1 - residual / deviation)) if deviation else 0.0


def _train(
    fitted: FittedModel, images: Tensor, seed: int, progress: Progress
) -> tuple[TrainingLog, Objective, float | None]:
    r"""Trains the network of ``fitted``. Returns the training log, the objective and ``FitReport.delta``."""
    plan = fitted.plan
    rows, held_out = torch.arange(len(images), device=images.device), None
    delta: float | None
    match plan.stopping:
        case "all epochs":
            delta = 0.0
        case "delta":
            delta = plan.delta
        case "mean image":
            delta = max(MEAN_IMAGE_FRACTION * mean_image_error(images, fitted.values), plan.resolution)
        case _:
            delta = None
    if plan.held_out:
        order = torch.randperm(len(images), generator=make_generator(seed, "held out")).to(images.device)
        # Only the held-out images that the error is measured on are copied.
        held_out = images[order[: min(plan.held_out, MAX_CHECKED)]]
        rows = order[plan.held_out :]
    log, objective = _train_best_of(fitted, images, rows, held_out, delta, seed, progress)
    match plan.stopping:
        case "all epochs":
            return log, objective, None
        case "plateau":
            return log, objective, max(min(log.errors), plan.resolution)
        case "held-out":
            return log, objective, min(log.errors)
    return log, objective, delta


def _train_best_of(
    fitted: FittedModel,
    images: Tensor,
    rows: Tensor,
    held_out: Tensor | None,
    delta: float | None,
    seed: int,
    progress: Progress,
) -> tuple[TrainingLog, Objective]:
    r"""Trains each initialisation for ``trial_epochs`` epochs, then the best one for the remaining epochs.

    :func:`train` explains the arguments.
    """
    plan, likelihood = fitted.plan, likelihood_for(fitted.values)

    def run(network: Autoencoder, start: int, epochs: int, **options: Any) -> tuple[TrainingLog, Objective]:
        objective = fitted.definition.objective(likelihood)
        log = train(
            network,
            objective,
            images,
            fitted.values,
            rows=rows,
            epochs=epochs,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            precision=PRECISIONS[plan.precision],
            n_components=plan.learned_components,
            generator=make_generator(seed, "batches", *([start] if start else [])),
            resolution=plan.resolution,
            **options,
        )
        return log, objective

    normalised_on = rows[: chunk_size(NORMALISED_ON, plan.shape, PREPARED_VALUES)]
    trials: list[tuple[float, Autoencoder]] = []
    for start in range(plan.n_init):
        network = fitted.build_network(make_generator(seed, "weights", *([start] if start else [])))
        network.to(images.device).fit_normalisation(fitted.values.to_network(images[normalised_on]), likelihood)
        error = 0.0
        if plan.trial_epochs:
            error = run(network, start, plan.trial_epochs, delta=0.0, lr_schedule="constant")[0].errors[-1]
        trials.append((error, network))
    # With fewer than two epochs per initialisation there are no trials, and the last network is trained.
    _, fitted.network = min(trials, key=lambda trial: trial[0]) if plan.trial_epochs else trials[-1]
    log, objective = run(
        fitted.network,
        0,
        plan.epochs - plan.n_init * plan.trial_epochs,
        held_out=held_out,
        delta=delta,
        lr_schedule=plan.lr_schedule,
        progress=lambda error: progress(error, delta or None),
    )
    log.epochs += plan.n_init * plan.trial_epochs
    log.checked_after = [epoch + plan.n_init * plan.trial_epochs for epoch in log.checked_after]
    return log, objective
