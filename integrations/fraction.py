r"""The synthetic fraction of a training set, chosen once and kept in a file beside the fitted classes."""

__all__ = ["AUTO", "choose_fraction"]

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from gae_augment import GAEAugmenter
from gae_augment._utils.files import read_file, write_file
from gae_augment.data import load_source
from gae_augment.evaluation import FractionChoice, Labelled, checked_images, choose_synthetic_fraction

AUTO = "auto"
"""The fraction that is chosen on held-out images."""

STEPS, BATCH_SIZE = 600, 128
"""The training of the classifier that a choice is made with."""


def choose_fraction(fitted: GAEAugmenter, training_set: Any, folder: Path, seed: int) -> FractionChoice:
    r"""Returns the synthetic fraction for a training set, chosen once and kept in a file of a folder.

    Args:
        fitted: The fitted augmenter; a copy of it is fitted for each split.
        training_set: The training set, whose raw images the choice is made on.
        folder: The folder of the file, whose name is a hash of all that the choice depends on.
        seed: The seed of everything random.

    Raises:
        ValueError: If the raw images suit no classifier: vectors, or values that are neither uint8 nor in [0, 1].
    """
    labels, read = load_source(training_set)
    try:
        images = checked_images(read(range(len(labels))), "training")
    except ValueError as error:
        raise ValueError(
            f"synthetic_fraction='auto' tries fractions with a small classifier of images, which these images do not "
            f"suit. {error} Or set the fraction yourself: 0.5 is a good first choice."
        ) from error
    settings = (fitted.cache_key_, sorted(fitted.sampling_strategy_.items()), seed, str(images.dtype), images.shape)
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(labels.tobytes())
    digest.update(images.contiguous().flatten().view(torch.uint8).numpy().data)
    path = folder / f"fraction-{digest.hexdigest()[:32]}.safetensors"
    try:
        return FractionChoice.from_dict(read_file(path)[0]["choice"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Missing or damaged.
        pass
    classes, class_of = np.unique(labels, return_inverse=True)

    def synthesise(real: Labelled, seed: int) -> Labelled:
        augmenter = clone(fitted).set_params(random_state=seed)
        X, y = augmenter.fit_resample(real[0], classes[real[1].numpy()])
        n_real = len(real[1])
        return X[n_real:], torch.from_numpy(np.searchsorted(classes, y[n_real:]))

    choice = choose_synthetic_fraction(
        (images, torch.from_numpy(class_of)),
        synthesise,
        seed=seed,
        epochs=math.ceil(STEPS / math.ceil(len(labels) / BATCH_SIZE)),
        batch_size=BATCH_SIZE,
    )
    write_file(path, {"choice": choice.as_dict()}, {})
    return choice
