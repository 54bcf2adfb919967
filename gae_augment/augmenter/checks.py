r"""Checks of an augmenter's parameters and labels."""

__all__ = ["check_parameters", "missing_model"]

from typing import Any

from .._utils.devices import check_device
from .._utils.parallel import check_n_jobs
from ..data import check_working_size

AT_ITS_SIZE = "is moved at the size of its images only: pass dataset=…, or use gae-augment balance"


def check_parameters(augmenter: Any) -> None:
    r"""Raises a ValueError if a parameter other than the model and the sampling strategy is invalid."""
    check_device(augmenter.device)
    check_working_size(augmenter.working_size)
    if augmenter.on_error not in ("warn", "raise"):
        raise ValueError(f"'on_error' is {augmenter.on_error!r}, but must be 'warn' or 'raise'.")
    check_n_jobs(augmenter.n_jobs)


def missing_model(augmenter: Any, label: Any) -> ValueError:
    r"""Returns an error that says why a class has no model."""
    reason = "is unknown"
    if label in augmenter.failures_:
        reason = "could not be fitted"
    elif augmenter.counts_.get(label) == 1 and augmenter.sampling_strategy_.get(label):
        reason = f"has 1 image, which {AT_ITS_SIZE}"
    elif augmenter.sampling_strategy_.get(label):
        reason = f"borrows the motions of other classes, and {AT_ITS_SIZE}"
    elif label in augmenter.counts_:
        reason = f"has {augmenter.counts_[label]} images and needs no more"
    return ValueError(
        f"Class {label!r} {reason}, so it has no model. Choose one of {list(augmenter.models_)}, or change "
        f"'sampling_strategy'."
    )
