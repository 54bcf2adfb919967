r"""Checks the arguments of ``GAEDataModule``."""

__all__ = ["AUTO", "MODES", "check_arguments", "check_data", "check_loader_settings"]

from collections.abc import Mapping
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset

from gae_augment import GAEAugmenter, MixedSampler
from gae_augment.mixing import check_teacher, check_weight
from gae_augment.motion import MAX_STRENGTH

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.lightning needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error

MODES = ("mix", "fill")
"""The ways of drawing batches; :class:`GAEDataModule` describes them."""

AUTO = "auto"
"""The value of an argument that is chosen to suit the data."""

RESERVED_SETTINGS = {"dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "generator"}
"""The arguments of DataLoaders that :class:`GAEDataModule` sets itself."""


def check_data(data: Any, loader_arguments: Mapping[str, Any]) -> None:
    r"""Checks the argument ``data`` of ``GAEDataModule``, and the arguments that need a training set.

    Args:
        data: A Lightning data module, or a map-style training set.
        loader_arguments: The arguments that need a training set, by name. An argument that was not passed is ``None``.

    Raises:
        TypeError: If the data are neither a data module nor a map-style training set.
        ValueError: If an argument that needs a training set was passed with a data module.
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
    r"""Checks the argument ``loader_settings`` of ``GAEDataModule``.

    Raises:
        ValueError: If the settings include an argument that ``GAEDataModule`` sets itself.
    """
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
    motion: Any,
) -> None:
    r"""Checks the arguments of ``GAEDataModule`` that control synthetic images and batches.

    Raises:
        TypeError: If the augmenter or the teacher has a wrong type.
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
    is_number = isinstance(motion, Real) and not isinstance(motion, bool) and 0 <= float(motion) <= MAX_STRENGTH
    if not (motion is None or is_number or (isinstance(motion, str) and motion == AUTO)):
        raise ValueError(f"'motion' is {motion!r}, but must be a number from 0 to {MAX_STRENGTH:g}, 'auto' or None.")
    if synthetic_fraction == AUTO and mode != "mix":
        raise ValueError(
            f"synthetic_fraction='auto' needs mode='mix', but the mode is {mode!r}, which draws every image once. "
            f"Leave 'mode' at 'mix'."
        )
    if synthetic_fraction == AUTO and motion != AUTO:
        raise ValueError(
            f"'motion' is {motion!r}, but synthetic_fraction='auto' decides on motions too. Leave 'motion' at 'auto', "
            f"or set the fraction yourself."
        )
    # MixedSampler checks the other numbers. With 'auto' the fraction is not known yet, so 0.5 stands in for it.
    labelled = SimpleNamespace(targets=[0], is_synthetic=[False])
    fraction = 0.5 if synthetic_fraction == AUTO else synthetic_fraction
    if isinstance(fraction, str):
        raise ValueError(f"'synthetic_fraction' is {fraction!r}, but must be a number between 0 and 1, or 'auto'.")
    MixedSampler(labelled, fraction, real_last=real_last, balance=balance)
