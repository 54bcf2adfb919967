r"""Variational autoencoders with the prior :math:`N(0, I)`."""

__all__ = ["Variational", "gaussian_kl", "reparameterise", "standard_normal"]

import torch
from torch import Tensor

from ..likelihoods import Likelihood
from ..networks import Autoencoder
from .base import Objective


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""Returns the divergence :math:`KL(N(\mu, \sigma^2) \| N(0, I))` of diagonal Gaussians, in nats.

    Args:
        mean: The means :math:`\mu` of :math:`B` Gaussians in :math:`d` dimensions, with shape :math:`(B, d)`.
        log_var: The log-variances :math:`\log \sigma^2`, with shape :math:`(B, d)`.

    Returns:
        One divergence per Gaussian, with shape :math:`(B,)`.
    """
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=-1)


def standard_normal(like: Tensor, noise: torch.Generator) -> Tensor:
    r"""Returns random values from :math:`N(0, 1)`, with the shape, data type and device of the tensor ``like``."""
    return torch.randn(like.shape, generator=noise, device=like.device, dtype=like.dtype)


def reparameterise(mean: Tensor, log_var: Tensor, noise: torch.Generator) -> Tensor:
    r"""Returns a sample of :math:`N(\mu, \sigma^2)` that is differentiable with respect to ``mean`` and ``log_var``.

    The means :math:`\mu` and the log-variances :math:`\log \sigma^2` have the shape of the sample.
    """
    return mean + (0.5 * log_var).exp() * standard_normal(mean, noise)


class Variational(Objective):
    r"""The variational autoencoder, with the loss :math:`rec + \beta \cdot KL`.

    Here :math:`rec` is the reconstruction error of an image. :math:`KL` is the divergence of the code's posterior from
    :math:`N(0, I)`.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        beta: The weight :math:`\beta` of :math:`KL`. The default gives the negative evidence lower bound.

    References:
        | Auto-encoding variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
        | beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
    """

    def __init__(self, likelihood: Likelihood, beta: float = 1.0) -> None:
        super().__init__(likelihood)
        self.beta = beta

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats."""
        mean, log_var = network.posterior(x)
        outputs = network.decode(reparameterise(mean, log_var, noise))
        return (
            self.likelihood.negative_log_likelihood(outputs, x).mean() + self.beta * gaussian_kl(mean, log_var).mean()
        )
