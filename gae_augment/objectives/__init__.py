r"""What a network is trained for. The table of models names objective and latent density of each."""

__all__ = ["MODELS", "Model", "Objective", "Reconstruction", "excess_error", "reconstruction_error"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from torch import Tensor

from ..networks import Autoencoder
from .reconstruction import Likelihood, Reconstruction, excess_error, reconstruction_error


class Objective(Protocol):
    r"""A loss: a network and a batch of images, with shape :math:`(B, *)`, to nats per image."""

    def __call__(self, network: Autoencoder, x: Tensor) -> Tensor:
        r"""Returns the loss, a scalar."""


@dataclass(frozen=True)
class Model:
    r"""A row of the table.

    Attributes:
        objective: Makes the objective for a likelihood of the data.
        density: The latent density that new codes are drawn from by default, a key of
            :data:`gae_augment.densities.DENSITIES`.
    """

    objective: Callable[[Likelihood], Objective]
    density: Literal["normal", "mixture"]


MODELS: Mapping[str, Model] = MappingProxyType({"gae": Model(Reconstruction, density="mixture")})
"""The generative models by name."""
