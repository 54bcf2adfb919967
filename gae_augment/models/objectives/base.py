r"""The interface of training objectives."""

__all__ = ["Losses", "Objective"]

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..densities import LatentDensity
from ..likelihoods import Likelihood
from ..networks import Autoencoder

Losses = Sequence[tuple[Tensor, Sequence[nn.Parameter]]]
"""Pairs of a scalar loss and the parameters that are trained to minimise it."""


class Objective(nn.Module, ABC):
    r"""A training objective, which is a loss that can have parameters.

    Args:
        likelihood: The distribution of an image given the decoder's outputs.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def prepare(self, network: Autoencoder, x: Tensor, *, n_components: int, generator: torch.Generator) -> None:
        r"""Initialises the objective's parameters; called once before training.

        Args:
            network: The untrained autoencoder.
            x: A sample of training images, with shape :math:`(N, *)`.
            n_components: The maximum number of components of a learned mixture.
            generator: The random generator of the initial values, on the CPU.
        """

    def advance(self, network: Autoencoder, x: Tensor, progress: float) -> None:
        r"""Adapts the objective to the progress of training; called before each epoch and after the last epoch.

        Args:
            network: The autoencoder.
            x: The training images that were passed to :meth:`prepare`.
            progress: The fraction of completed epochs, in [0, 1].
        """

    @abstractmethod
    def loss(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
        r"""Returns the loss, averaged over the images of a batch.

        Args:
            network: The autoencoder.
            x: The images of the batch, with shape :math:`(B, *)`, in [0, 1] or standardised.
            noise: The generator of random values, on the device of the images.

        Returns:
            A scalar, in nats.
        """

    def losses(self, network: Autoencoder, x: Tensor, noise: torch.Generator) -> Losses:
        r"""Returns pairs of a scalar loss and the parameters that are trained to minimise it.

        The default is one pair of :meth:`loss` and all parameters.
        """
        return [(self.loss(network, x, noise), [*network.parameters(), *self.parameters()])]

    def prior(self, network: Autoencoder) -> LatentDensity | None:
        r"""Returns the prior that was trained with the autoencoder, or ``None`` if the objective trains no prior."""
        return None
