r"""Objectives of deterministic autoencoders."""

__all__ = ["Reconstruction", "RegularisedReconstruction", "excess_error"]

import torch
from torch import Tensor

from ..likelihoods import Likelihood
from ..networks import Autoencoder
from .base import Objective

STEP = 0.01
"""The length of the finite difference that estimates the decoder's Jacobian, in standard deviations of the codes."""


def excess_error(outputs: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
    r"""Returns the reconstruction error of each image minus its lowest possible value, in nats per pixel.

    Args:
        outputs: The decoder outputs for :math:`B` images, with shape :math:`(B, *)`.
        x: The images, with shape :math:`(B, *)`.
        likelihood: The distribution of an image given the decoder's outputs.

    Returns:
        One error per image, with shape :math:`(B,)`.
    """
    return (likelihood.negative_log_likelihood(outputs, x) - likelihood.entropy(x)) / x[0].numel()


class Reconstruction(Objective):
    r"""The objective of the generative autoencoder, a reconstruction error with an optional penalty.

    The penalty :math:`w \cdot E_v \|J v\|^2` makes the decoder smooth. Here :math:`J` is the Jacobian of the decoded
    image with respect to the code. :math:`E_v` is the mean over random directions :math:`v`, which are Gaussian with
    the standard deviations of the codes.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        jacobian_weight: The weight :math:`w` of the penalty; 0 for no penalty.

    References:
        | Generative autoencoder to prevent overregularization of variational autoencoder (Ko et al., 2024)
        | https://doi.org/10.4218/etrij.2023-0375
    """

    def __init__(self, likelihood: Likelihood, jacobian_weight: float = 0.0) -> None:
        super().__init__(likelihood)
        self.jacobian_weight = jacobian_weight

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the reconstruction error plus the penalty, averaged over a batch of images ``x``, in nats."""
        z = network.encode(x)
        if not self.jacobian_weight:
            return self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        deviation = z.detach().std(dim=0, correction=0)
        direction = torch.randn(z.shape, generator=noise, device=z.device, dtype=z.dtype) * deviation
        # Lower precision would round away the difference over a short step.
        with torch.autocast(z.device.type, enabled=False):
            outputs, moved = network.decode(z), network.decode(z + STEP * direction)
        error = self.likelihood.negative_log_likelihood(outputs, x).mean()
        change = self.likelihood.mean(moved) - self.likelihood.mean(outputs)
        penalty = (change / STEP).flatten(1).square().sum(dim=1).mean()
        return error + self.jacobian_weight * penalty


class RegularisedReconstruction(Objective):
    r"""The regularised autoencoder RAE-L2, with the loss :math:`rec + w \cdot \frac12 \|z\|^2 + v \|\theta_d\|^2`.

    Here :math:`rec` is the reconstruction error, :math:`z` the code, and :math:`\theta_d` the decoder's parameters.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
        code_weight: The weight :math:`w` of the squared code. The default is the paper's weight, converted from
            averages over pixels and code dimensions to sums.
        decay: The weight :math:`v` of the decoder's squared parameters. The default is the paper's weight, converted
            from averages over pixels to sums.

    References:
        | From variational to deterministic autoencoders (Ghosh et al., 2020)
        | https://arxiv.org/abs/1903.12436
    """

    def __init__(self, likelihood: Likelihood, code_weight: float = 1.28e-2, decay: float = 1e-4) -> None:
        super().__init__(likelihood)
        self.code_weight = code_weight
        self.decay = decay

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over a batch of images ``x``, in nats; ``noise`` is not used."""
        z = network.encode(x)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        codes = 0.5 * z.square().sum(dim=1).mean()
        weights = torch.stack([parameter.square().sum() for parameter in network.decoder.parameters()]).sum()
        return error + self.code_weight * codes + self.decay * weights
