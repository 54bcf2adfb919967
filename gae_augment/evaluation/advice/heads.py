r"""Linear classifiers of fixed features, with the usual remedies for class imbalance."""

__all__ = ["PENALTIES", "STRATEGIES", "Projection", "Strategy", "train_heads"]

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (0.01, 0.1, 1.0)
"""The factors of half the squared weights that are tried. Each way of training takes its own best."""

MAX_ITERATIONS = 40

COMPONENTS = 256
"""The number of principal components of the features that classifiers see. More take longer, and tell little."""


@dataclass(frozen=True)
class Strategy:
    r"""A way of training a classifier on imbalanced classes.

    Attributes:
        balance: How much alike classes are drawn: an image of a class of :math:`n` images has the weight
            :math:`n^{-b}`. It is the ``balance`` of :class:`gae_augment.MixedSampler`.
        shift: The factor of the logarithm of the classes' frequencies that training adds to the logits, 1 in balanced
            softmax (https://arxiv.org/abs/2007.10740).
    """

    balance: float
    shift: float


STRATEGIES = {
    "plain training": Strategy(0, 0),
    "class-balanced sampling": Strategy(1, 0),
    "square-root sampling with balanced softmax": Strategy(0.5, 1),
    "balanced softmax": Strategy(0, 1),
    "balanced softmax with τ = 1.5": Strategy(0, 1.5),
}
"""The strategies by name."""


@dataclass(frozen=True)
class Projection:
    r"""The principal components of features, after each feature was divided by its standard deviation.

    Attributes:
        mean: The means of the features, with shape :math:`(F,)`.
        matrix: From features without their means to components, with shape :math:`(F, D)`.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, features: Tensor, weights: Tensor) -> "Projection":
        r"""Returns at most 256 principal components of features of training views, weighted by image."""
        mean = weights @ features / weights.sum()
        centred = features - mean
        deviation = (weights @ centred.square() / weights.sum()).sqrt().clamp(min=1e-6)
        x = centred / deviation
        covariance = (weights[:, None] * x).t() @ x / weights.sum()
        directions = torch.linalg.eigh(covariance).eigenvectors[:, -COMPONENTS:]
        return cls(mean, directions / deviation[:, None])

    def __call__(self, features: Tensor) -> Tensor:
        r"""Returns the components of features, with shape :math:`(N, D)`."""
        return (features - self.mean) @ self.matrix


def train_heads(x: Tensor, labels: Tensor, weights: Tensor, *, classes: int) -> Tensor:
    r"""Returns one linear classifier per strategy and penalty. No random numbers are drawn.

    Each has the least weighted cross-entropy plus penalty. They are minimised together, as their losses are a sum.

    Args:
        x: The principal components of training views, with shape :math:`(N, D)`.
        labels: Their labels.
        weights: How many images each view stands for. They sum to the number of images.
        classes: The number of classes.

    Returns:
        The weights of the components, and the bias in the last column, with shape :math:`(S, P, C, D + 1)` for
        :math:`S` strategies and :math:`P` penalties.
    """
    counts = torch.zeros(classes).index_add(0, labels, weights)
    shifts, view_weights = [], []
    for strategy in STRATEGIES.values():
        balanced = counts.clamp(min=1e-9) ** (1 - strategy.balance)
        # A class without images in this split has no frequency. Its logits are not shifted.
        shifts.append(torch.where(counts > 0, strategy.shift * (balanced / balanced[counts > 0].sum()).log(), 0.0))
        of_views = weights * (balanced / counts.clamp(min=1e-9))[labels]
        view_weights.append(of_views / of_views.sum())
    shift = torch.stack(shifts).repeat_interleave(len(PENALTIES), dim=0)
    weight = torch.stack(view_weights).repeat_interleave(len(PENALTIES), dim=0)
    penalty = torch.tensor(PENALTIES).repeat(len(STRATEGIES))
    # Components differ in variance by orders of magnitude. In these units, the curvature of all is alike.
    curvature = torch.cat([x.square().mean(dim=0), torch.ones(1)]) / 4 + penalty[:, None]
    scale = curvature.rsqrt()[:, None, :]
    scaled = torch.zeros(len(shift), classes, x.shape[1] + 1, requires_grad=True)
    inputs = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    optimiser = torch.optim.LBFGS(
        [scaled], max_iter=MAX_ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        heads = scaled * scale
        logits = (inputs @ heads.flatten(0, 1).t()).view(len(x), len(shift), classes) + shift
        right = logits.gather(2, labels.view(-1, 1, 1).expand(-1, len(shift), 1))[:, :, 0]
        losses = (weight.t() * (logits.logsumexp(dim=2) - right)).sum(dim=0)
        loss = (losses + penalty / 2 * heads[:, :, :-1].square().sum(dim=(1, 2))).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return (scaled * scale).detach().view(len(STRATEGIES), len(PENALTIES), classes, -1)
