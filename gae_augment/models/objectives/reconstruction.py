r"""Reconstruction: the error of a decoder's output, its floor, and deterministic autoencoders trained for it."""

__all__ = ["Reconstruction", "RegularisedReconstruction", "excess_error"]

import torch
from torch import Tensor

from ..likelihoods import Likelihood
from ..networks import Autoencoder
from .base import Objective

STEP = 0.01
"""The length of a step along the codes, in standard deviations, over which a slope is measured."""


def excess_error(outputs: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
    r"""Returns how far each image's error lies above that of a perfect reconstruction, in nats per pixel.

    The binary cross-entropy of a perfect reconstruction is the entropy of the image, :math:`-\sum_j x_j \log x_j +
    (1 - x_j) \log (1 - x_j)`: 0 for black and white, and above half a nat per pixel for photographs. The excess over
    it is the divergence :math:`KL(x \| \tilde x)`, which is 0 for a perfect reconstruction of any image.

    Returns:
        One excess per image, with shape :math:`(B,)`.
    """
    return (likelihood.negative_log_likelihood(outputs, x) - likelihood.entropy(x)) / x[0].numel()


class Reconstruction(Objective):
    r"""The objective of the generative autoencoder: the reconstruction error alone.

    The method assumes a decoder that is Lipschitz continuous. A penalty can keep it so: :math:`w \cdot E_v \|J v\|^2`,
    where :math:`J v` is the change of an image along a random direction of the codes, per standard deviation of them.

    Args:
        likelihood: As for every objective.
        jacobian_weight: The weight :math:`w` of the penalty, in nats per squared unit of change; 0 for none.

    References:
        | Generative autoencoder to prevent overregularization of variational autoencoder (Ko et al., 2024)
        | https://doi.org/10.4218/etrij.2023-0375
    """

    def __init__(self, likelihood: Likelihood, jacobian_weight: float = 0.0) -> None:
        super().__init__(likelihood)
        self.jacobian_weight = jacobian_weight

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the mean error of a batch, with the penalty if there is one, in nats per image."""
        z = network.encode(x)
        if not self.jacobian_weight:
            return self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        unit = z.detach().std(dim=0, correction=0)
        direction = torch.randn(z.shape, generator=noise, device=z.device, dtype=z.dtype) * unit
        # A difference over a short step would be lost in the rounding of a lower precision.
        with torch.autocast(z.device.type, enabled=False):
            outputs, moved = network.decode(z), network.decode(z + STEP * direction)
        error = self.likelihood.negative_log_likelihood(outputs, x).mean()
        change = self.likelihood.mean(moved) - self.likelihood.mean(outputs)
        slope = (change / STEP).flatten(1).square().sum(dim=1).mean()
        return error + self.jacobian_weight * slope


class RegularisedReconstruction(Objective):
    r"""The regularised autoencoder, RAE-L2: :math:`rec + w \cdot \frac12 \|z\|^2 + v \|\theta_d\|^2`.

    Args:
        likelihood: As for every objective.
        code_weight: The weight :math:`w`. The authors' 1e-4, on means over pixels and codes, is about this value on
            sums at 32x32 pixels and 16 dimensions.
        decay: The weight :math:`v` of the squared parameters of the decoder; the authors' 1e-7 likewise.

    References:
        | From variational to deterministic autoencoders (Ghosh et al., 2020)
        | https://arxiv.org/abs/1903.12436
    """

    def __init__(self, likelihood: Likelihood, code_weight: float = 1.28e-2, decay: float = 1e-4) -> None:
        super().__init__(likelihood)
        self.code_weight = code_weight
        self.decay = decay

    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the mean error of a batch with both penalties, in nats per image."""
        z = network.encode(x)
        error = self.likelihood.negative_log_likelihood(network.decode(z), x).mean()
        codes = 0.5 * z.square().sum(dim=1).mean()
        weights = torch.stack([parameter.square().sum() for parameter in network.decoder.parameters()]).sum()
        return error + self.code_weight * codes + self.decay * weights
