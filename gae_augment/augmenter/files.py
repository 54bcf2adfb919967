r"""Converts a fitted augmenter to the content of a file, and back."""

__all__ = ["augmenter_from_state", "augmenter_to_state"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._utils.devices import check_device
from ..data import checked_label
from ..fitting import models_from_state, models_to_state, upgrade_header
from ..models import ModelDefinition, choice_from_plain, choice_to_plain
from ..motion import MotionBank

if TYPE_CHECKING:
    from .augmenter import GAEAugmenter


def augmenter_to_state(augmenter: "GAEAugmenter") -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Returns a header that JSON supports, and the tensors of a fitted augmenter by name."""
    parameters = {**augmenter.get_params(deep=False), "model": choice_to_plain(augmenter.model)}
    # A folder of this machine.
    del parameters["cache_dir"]
    if not isinstance(augmenter.sampling_strategy, str | float | int):
        parameters["sampling_strategy"] = None
    if not isinstance(augmenter.random_state, int):
        parameters["random_state"] = augmenter.seed_
    model_headers, tensors = models_to_state(augmenter.models_)
    bank = augmenter.__dict__.get("motions_")
    if bank is not None:
        tensors["motions"] = bank.fields
    header: dict[str, Any] = {
        "parameters": parameters,
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


def augmenter_from_state(
    cls: "type[GAEAugmenter]",
    header: dict[str, Any],
    tensors: Mapping[str, Tensor],
    definitions: Mapping[str, ModelDefinition],
) -> "GAEAugmenter":
    r"""Returns the augmenter that the output of :func:`augmenter_to_state` describes.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: If the header and the tensors do not describe an augmenter.
    """
    header = upgrade_header(header, definitions)
    parameters = dict(header["parameters"])
    parameters["model"] = choice_from_plain(parameters["model"], definitions)
    counts = {checked_label(label): int(number) for label, number in header["counts"]}
    strategy = {checked_label(label): int(number) for label, number in header["strategy"]}
    if parameters["sampling_strategy"] is None:
        parameters["sampling_strategy"] = {label: counts[label] + n for label, n in strategy.items()}
    try:
        check_device(parameters["device"])
    except ValueError:
        parameters["device"] = "auto"
    augmenter = cls(**parameters)
    # An invalid parameter would otherwise fail only at its first use.
    augmenter.check_parameters()
    augmenter.classes_ = np.array(list(counts))
    augmenter.counts_, augmenter.sampling_strategy_, augmenter.seed_ = counts, strategy, int(header["seed"])
    augmenter.class_names_ = {label: str(dict(header["names"])[label]) for label in counts}
    augmenter.failures_ = {checked_label(label): str(reason) for label, reason in header["failures"]}
    augmenter._samplings = 0
    tensors = dict(tensors)
    fields = tensors.pop("motions", None)
    augmenter.models_ = models_from_state(header["models"], tensors, counts, definitions, augmenter.device)
    if header["motions"] is not None:
        if fields is None or fields.dtype != torch.float16 or fields.shape[1:] != (2, 8, 8):
            raise ValueError("motions must be float16 fields of 8x8 nodes")
        numbers = {checked_label(label): int(number) for label, number in header["motions"]}
        augmenter.motions_ = MotionBank(dict(zip(numbers, fields.split(list(numbers.values())), strict=True)))
    return augmenter
