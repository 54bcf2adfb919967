r"""Labels in which a trained classifier has a say."""

__all__ = ["Teacher", "ask", "check_teacher", "check_weight", "soft_labels"]

from collections.abc import Callable, Iterable
from itertools import islice
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Teacher = Callable[[Tensor], Tensor]
"""From a batch of images to logits, with shape (B, C): a trained classifier, most often a module."""

AT_ONCE = 500
"""The images that a teacher is shown together."""


def soft_labels(labels: Tensor, logits: Tensor, weight: float) -> Tensor:
    r"""Returns labels as probabilities, in which a teacher has a say, with shape :math:`(N, C)`.

    That is :math:`(1 - w) \, e_y + w \, \mathrm{softmax}(\text{logits})`, where :math:`e_y` is 1 at the label
    (distillation, https://arxiv.org/abs/1503.02531, at a temperature of 1).

    Args:
        labels: The labels, from 0 to C - 1, with shape :math:`(N,)`.
        logits: The teacher's, with shape :math:`(N, C)`.
        weight: The teacher's say :math:`w`, in [0, 1].
    """
    return (1 - weight) * functional.one_hot(labels, logits.shape[1]) + weight * logits.softmax(dim=1)


def check_teacher(teacher: Any) -> None:
    r"""Checks a teacher.

    Raises:
        TypeError: If it cannot be called.
    """
    if not callable(teacher):
        raise TypeError(f"'teacher' maps a batch of images to logits, and it is a {type(teacher).__name__}.")


def check_weight(weight: Any, name: str) -> None:
    r"""Checks the say of a teacher.

    Raises:
        ValueError: If it is no number in [0, 1].
    """
    if not isinstance(weight, Real) or not 0 <= float(weight) <= 1:
        raise ValueError(f"{name!r} is the teacher's say, between 0 and 1, and it is {weight!r}. Half is a good one.")


def ask(teacher: Teacher, images: Iterable[Any], wanted: int) -> Tensor:
    r"""Returns the logits of images, with shape :math:`(N, C)`, on the CPU.

    Args:
        teacher: The teacher. A module is asked in evaluation mode and on its own device, and is left as it was.
        images: One tensor each.
        wanted: The least C.

    Raises:
        TypeError: If images are no tensors, or the teacher returns none.
        ValueError: If the logits are of another shape, or not finite.
    """
    module = teacher if isinstance(teacher, nn.Module) else nn.Module()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    # A frozen part of a module in training is in evaluation mode already, and stays so.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    parts, rest = [], iter(images)
    try:
        while batch := list(islice(rest, AT_ONCE)):
            if not isinstance(batch[0], Tensor):
                raise TypeError(
                    f"A teacher sees images as tensors, and items are of type {type(batch[0]).__name__}. Give the "
                    f"dataset a transform that makes tensors, or pass one as 'transform'."
                )
            with torch.no_grad():
                logits = teacher(torch.stack(batch).to(device))
            parts.append(_checked(logits, len(batch), wanted))
    finally:
        for part, training in modes:
            part.training = training
    return torch.cat(parts)


def _checked(logits: Any, images: int, wanted: int) -> Tensor:
    rule = f"A teacher returns logits of shape ({images}, C) for {images} images, with C at least {wanted}"
    if not isinstance(logits, Tensor):
        raise TypeError(f"{rule}, and this one returns a {type(logits).__name__}. Wrap it in a function that does.")
    if logits.ndim != 2 or len(logits) != images or logits.shape[1] < wanted:
        raise ValueError(f"{rule}, a column for each label, and their shape is {tuple(logits.shape)}.")
    if not logits.isfinite().all():
        raise ValueError(f"{rule}, and these are not finite. Train it anew, with a smaller learning rate.")
    return logits.detach().float().cpu()
