r"""What is done about imbalance other than making images: sampling, weights, losses, and mixtures of real images."""

__all__ = ["OWN", "STRATEGIES", "Strategy"]

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""From logits, targets (labels or probabilities), the real images of each class, and the part of training done."""


@dataclass(frozen=True)
class Strategy:
    r"""A way of training.

    Attributes:
        balance: How much alike all classes are drawn, as in :class:`gae_augment.MixedSampler`.
        loss: The loss of a batch.
        mix: What mixes the images of a batch and their labels.
        mixed_part: The part of the batches that are mixed, each by chance.
    """

    balance: float
    loss: Loss
    mix: Literal["nothing", "mixup", "cutmix"] = "nothing"
    mixed_part: float = 1.0


def cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor, part: float) -> Tensor:
    r"""Returns the mean cross-entropy, in nats."""
    return functional.cross_entropy(logits, targets)


def _weighted_mean(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    r"""Returns the cross-entropy with weights of classes, over the sum of the weights, for probabilities as well.

    PyTorch's own divides by the number of images where targets are probabilities.
    """
    if targets.ndim == 1:
        return functional.cross_entropy(logits, targets, weight=weights)
    weights = weights * targets
    return -(weights * logits.log_softmax(dim=1)).sum() / weights.sum()


def weighted(logits: Tensor, targets: Tensor, counts: Tensor, part: float) -> Tensor:
    r"""Returns the mean cross-entropy with classes weighted by one over their number of images."""
    return _weighted_mean(logits, targets, counts.sum() / (len(counts) * counts))


DEFER_UNTIL, EFFECTIVE = 0.8, 0.9999


def deferred(logits: Tensor, targets: Tensor, counts: Tensor, part: float) -> Tensor:
    r"""Returns the cross-entropy, and towards the end that with weights of the effective numbers of images.

    References:
        | LDAM-DRW (Cao et al., 2019), https://arxiv.org/abs/1906.07413: after 160 of 200 epochs
        | Class-balanced loss (Cui et al., 2019), https://arxiv.org/abs/1901.05555
    """
    if part < DEFER_UNTIL:
        return functional.cross_entropy(logits, targets)
    weights = (1 - EFFECTIVE) / (1 - EFFECTIVE**counts)
    return _weighted_mean(logits, targets, weights / weights.mean())


def balanced_softmax(
    logits: Tensor, targets: Tensor, counts: Tensor, part: float, *, balance: float, tau: float = 1.0
) -> Tensor:
    r"""Returns the cross-entropy of logits that are shifted by the logarithm of the classes' frequencies in batches.

    The balance is that of the sampling, and ``tau`` is the factor of the shift.

    References:
        | Balanced meta-softmax (Ren et al., 2020), https://arxiv.org/abs/2007.10740
        | Long-tail learning via logit adjustment (Menon et al., 2021), https://arxiv.org/abs/2007.07314
    """
    frequencies = counts ** (1 - balance)
    return functional.cross_entropy(logits + tau * torch.log(frequencies / frequencies.sum()), targets)


def _left_to_loss(balance: float, **mixing: Any) -> Strategy:
    r"""Returns the strategy whose loss makes up for the imbalance that its sampling leaves."""
    return Strategy(balance, partial(balanced_softmax, balance=balance), **mixing)


STRATEGIES = {
    "plain": Strategy(0, cross_entropy),
    "class weights": Strategy(0, weighted),
    "class-balanced sampling": Strategy(1, cross_entropy),
    "deferred re-weighting": Strategy(0, deferred),
    "balanced softmax": _left_to_loss(0),
    "square-root sampling": _left_to_loss(0.5),
    "mixup": Strategy(1, cross_entropy, "mixup"),
    "cutmix": Strategy(1, cross_entropy, "cutmix"),
    "balanced softmax, cutmix": _left_to_loss(0, mix="cutmix"),
    "square-root sampling, half cutmix": _left_to_loss(0.5, mix="cutmix", mixed_part=0.5),
}
"""The strategies by name.

Square-root sampling leaves half of the imbalance, on the logarithmic scale, to the loss, which makes up for it.
"""

OWN = ("square-root sampling", "square-root sampling, half cutmix")
"""Those that the recipe adds to the usual ones; without images they are baselines like the others."""
