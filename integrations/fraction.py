r"""The synthetic fraction of a training set, chosen once and kept beside its generators."""

__all__ = ["AUTO", "choose_fraction"]

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from gae_augment import GAEAugmenter
from gae_augment.evaluation import FractionChoice, choose_synthetic_fraction
from gae_augment.evaluation.images import Labelled, checked_images
from gae_augment._utils.files import read_file, write_file
from gae_augment.data.reading import open_source

AUTO = "auto"
"""The fraction that is to be chosen."""

STEPS, BATCH_SIZE = 600, 128
"""How long the classifier that a choice is made with is trained."""


def choose_fraction(augmenter: GAEAugmenter, training_set: Any, path: Path, seed: int) -> FractionChoice:
    r"""Returns the choice that a file holds, or makes it and writes the file.

    Args:
        augmenter: What makes the images; a copy of it is fitted for each split.
        training_set: The training set, whose raw images the choice is made on.
        path: The file.
        seed: What everything random depends on.

    Raises:
        ValueError: If the raw images are none that a classifier sees: vectors, or values that are neither uint8 nor
            in [0, 1].
    """
    try:
        return FractionChoice.from_dict(read_file(path)[0]["choice"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Not there, or damaged.
        pass
    labels, read = open_source(training_set)
    try:
        images = checked_images(read(range(len(labels))), "training")
    except ValueError as error:
        raise ValueError(
            f"synthetic_fraction='auto' tries fractions with a small classifier of images, and cannot here. {error} Or "
            f"set the fraction yourself: 0.5 is a good first choice."
        ) from error
    classes, class_of = np.unique(labels, return_inverse=True)

    def synthesise(real: Labelled, seed: int) -> Labelled:
        own = clone(augmenter).set_params(random_state=seed)
        X, y = own.fit_resample(real[0], classes[real[1].numpy()])
        made = len(real[1])
        return X[made:], torch.from_numpy(np.searchsorted(classes, y[made:]))

    choice = choose_synthetic_fraction(
        (images, torch.from_numpy(class_of)),
        synthesise,
        seed=seed,
        epochs=math.ceil(STEPS / math.ceil(len(labels) / BATCH_SIZE)),
        batch_size=BATCH_SIZE,
    )
    write_file(path, {"choice": choice.as_dict()}, {})
    return choice
