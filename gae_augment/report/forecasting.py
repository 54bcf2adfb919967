r"""Forecasts how long an augmenter takes to fit its models and to sample images."""

__all__ = ["Forecast", "forecast"]

import io
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .._utils.seeding import make_generator
from .._utils.threads import use_threads
from ..augmenter import GAEAugmenter
from ..data import (
    DatasetView,
    Label,
    as_pictures,
    check_working_size,
    count_labels,
    load_source,
    read_classes,
    resolve_strategy,
)
from ..fitting import (
    FittedModel,
    check_classes,
    deformed_classes,
    fits_at_a_time,
    images_to_learn_from,
    make_plan,
    time_fit,
)
from ..mixing import apply_motion
from ..models import choose_models
from ..motion import MotionBank, learn_motions, motions_per_class, move, sample_deformed
from ..synthesis import sample

TIMED_IMAGES = 32
"""The number of images that are sampled to measure the mean time per image."""

TIMED_MOTIONS = 50
"""The number of motions that are learned to measure the mean time per motion."""

MOST_READ = 300
"""The maximum number of images of a class that are read."""


@dataclass(frozen=True)
class Forecast:
    r"""The numbers of images, and the forecast durations of fitting and sampling.

    Attributes:
        counts: The number of real images of each class.
        added: The number of synthetic images to add to each class that needs more images.
        fit_seconds: The duration of a fit, in seconds: reading images, fitting models and learning motions.
        sample_seconds: The duration of sampling all images to add and encoding them as PNG, in seconds.
        n_models: The number of models to fit.
    """

    counts: dict[Label, int]
    added: dict[Label, int]
    fit_seconds: float
    sample_seconds: float
    n_models: int


def forecast(augmenter: GAEAugmenter, X: Any, y: Any = None) -> Forecast:
    r"""Forecasts how long ``augmenter.fit`` and the sampling of synthetic images will take on this machine.

    The forecast extrapolates the durations of short trainings, of a second each. The augmenter does not change.

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
    deformed = deformed_classes(models, counts, read.shape, resized=read.resized)
    check_classes(models, counts, added, deformed, {label: str(label) for label in counts})
    learned = images_to_learn_from(counts, added, deformed)
    if not added or not learned:
        return Forecast(counts, added, 0.0, 0.0, 0)
    plans = {
        label: make_plan(models.get(label, models[None]), read.shape, n, augmenter.device, resized=read.resized)
        for label, n in learned.items()
    }
    at_a_time = min(fits_at_a_time(list(plans.values()), augmenter.n_jobs), len(plans), torch.get_num_threads())

    # Fits with the same kind of steps are timed once, for the class of median size.
    groups: dict[tuple[Any, ...], list[Label]] = {}
    for label, plan in plans.items():
        groups.setdefault((plan.model, plan.architecture, plan.batch_size, plan.stopping), []).append(label)
    medians = {sorted(group, key=learned.__getitem__)[len(group) // 2]: group for group in groups.values()}
    start = time.perf_counter()
    images, values = read_classes(read, labels, medians, None, most=dict.fromkeys(medians, MOST_READ))
    # Of images that are not bytes, this has read all.
    work = sum(learned.values()) / sum(map(len, images.values())) if read.dtype == torch.uint8 else 1.0
    read_seconds = work * (time.perf_counter() - start)
    times = {
        label: time_fit(
            images[label],
            plans[label],
            models.get(label, models[None]).resolved_definition,
            values,
            at_a_time=at_a_time,
        )
        for label in medians
    }
    seconds = [times[median].of(plans[label]) for median, group in medians.items() for label in group]
    # Parallel fits take at least as long as the slowest fit.
    fit_seconds = read_seconds + max(max(seconds), sum(seconds) / at_a_time)

    teachers = [label for label in learned if label in deformed]
    bank = MotionBank({})
    if teachers:
        fitted = next(times[median].fitted for median in medians if median in deformed)
        start = time.perf_counter()
        bank = MotionBank({0: learn_motions(fitted, TIMED_MOTIONS, seed=0)})
        per_motion = (time.perf_counter() - start) / TIMED_MOTIONS
        fit_seconds += per_motion * motions_per_class(len(teachers)) * len(teachers)
    sample_seconds = 0.0
    for is_deformed in (True, False):
        number = sum(n for label, n in added.items() if (label in deformed) == is_deformed)
        if not number:
            continue
        fitted = next(times[median].fitted for median in medians if (median in deformed) == is_deformed)
        sample_seconds += number * _seconds_per_image(fitted, X, bank if is_deformed else None)
    return Forecast(counts, added, fit_seconds, sample_seconds, len(plans))


@use_threads(1)
def _seconds_per_image(fitted: FittedModel, X: Any, bank: MotionBank | None) -> float:
    r"""Returns the time of a synthetic image and of its encoding, in seconds."""
    start = time.perf_counter()
    if bank is None or not isinstance(X, Dataset):
        sampled = (
            sample(fitted, TIMED_IMAGES, seed=0)
            if bank is None
            else sample_deformed(fitted, bank, TIMED_IMAGES, seed=0)
        )
        pictures = as_pictures(sampled) if sampled.ndim == 4 and sampled.dtype == torch.uint8 else iter(())
    else:
        # A dataset's images are moved at their own size.
        view, generator = DatasetView(X), make_generator(0, "forecast")
        chosen = np.linspace(0, len(view.labels) - 1, TIMED_IMAGES).astype(int).tolist()
        moved = [
            apply_motion(partial(move, v=bank.draw(1, generator=generator)), view.raw_image(index)) for index in chosen
        ]
        pictures = (image for image in moved if isinstance(image, Image.Image))
    for picture in pictures:
        picture.save(io.BytesIO(), "PNG")
    return (time.perf_counter() - start) / TIMED_IMAGES
