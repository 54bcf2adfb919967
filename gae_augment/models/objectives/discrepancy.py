r"""Autoencoders that minimise the maximum mean discrepancy between their codes and :math:`N(0, I)`."""

__all__ = ["InfoVariational", "Wasserstein", "maximum_mean_discrepancy"]

import torch
from torch import Tensor

from ..likelihoods import Likelihood
from ..networks import Autoencoder
from .base import Objective
from .variational import gaussian_kl, reparameterise, standard_normal

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The relative widths of the terms of the inverse multi-quadratic kernel."""


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    r"""Returns :math:`\sum_c 2 d c / (2 d c + \|a - b\|^2)` for all pairs of points, with shape :math:`(N, M)`.

    Here :math:`d` is the dimension of the points, and :math:`c` runs over ``SCALES``.
    """
    distances = (a[:, None] - b[None]).square().sum(dim=-1)
    width = 2.0 * a.shape[1]
    return torch.stack([scale * width / (scale * width + distances) for scale in SCALES]).sum(dim=0)


def maximum_mean_discrepancy(a: Tensor, b: Tensor) -> Tensor:
    r"""Estimates the squared maximum mean discrepancy of two samples, with the inverse multi-quadratic kernel.

    The estimate is unbiased, and can be negative. It is 0 for samples of fewer than two points.

    Args:
        a: A sample of :math:`N` points in :math:`d` dimensions, with shape :math:`(N, d)`.
        b: The other sample, with the same shape.

    Returns:
        A scalar without unit.

    References:
        | Wasserstein auto-encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
    """
    n = len(a)
    if n < 2:
        return 0.0 * a.sum()
    # The kernel of a distance of 0 is 1 for each width.
    within = _kernel(a, a).sum() + _kernel(b, b).sum() - 2 * n * len(SCALES)
    return within / (n * (n - 1)) - 2 * _kernel(a, b).mean()


class InfoVariational(Objective):
    r"""InfoVAE, with the loss :math:`rec + (1 - \alpha) KL + (\alpha + \lambda - 1) MMD`.

    Here :math:`rec` is the reconstruction error of an image. :math:`KL` is the divergence of the code's posterior from
    :math:`N(0, I)`. :math:`MMD` is the squared maximum mean discrepancy between the codes of a batch and
    :math:`N(0, I)`.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        alpha: The number :math:`\alpha`. Larger values reduce the weight of :math:`KL`.
        scale: The number :math:`\lambda`. Larger values increase the weight of :math:`MMD`.

    Raises:
        ValueError: If the weight of the discrepancy, :math:`\alpha + \lambda - 1`, is negative.

    References:
        | InfoVAE: balancing learning and inference (Zhao et al., 2019), https://arxiv.org/abs/1706.02262
    """

    def __init__(self, likelihood: Likelihood, alpha: float = 0.0, scale: float = 1000.0) -> None:
        super().__init__(likelihood)
        if alpha + scale < 1:
            raise ValueError(
                f"The weight of the discrepancy, alpha + scale - 1, is {alpha + scale - 1}, but must be at least 0. "
                f"Raise 'scale', which is {scale}, or 'alpha', which is {alpha}."
            )
        self.alpha = alpha
        self.scale = scale

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats."""
        mean, log_var = network.posterior(x)
        z = reparameterise(mean, log_var, noise)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        divergence = gaussian_kl(mean, log_var).mean()
        discrepancy = maximum_mean_discrepancy(z, standard_normal(z, noise))
        return error + (1 - self.alpha) * divergence + (self.alpha + self.scale - 1) * discrepancy


class Wasserstein(Objective):
    r"""The Wasserstein autoencoder, with the loss :math:`rec + \lambda \cdot MMD` and a deterministic encoder.

    Here :math:`rec` is the reconstruction error of an image. :math:`MMD` is the squared maximum mean discrepancy
    between the codes of a batch and :math:`N(0, I)`.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        scale: The weight :math:`\lambda` of :math:`MMD`. For Gaussian pixels, the default weights both terms in the
            ratio of the paper's experiment on MNIST.

    References:
        | Wasserstein auto-encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
    """

    def __init__(self, likelihood: Likelihood, scale: float = 100.0) -> None:
        super().__init__(likelihood)
        self.scale = scale

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats."""
        z = network.encode(x)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        return error + self.scale * maximum_mean_discrepancy(z, standard_normal(z, noise))
