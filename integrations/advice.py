r"""Asks for advice on motions and synthetic images, on top of what a data module trains with."""

__all__ = ["advice_for", "check_advise_options", "check_can_advise"]

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gae_augment import AugmentedDataset, GAEAugmenter, GenerativeModel
from gae_augment._utils.files import file_lock
from gae_augment.augmenter import motion_learner
from gae_augment.data import geometric_transform, image_views, load_source
from gae_augment.evaluation import Advice, advise
from gae_augment.models import choice_to_plain

REMEDIES = {0.0: "balanced softmax", 0.5: "square-root sampling with balanced softmax", 1.0: "class-balanced sampling"}
"""The remedies for imbalance, by the ``balance`` of :class:`gae_augment.MixedSampler`."""

OWN_OPTIONS = {"train", "learn_motions", "class_names", "checkpoint_dir", "progress"}
"""The arguments of ``advise`` that the data module sets itself."""


def check_advise_options(options: Mapping[str, Any] | None) -> None:
    r"""Checks the names of further arguments of :func:`gae_augment.evaluation.advise`.

    Raises:
        ValueError: If ``advise`` has no such argument, or the data module sets it itself.
    """
    allowed = set(inspect.signature(advise).parameters) - OWN_OPTIONS
    if unknown := set(options or ()) - allowed:
        raise ValueError(f"'advise_options' has {sorted(unknown)}, but may have only {sorted(allowed)}.")


def check_can_advise(training_set: Any) -> None:
    r"""Checks that a training set has images.

    Raises:
        ValueError: If its data are vectors.
    """
    shape = load_source(training_set, working_size="auto")[1].shape
    if len(shape) == 1:
        raise ValueError(
            f"synthetic_fraction='auto' compares ways of training on images, but the data are vectors of {shape[0]} "
            f"features. Set the fraction yourself: 0.5 is a good first choice."
        )


def advice_for(
    fitted: GAEAugmenter,
    augmented: AugmentedDataset,
    training_set: Any,
    options: Mapping[str, Any],
    *,
    balance: float,
    cache_dir: Path,
    seed: int,
    progress: Callable[[str], None],
) -> Advice:
    r"""Returns the advice of :func:`gae_augment.evaluation.advise` on a training set.

    The advice is on top of what the user trains with: the remedy for imbalance that is closest to ``balance``, and the
    transforms of the training set if they may move pixels. Standard views take the place of transforms that are not
    torchvision's.

    Args:
        fitted: The fitted augmenter. Copies of its model learn motions from parts of the training set.
        augmented: The training set with its transforms; synthetic images do not matter.
        training_set: The training set.
        options: Further arguments of ``advise``, which replace those that are chosen here.
        balance: The ``balance`` of :class:`gae_augment.MixedSampler`.
        cache_dir: A folder for finished splits, from which the same call resumes.
        seed: The seed of all random numbers.
        progress: A function that is called with lines of text.

    Raises:
        ValueError: If an option is invalid, or nothing can be held out.
    """
    # One model per class would not fit parts in which other classes are scarce.
    model = fitted.model if isinstance(fitted.model, GenerativeModel) else GenerativeModel()
    chosen = {
        "strategy": REMEDIES[min(REMEDIES, key=lambda known: abs(known - balance))],
        "standard_views": _standard_views(augmented),
        # The comparison adds deformed images to scarce classes, and no others.
        "synthetic_images": all(model.plan.synthesis == "deformed" for model in fitted.models_.values()),
        "device": fitted.device,
        "seed": seed,
    }
    digest = hashlib.sha256(repr([choice_to_plain(model), fitted.cache_key_]).encode()).hexdigest()
    folder = cache_dir / f"advice-{digest[:16]}"
    # Of several processes one compares. The others wait, and read its splits.
    with file_lock(folder):
        return advise(
            training_set,
            motion_learner(model, fitted.device),
            class_names=fitted.class_names_,
            checkpoint_dir=folder,
            progress=progress,
            **{**chosen, **options},
        )


def _standard_views(augmented: AugmentedDataset) -> bool | Callable[[Tensor], Tensor]:
    if not augmented.raw_images_repeat:
        return True
    if geometric_transform(augmented.transform_functions) is None:
        return False
    return image_views(augmented.transform_functions) or True
