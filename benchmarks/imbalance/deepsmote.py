r"""DeepSMOTE: an autoencoder of all classes, and interpolation between neighbouring codes of a class."""

__all__ = ["DeepSMOTE"]

from typing import Self

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional

from gae_augment._utils.devices import resolve_device
from gae_augment._utils.seeding import make_generator
from gae_augment._utils.threads import single_threaded_libraries
from gae_augment.evaluation.images import Labelled, to_unit
from gae_augment.models import Bernoulli, build_autoencoder


class DeepSMOTE:
    r"""Interpolates between the images of a class.

    The autoencoder is trained to reconstruct, and to decode the code of an image as another image of its class: the
    codes of a batch of one class are shuffled, and the penalty is the error against the images in their original order.

    Args:
        latent_dim: The dimension of a code; the authors use 300.
        steps: The optimiser steps; the authors train for 200 epochs on a GPU.
        batch_size: The images in a batch; the authors use 100.
        step_size: Adam's learning rate; the authors use 2e-4.
        neighbours: The number of nearest codes of the class; a random one is interpolated with.

    References:
        | DeepSMOTE: fusing deep learning and SMOTE for imbalanced data (Dablain et al., 2021)
        | https://arxiv.org/abs/2105.02340
    """

    def __init__(
        self,
        latent_dim: int = 300,
        steps: int = 1500,
        batch_size: int = 100,
        step_size: float = 1e-3,
        neighbours: int = 5,
    ) -> None:
        self.latent_dim, self.steps, self.batch_size = latent_dim, steps, batch_size
        self.step_size, self.neighbours = step_size, neighbours
        self.device = resolve_device("auto")

    def fit(self, train: Labelled, seed: int) -> Self:
        r"""Trains the autoencoder on uint8 images of shape :math:`(N, C, H, W)` and their labels."""
        with single_threaded_libraries():
            return self._fit(train, seed)

    def _fit(self, train: Labelled, seed: int) -> Self:
        images, labels = train
        self.images, self.labels = images, labels
        self.network = build_autoencoder(
            tuple(images.shape[1:]), self.latent_dim, "conv", generator=make_generator(seed, "deepsmote")
        )
        self.network.fit_normalisation(to_unit(images[:5000]), Bernoulli())
        self.network.to(self.device)
        generator = make_generator(seed, "deepsmote", "batches")
        of_class = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.step_size, fused=True)
        for _ in range(self.steps):
            chosen = torch.randint(len(images), (self.batch_size,), generator=generator)
            x = to_unit(images[chosen].to(self.device))
            error = functional.mse_loss(self.network.decode(self.network.encode(x)).sigmoid(), x)
            rows = of_class[int(torch.randint(len(of_class), (1,), generator=generator))]
            x = to_unit(images[rows[torch.randperm(len(rows), generator=generator)[: self.batch_size]]].to(self.device))
            shuffled = self.network.encode(x)[torch.randperm(len(x), generator=generator).to(self.device)]
            penalty = functional.mse_loss(self.network.decode(shuffled).sigmoid(), x)
            optimiser.zero_grad(set_to_none=True)
            (error + penalty).backward()
            optimiser.step()
        return self

    @torch.no_grad()
    def sample(self, label: int, n: int, seed: int) -> Tensor:
        r"""Returns :math:`n` new images of a class, uint8 with shape :math:`(n, C, H, W)`."""
        with single_threaded_libraries():
            images = self.images[self.labels == label]
            codes = torch.cat(
                [self.network.encode(to_unit(batch.to(self.device))).cpu() for batch in images.split(1000)]
            )
            nearest = NearestNeighbors(n_neighbors=min(self.neighbours, len(images) - 1)).fit(codes.numpy())
            neighbours = torch.from_numpy(nearest.kneighbors(return_distance=False))
            generator = make_generator(seed, "deepsmote", label)
            first = torch.randint(len(images), (n,), generator=generator)
            place = torch.randint(neighbours.shape[1], (n,), generator=generator)
            weight = torch.rand(n, 1, generator=generator)
            z = codes[first] + weight * (codes[neighbours[first, place]] - codes[first])
            decoded = (self.network.decode(batch.to(self.device)).sigmoid() for batch in z.split(1000))
            return torch.cat([batch.mul(255).round().byte().cpu() for batch in decoded])
