r"""Checks of a data module's arguments, before any long fit."""

__all__ = ["AUTO", "MODES", "check_arguments", "check_data", "check_loader_settings"]

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset

from gae_augment import GAEAugmenter, MixedSampler
from gae_augment.mixing import check_teacher, check_weight

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.lightning needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error

MODES = ("mix", "fill")
"""How batches are drawn."""

AUTO = "auto"
"""The fraction that is chosen on held-out images."""

RESERVED_SETTINGS = {"dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "generator"}
"""The settings of a DataLoader that the data module sets itself."""


def check_data(data: Any, loader_arguments: Mapping[str, Any]) -> None:
    r"""Checks the data, and that arguments for a training set's loaders do not come with a data module.

    Raises:
        TypeError: If the data are neither a data module nor a map-style training set.
        ValueError: If a loader argument was passed with a data module.
    """
    if isinstance(data, LightningDataModule):
        for name, value in loader_arguments.items():
            if value is not None:
                raise ValueError(
                    f"{name!r} is {value!r}, but the {type(data).__name__} has its own sets and loaders. Set it "
                    f"there, or pass a training set in place of the data module."
                )
    elif isinstance(data, IterableDataset | Tensor | np.ndarray | list | tuple) or not hasattr(data, "__getitem__"):
        raise TypeError(
            f"'data' is of type {type(data).__name__}, but must be a LightningDataModule of lightning.pytorch or a "
            f"map-style training set. Pass the 'dataset' of a DataLoader, and arrays as "
            f"TensorDataset(torch.as_tensor(X), torch.as_tensor(y))."
        )


def check_loader_settings(settings: Mapping[str, Any] | None) -> None:
    r"""Raises a ValueError if settings of the loaders name one that the data module sets itself."""
    if reserved := RESERVED_SETTINGS.intersection(settings or ()):
        raise ValueError(
            f"'loader_settings' has {sorted(reserved)}, which the data module sets itself. Pass 'batch_size' and "
            f"'num_workers' as arguments; 'mode' says how images are drawn."
        )


def check_arguments(
    augmenter: Any,
    mode: Any,
    synthetic_fraction: Any,
    real_last: Any,
    balance: Any,
    refresh: Any,
    teacher: Any,
    teacher_weight: Any,
) -> None:
    r"""Checks the arguments for the synthetic images and the batches.

    Raises:
        TypeError: If the augmenter or the teacher is of another type.
        ValueError: If a value is not allowed.
    """
    if augmenter is not None and not isinstance(augmenter, GAEAugmenter):
        raise TypeError(f"'augmenter' is of type {type(augmenter).__name__}, but must be a GAEAugmenter.")
    if mode not in MODES:
        raise ValueError(f"'mode' is {mode!r}, but must be one of {', '.join(map(repr, MODES))}.")
    if isinstance(refresh, bool) or not isinstance(refresh, int | np.integer) or refresh < 0:
        raise ValueError(
            f"'refresh' is {refresh!r}, but must be a number of epochs: 1 for fresh images in each epoch, 0 for none."
        )
    if teacher is not None:
        check_teacher(teacher)
    check_weight(teacher_weight, "teacher_weight")
    if synthetic_fraction == AUTO and mode != "mix":
        raise ValueError(
            f"synthetic_fraction='auto' needs mode='mix', but the mode is {mode!r}, which draws every image once. "
            f"Leave 'mode' at 'mix'."
        )
    # The sampler checks all other numbers. With 'auto' the fraction is not known yet.
    labelled = SimpleNamespace(targets=[0], is_synthetic=[False])
    fraction = 0.5 if synthetic_fraction == AUTO else synthetic_fraction
    if isinstance(fraction, str):
        raise ValueError(f"'synthetic_fraction' is {fraction!r}, but must be a number between 0 and 1, or 'auto'.")
    MixedSampler(labelled, fraction, real_last=real_last, balance=balance)
