r"""Forecasts how long an augmenter takes to fit its models and to sample images."""

__all__ = ["Forecast", "forecast"]

import io
import time
from dataclasses import dataclass, replace

import torch

from .._utils.threads import map_in_threads
from ..augmenter import GAEAugmenter
from ..data import (
    Label,
    as_pictures,
    check_working_size,
    count_labels,
    load_source,
    read_classes,
    resolve_strategy,
)
from ..fitting import (
    MIN_IMAGES,
    MOTION_IMAGES,
    FittedModel,
    deformed_classes,
    fit_class,
    fits_at_a_time,
    make_plan,
)
from ..models import choose_models
from ..motion import MotionBank, learn_motions, sample_deformed
from ..synthesis import sample

TIMED_IMAGES = 32
"""The number of images that are sampled to measure the mean time per image."""


@dataclass(frozen=True)
class Forecast:
    r"""The numbers of images, and the forecast durations of fitting and sampling.

    Attributes:
        counts: The number of real images of each class.
        added: The number of synthetic images to add to each class that needs more images.
        fit_seconds: The duration of fitting all models, in seconds, if no fit stops early.
        sample_seconds: The duration of sampling all images to add and encoding them as PNG, in seconds.
    """

    counts: dict[Label, int]
    added: dict[Label, int]
    fit_seconds: float
    sample_seconds: float


def forecast(augmenter: GAEAugmenter, X: object, y: object = None) -> Forecast:
    r"""Forecasts how long ``augmenter.fit`` and the sampling of synthetic images will take on this machine.

    The forecast extrapolates the duration of short trainings. The augmenter does not change.

    Args:
        augmenter: The augmenter, fitted or not.
        X: A dataset of (image, label) pairs, or an array or tensor of images or feature vectors.
        y: The labels, with shape :math:`(N,)`; ``None`` if ``X`` is a dataset.

    Raises:
        TypeError, ValueError: If data or parameters of the augmenter are invalid.
    """
    models = choose_models(augmenter.model)
    check_working_size(augmenter.working_size)
    labels, read = load_source(X, y, augmenter.working_size)
    counts = count_labels(labels)
    added = {label: n for label, n in resolve_strategy(augmenter.sampling_strategy, labels).items() if n}
    if not added:
        return Forecast(counts, added, 0.0, 0.0)
    deformed = deformed_classes(models, counts, read.shape, resized=read.resized)
    # Motions are learned from all classes, and from some images of each.
    learned = {label: n if label not in deformed else min(n, MOTION_IMAGES) for label, n in counts.items()}
    to_fit = [label for label, n in learned.items() if n >= MIN_IMAGES and label in deformed.union(added)]
    if not to_fit:
        return Forecast(counts, added, 0.0, 0.0)
    largest = max(to_fit, key=lambda label: learned[label])
    images, values = read_classes(read, labels, [largest], None, most=learned)
    shape = tuple(images[largest].shape[1:])
    plans = {
        label: make_plan(models.get(label, models[None]), shape, learned[label], augmenter.device, resized=read.resized)
        for label in to_fit
    }
    plan, definition = plans[largest], models.get(largest, models[None]).resolved_definition

    # Several fits share the bandwidth of the memory. Processes beyond the threads of PyTorch would wait for cores.
    at_a_time = min(fits_at_a_time(list(plans.values()), augmenter.n_jobs), len(to_fit), torch.get_num_threads())

    def timed(epochs: int) -> tuple[float, FittedModel]:
        short = replace(plan, epochs=epochs)

        # As many fits run in parallel as in the real fit, because parallel fits share the memory bandwidth.
        def fit(_: int) -> FittedModel:
            return fit_class(images[largest], short, definition, values, seed=0)

        start = time.perf_counter()
        *_, fitted = map_in_threads(fit, range(at_a_time), plan.n_threads)
        return time.perf_counter() - start, fitted

    epochs = max(1, plan.epochs // 50)
    # Not timed, because the first training also loads libraries.
    timed(1)
    once, _ = timed(epochs)
    thrice, fitted = timed(3 * epochs)
    per_epoch = max(thrice - once, 0.0) / (2 * epochs)
    overhead = max(once - epochs * per_epoch, 0.0)
    seconds = [
        (class_plan.epochs * per_epoch + overhead) * learned[label] / learned[largest]
        for label, class_plan in plans.items()
    ]
    # Parallel fits take at least as long as the slowest fit.
    fit_seconds = max(max(seconds), sum(seconds) / at_a_time)

    # Motions are learned and drawn here too.
    start = time.perf_counter()
    if largest in deformed:
        bank = MotionBank({largest: learn_motions(fitted, TIMED_IMAGES, seed=0)})
        samples = sample_deformed(fitted, bank, TIMED_IMAGES, seed=0)
    else:
        samples = sample(fitted, TIMED_IMAGES, seed=0)
    if samples.ndim == 4:
        for picture in as_pictures(samples):
            picture.save(io.BytesIO(), "PNG")
    per_image = (time.perf_counter() - start) / TIMED_IMAGES
    return Forecast(counts, added, fit_seconds, per_image * sum(added.values()))
