r"""How long a fit and its images are going to take, measured on a small part of them."""

__all__ = ["Forecast", "forecast"]

import io
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from joblib import effective_n_jobs

from ..augmenter import GAEAugmenter
from ..data.folders import as_pictures
from ..fitting.generator import STEPS, Generator
from .._utils.parallel import runs_here
from ..data.reading import open_source, read_classes
from ..data.strategy import Label, count_labels, resolve_strategy
from .._utils.threads import map_in_threads

TIMED_IMAGES = 32
"""So many images are made to learn how long one takes."""


@dataclass(frozen=True)
class Forecast:
    r"""What a fit would be of, and how long it and its images would take.

    Attributes:
        counts: The images of each class.
        added: The images to add to each class that has a generator.
        fit_seconds: How long the fits would take at most: a class whose error is small early is done early.
        sample_seconds: How long to make the images, and to write them as PNG files, would take.
    """

    counts: dict[Label, int]
    added: dict[Label, int]
    fit_seconds: float
    sample_seconds: float


def forecast(augmenter: GAEAugmenter, X: Any, y: Any = None) -> Forecast:
    r"""Returns how long ``augmenter.fit`` and the images of its strategy are going to take on this machine.

    A generator of the largest scarce class is trained for a fiftieth of its epochs, and for three times as many. The
    augmenter is left as it is.

    Args:
        augmenter: The augmenter, fitted or not.
        X: As in :meth:`gae_augment.GAEAugmenter.fit`.
        y: Likewise.

    Raises:
        TypeError, ValueError: As ``fit``, which needs the same data.
    """
    settings = augmenter._settings()
    labels, read = open_source(X, y)
    counts = count_labels(labels)
    added = {label: n for label, n in resolve_strategy(augmenter.sampling_strategy, labels).items() if n}
    if not added:
        return Forecast(counts, added, 0.0, 0.0)
    largest = max(added, key=lambda label: counts[label])
    images, values = read_classes(read, labels, [largest], None)

    at_once = torch.get_num_threads() if runs_here(augmenter.n_jobs) else effective_n_jobs(augmenter.n_jobs)
    at_once = min(at_once, len(added), torch.get_num_threads())

    def timed(epochs: int) -> tuple[float, Generator]:
        # As many at a time as there will be: they take memory's bandwidth from each other.
        def fit(_: int) -> Generator:
            return Generator(replace(settings, epochs=epochs)).fit(images[largest], seed=0, values=values)

        start = time.perf_counter()
        *_, generator = map_in_threads(fit, range(at_once), settings.n_threads)
        return time.perf_counter() - start, generator

    def epochs_of(label: Label) -> int:
        steps = math.ceil(counts[label] / settings.batch_size)
        return math.ceil(STEPS / steps) if settings.epochs == "auto" else settings.epochs

    short = max(1, epochs_of(largest) // 50)
    # The first one loads what is not loaded yet.
    timed(1)
    few, _ = timed(short)
    many, generator = timed(3 * short)
    epoch = max(many - few, 0.0) / (2 * short)
    rest = max(few - short * epoch, 0.0)
    seconds = [(epochs_of(label) * epoch + rest) * counts[label] / counts[largest] for label in added]
    # No class is done faster than the slowest of them.
    fit_seconds = max(max(seconds), sum(seconds) / at_once)

    start = time.perf_counter()
    made = generator.sample(TIMED_IMAGES, seed=0)
    if made.ndim == 4:
        for picture in as_pictures(made):
            picture.save(io.BytesIO(), "PNG")
    each = (time.perf_counter() - start) / TIMED_IMAGES
    return Forecast(counts, added, fit_seconds, each * sum(added.values()))
