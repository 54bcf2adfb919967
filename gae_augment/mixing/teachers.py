r"""Soft labels: class labels mixed with the predicted probabilities of a trained classifier, the teacher."""

__all__ = ["Teacher", "check_teacher", "check_weight", "soft_labels", "teacher_logits"]

from collections.abc import Callable, Iterable
from itertools import islice
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .._utils.modules import evaluation_mode

Teacher = Callable[[Tensor], Tensor]
"""A trained classifier, usually a module, that maps a batch of B images to logits of shape (B, C), for C classes."""

BATCH_SIZE = 500
"""The maximum number of images that a teacher receives at once."""


def soft_labels(labels: Tensor, logits: Tensor, weight: float) -> Tensor:
    r"""Returns labels mixed with the probabilities that a trained classifier predicts, with shape :math:`(N, C)`.

    The mixture is :math:`(1 - w) \, e_y + w \, \mathrm{softmax}(z)`, where :math:`e_y` is the one-hot vector of the
    label :math:`y`, :math:`z` are the classifier's logits, and :math:`w` is the weight. This mixture is the target of
    knowledge distillation (https://arxiv.org/abs/1503.02531) at a temperature of 1.

    Args:
        labels: The labels :math:`y` of :math:`N` images, integers from 0 to :math:`C - 1`, with shape :math:`(N,)`.
        logits: The logits :math:`z` of the trained classifier, the teacher, for :math:`C` classes, with shape
            :math:`(N, C)`.
        weight: The weight :math:`w` of the teacher's probabilities, in [0, 1].
    """
    return (1 - weight) * functional.one_hot(labels, logits.shape[1]) + weight * logits.softmax(dim=1)


def check_teacher(teacher: Any) -> None:
    r"""Checks that a teacher (the classifier whose predictions are mixed into soft labels) is callable.

    Raises:
        TypeError: If the teacher is not callable.
    """
    if not callable(teacher):
        raise TypeError(
            f"'teacher' is a {type(teacher).__name__}, but must be a module or function that maps a batch of images to "
            f"logits."
        )


def check_weight(weight: Any, name: str) -> None:
    r"""Checks the weight of a teacher's predictions in soft labels; ``name`` is the weight's name in error messages.

    Raises:
        ValueError: If the weight is not a number in [0, 1].
    """
    if not isinstance(weight, Real) or not 0 <= float(weight) <= 1:
        raise ValueError(
            f"{name!r} is {weight!r}, but the weight of the teacher must be a number between 0 and 1. 0.5 is a good "
            f"first choice."
        )


def teacher_logits(teacher: Teacher, images: Iterable[Any], min_classes: int) -> Tensor:
    r"""Returns a teacher's logits for :math:`N` images, with shape :math:`(N, C)` for :math:`C` classes, on the CPU.

    Args:
        teacher: The trained classifier. A ``torch.nn.Module`` runs in evaluation mode on the device of its parameters.
            Afterwards every submodule returns to the mode that it had before.
        images: The images, one tensor each, all with the same shape.
        min_classes: The smallest valid :math:`C`.

    Raises:
        TypeError: If the images or the logits are not tensors.
        ValueError: If the logits have the wrong shape or are not finite.
    """
    batch_logits, remaining = [], iter(images)
    with evaluation_mode(teacher) as device:
        while batch := list(islice(remaining, BATCH_SIZE)):
            if not isinstance(batch[0], Tensor):
                raise TypeError(
                    f"Items are of type {type(batch[0]).__name__}, but a teacher needs tensors. Add a transform to the "
                    f"dataset that converts images to tensors, or pass one as 'transform'."
                )
            with torch.no_grad():
                logits = teacher(torch.stack(batch).to(device))
            batch_logits.append(_check_logits(logits, len(batch), min_classes))
    return torch.cat(batch_logits)


def _check_logits(logits: Any, n: int, min_classes: int) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"The teacher returned a {type(logits).__name__}, but must return a tensor of logits. Wrap it in a "
            f"function that does."
        )
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < min_classes:
        raise ValueError(
            f"The teacher returned logits of shape {tuple(logits.shape)} for {n} images, but the shape must be "
            f"({n}, C), with a column for each label: C is at least {min_classes}."
        )
    if not logits.isfinite().all():
        raise ValueError("The teacher's logits are not finite. Train it again, with a smaller learning rate.")
    return logits.detach().float().cpu()
