r"""The interface of objectives."""

__all__ = ["Losses", "Objective"]

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..densities import LatentDensity
from ..likelihoods import Likelihood
from ..networks import Autoencoder

Losses = Sequence[tuple[Tensor, Sequence[nn.Parameter]]]
"""Scalar losses, each with the parameters trained to minimise that loss; parameters without a loss do not change."""


class Objective(nn.Module, ABC):
    r"""A training objective: a loss, and parameters that are learned in addition to those of the network.

    Args:
        likelihood: The distribution of an image given the outputs of the decoder.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Initialises the parameters that depend on the data; called once before training.

        Args:
            network: The untrained network.
            x: Training images, a few thousand at most, with shape :math:`(N, *)`.
            n_components: The maximum number of components of a mixture prior.
            generator: The source of random initial values, on the CPU.
        """

    def advance(self, network: Autoencoder, x: Tensor, progress: float) -> None:
        r"""Updates the schedule of the objective; called before each epoch and after the last epoch.

        Args:
            network: The network.
            x: The images passed to :meth:`prepare`.
            progress: The fraction of epochs completed, in [0, 1].
        """

    @abstractmethod
    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss of a batch.

        Args:
            network: The network.
            x: The images of the batch, with shape :math:`(B, *)`, in [0, 1] or standardised.
            noise: The source of random numbers, on the device of the images.

        Returns:
            A scalar, in nats per image.
        """

    def losses(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Losses:
        r"""Returns the losses of a batch, each with the parameters trained to minimise that loss.

        The default is one loss for all parameters; adversarial objectives have several losses.
        """
        return [(self.loss(network, x, noise), [*network.parameters(), *self.parameters()])]

    def prior(self, network: Autoencoder) -> LatentDensity | None:
        r"""Returns the prior learned with the network, or ``None`` if a density must be fitted to the codes."""
        return None
