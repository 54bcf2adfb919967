r"""Chooses the fraction of synthetic images in training batches, and saves the choice in a file."""

__all__ = ["choose_fraction"]

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from gae_augment import GAEAugmenter
from gae_augment._utils.files import file_lock, read_file, write_file
from gae_augment.data import ImageReader, load_source, read_in_batches
from gae_augment.evaluation import FractionChoice, Labelled, checked_images, choose_synthetic_fraction
from gae_augment.models import choice_to_plain
from gae_augment.report import working_size_of

STEPS, BATCH_SIZE = 600, 128
"""The approximate number of training steps, and the batch size, of each classifier that tests a fraction."""


def choose_fraction(fitted: GAEAugmenter, training_set: Any, folder: Path, seed: int) -> FractionChoice:
    r"""Chooses the ``synthetic_fraction`` of :class:`gae_augment.MixedSampler`, and saves the choice in a file.

    If an earlier call with equal arguments saved its choice, the choice is read from the file.

    Args:
        fitted: The fitted augmenter. Copies of it are fitted to random parts of the training set.
        training_set: The training set. Its transforms are not applied.
        folder: The folder of the file.
        seed: The seed of all random numbers.

    Raises:
        ValueError: If the data are vectors, or images that are neither uint8 nor in [0, 1].
    """
    labels, read = load_source(training_set, working_size=working_size_of(fitted))
    # The key covers the code of custom models, but only the plans of the whole training set; those of splits differ.
    settings = [fitted.cache_key_, choice_to_plain(fitted.model), sorted(fitted.sampling_strategy_.items()), seed]
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(labels.tobytes())
    for _, batch in read_in_batches(read, len(labels)):
        digest.update(f"{batch.dtype} {tuple(batch.shape[1:])}".encode())
        digest.update(batch.contiguous().flatten().view(torch.uint8).numpy().data)
    path = folder / f"fraction-{digest.hexdigest()[:32]}.safetensors"
    # Of several processes one chooses, and the others wait for its file.
    with file_lock(path):
        choice = _load(path)
        if choice is None:
            choice = _choose(fitted, labels, _read_all(read, len(labels)), seed)
            write_file(path, {"choice": choice.as_dict()}, {})
    return choice


def _load(path: Path) -> FractionChoice | None:
    try:
        return FractionChoice.from_dict(read_file(path)[0]["choice"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        # Missing or damaged.
        return None


def _read_all(read: ImageReader, n: int) -> Tensor:
    try:
        return checked_images(read(range(n)), "training")
    except ValueError as error:
        raise ValueError(
            f"synthetic_fraction='auto' tests fractions with a small classifier, which cannot use these images. "
            f"{error} Or set the fraction yourself: 0.5 is a good first choice."
        ) from error


def _choose(fitted: GAEAugmenter, labels: np.ndarray, images: Tensor, seed: int) -> FractionChoice:
    classes, class_of = np.unique(labels, return_inverse=True)

    def synthesise(real: Labelled, seed: int) -> Labelled:
        # The images already have the working size.
        augmenter = clone(fitted).set_params(random_state=seed, working_size="auto")
        X, y = augmenter.fit_resample(real[0], classes[real[1].numpy()])
        n_real = len(real[1])
        return X[n_real:], torch.from_numpy(np.searchsorted(classes, y[n_real:]))

    return choose_synthetic_fraction(
        (images, torch.from_numpy(class_of)),
        synthesise,
        seed=seed,
        epochs=math.ceil(STEPS / math.ceil(len(labels) / BATCH_SIZE)),
        batch_size=BATCH_SIZE,
    )
