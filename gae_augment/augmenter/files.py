r"""Converts a fitted augmenter to the content of a file, and back."""

__all__ = ["load_augmenter", "save_augmenter"]

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from .._utils.files import MALFORMED, read_file, write_file
from ..data import checked_label
from ..fitting import (
    check_definitions,
    models_from_state,
    models_to_state,
    parameters_from_plain,
    parameters_to_plain,
    upgrade_header,
)
from ..models import ModelDefinition
from ..motion import MotionBank
from .checks import check_parameters

Augmenter = TypeVar("Augmenter")
"""The class of augmenters, which imports this module."""


def save_augmenter(augmenter: Any, path: str | os.PathLike[str]) -> None:
    r"""Writes a fitted augmenter into one file.

    Raises:
        OSError: If the file cannot be written.
    """
    write_file(path, *_to_state(augmenter))


def load_augmenter(cls: type[Augmenter], path: str | os.PathLike[str], custom: Iterable[ModelDefinition]) -> Augmenter:
    r"""Returns the augmenter in a file.

    Args:
        cls: The class of the augmenter.
        path: The path of the file.
        custom: The definitions of the augmenter's custom models.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a valid augmenter, or a definition is missing or unused.
    """
    header, tensors = read_file(path)
    definitions = {model.name: model for model in custom}
    check_definitions(path, header, definitions)
    try:
        return _from_state(cls, header, tensors, definitions)
    except MALFORMED as error:
        raise ValueError(
            f"{os.fspath(path)!r} does not hold a complete augmenter: {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Save it again."
        ) from error


def _to_state(augmenter: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Returns a header that JSON supports, and the tensors of a fitted augmenter by name."""
    model_headers, tensors = models_to_state(augmenter.models_)
    bank = augmenter.__dict__.get("motions_")
    if bank is not None:
        tensors["motions"] = bank.fields
    header: dict[str, Any] = {
        "parameters": parameters_to_plain(augmenter.get_params(deep=False), augmenter.seed_),
        "seed": augmenter.seed_,
        "counts": list(augmenter.counts_.items()),
        "names": list(augmenter.class_names_.items()),
        "strategy": list(augmenter.sampling_strategy_.items()),
        "failures": list(augmenter.failures_.items()),
        "holds training images": any(fitted.anchors is not None for fitted in augmenter.models_.values()),
        "models": model_headers,
        "motions": None if bank is None else list(bank.counts.items()),
    }
    return header, tensors


def _from_state(
    cls: type[Augmenter],
    header: dict[str, Any],
    tensors: Mapping[str, Tensor],
    definitions: Mapping[str, ModelDefinition],
) -> Augmenter:
    header = upgrade_header(header, definitions)
    counts = {checked_label(label): int(number) for label, number in header["counts"]}
    strategy = {checked_label(label): int(number) for label, number in header["strategy"]}
    totals = {label: counts[label] + n for label, n in strategy.items()}
    augmenter: Any = cls(**parameters_from_plain(header["parameters"], definitions, totals))
    # An invalid parameter would otherwise fail only at its first use.
    check_parameters(augmenter)
    augmenter.classes_ = np.array(list(counts))
    augmenter.counts_, augmenter.sampling_strategy_, augmenter.seed_ = counts, strategy, int(header["seed"])
    augmenter.class_names_ = {label: str(dict(header["names"])[label]) for label in counts}
    augmenter.failures_ = {checked_label(label): str(reason) for label, reason in header["failures"]}
    augmenter._samplings = 0
    tensors = dict(tensors)
    fields = tensors.pop("motions", None)
    augmenter.models_ = models_from_state(header["models"], tensors, counts, definitions, augmenter.device)
    is_deformed = any(fitted.plan.synthesis == "deformed" for fitted in augmenter.models_.values())
    borrows = any(n and label not in augmenter.models_ for label, n in strategy.items())
    if header["motions"] is None and (is_deformed or borrows):
        raise ValueError("the motions are missing")
    if header["motions"] is not None:
        if fields is None:
            raise ValueError("the fields of the motions are missing")
        numbers = {checked_label(label): int(number) for label, number in header["motions"]}
        if not numbers.keys() <= counts.keys():
            raise ValueError(f"there are motions of the classes {list(numbers)}, but not all of these classes")
        augmenter.motions_ = MotionBank(dict(zip(numbers, fields.split(list(numbers.values())), strict=True)))
    return augmenter
