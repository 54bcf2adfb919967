r"""Linear classifiers on fixed features, with two remedies for imbalance."""

__all__ = ["HEADS", "LinearHead", "train_head"]

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

HEADS = ("balanced softmax", "class-balanced")
"""The remedies: logits shifted by the logarithm of the classes' frequencies, or classes of equal total weight."""

MAX_ITERATIONS = 300


@dataclass(frozen=True)
class LinearHead:
    r"""A linear classifier of standardised features.

    Attributes:
        mean: The features' means, with shape :math:`(F,)`.
        deviation: The features' standard deviations, with shape :math:`(F,)`.
        weight: The weights, with shape :math:`(C, F)`.
        bias: The biases, with shape :math:`(C,)`.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, features: Tensor) -> Tensor:
        r"""Returns the predicted labels, with shape :math:`(B,)`."""
        return functional.linear((features - self.mean) / self.deviation, self.weight, self.bias).argmax(dim=1)


def train_head(features: Tensor, labels: Tensor, weights: Tensor, *, head: str, penalty: float) -> LinearHead:
    r"""Returns the minimum of the weighted mean cross-entropy plus the penalty, which no random numbers influence.

    Args:
        features: The features of all training views, with shape :math:`(N, F)`.
        labels: Their labels.
        weights: Their weights. Those of an image's views sum to 1, so that each image counts once.
        head: One of ``HEADS``.
        penalty: The factor of half the squared weights.
    """
    counts = torch.zeros(int(labels.max()) + 1).index_add(0, labels, weights)
    mean = weights @ features / weights.sum()
    deviation = (weights @ (features - mean).square() / weights.sum()).sqrt().clamp(min=1e-6)
    x = (features - mean) / deviation
    shift = (counts / counts.sum()).log() if head == "balanced softmax" else torch.zeros_like(counts)
    if head == "class-balanced":
        weights = weights / counts[labels]
    weights = weights / weights.sum()
    weight = torch.zeros(len(counts), x.shape[1], requires_grad=True)
    bias = torch.zeros(len(counts), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        losses = functional.cross_entropy(functional.linear(x, weight, bias) + shift, labels, reduction="none")
        loss = weights @ losses + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return LinearHead(mean, deviation, weight.detach(), bias.detach())
