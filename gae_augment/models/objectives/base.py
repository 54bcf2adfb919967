r"""What all objectives have in common."""

__all__ = ["Losses", "Objective"]

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..densities import LatentDensity
from ..likelihoods import Likelihood
from ..networks import Autoencoder

Losses = Sequence[tuple[Tensor, Sequence[nn.Parameter]]]
"""Scalars, each with the parameters that it is minimised by; a parameter in none of them stays as it is."""


class Objective(nn.Module, ABC):
    r"""What a network is trained for: a loss, and whatever parameters it owns beside the network's.

    Args:
        likelihood: The distribution of an image given the outputs of the decoder.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Makes what depends on the data; called once before training.

        Args:
            network: The network, with fresh weights.
            x: Some thousand training images, or all of them, with shape :math:`(N, *)`.
            n_components: The most components of a mixture.
            generator: What first values are drawn from, on the CPU.
        """

    def advance(self, network: Autoencoder, x: Tensor, part: float) -> None:
        r"""Moves on to the next phase of training, if there is one; called before each epoch and after the last.

        Args:
            network: The network.
            x: The images that :meth:`prepare` was given.
            part: The part of the epochs that is done, in [0, 1].
        """

    @abstractmethod
    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss of a batch.

        Args:
            network: The network.
            x: The images of the batch, with shape :math:`(B, *)`, in [0, 1] or standardised.
            noise: What random numbers are drawn from, on the device of the images.

        Returns:
            A scalar, in nats per image.
        """

    def losses(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Losses:
        r"""Returns the losses of a batch, each with the parameters that it is for.

        One loss for all parameters, unless an objective has adversaries in it.
        """
        return [(self.loss(network, x, noise), [*network.parameters(), *self.parameters()])]

    def prior(self, network: Autoencoder) -> LatentDensity | None:
        r"""Returns the density that was learned with the network, or ``None`` if it is to be fitted to the codes."""
        return None
