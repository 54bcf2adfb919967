r"""Figures 5, 6 and 7: reconstructions and samples of each model."""

__all__ = ["draw_reconstructions", "draw_samples", "file_name"]

import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from gae_augment._utils.seeding import make_generator
from gae_augment.fitting import FittedModel
from gae_augment.models import AncestralMixture, GaussianMixture

SIDE = 10


def file_name(row: str) -> str:
    r"""Returns the name of a row with only the characters that suit a file name."""
    return re.sub(r"[^\w.=]+", "-", row).strip("-")


def codes_by_component(fitted: FittedModel) -> Tensor:
    r"""Returns a hundred codes, with shape :math:`(100, d)`: ten from each of the ten heaviest components of a mixture.

    With fewer than ten components these repeat; a density without components gives a hundred plain samples.
    """
    random = make_generator("figures")
    density = fitted.density
    if isinstance(density, GaussianMixture):
        heaviest = density.weights.argsort(descending=True)[:SIDE].tolist()
        rows = [heaviest[place % len(heaviest)] for place in range(SIDE)]
        noise = torch.randn(SIDE, SIDE, density.means.shape[1], dtype=torch.float64, generator=random)
        return torch.cat([density.means[k] + noise[row] @ density.cholesky[k].T for row, k in enumerate(rows)])
    if isinstance(density, AncestralMixture):
        w = torch.randn(SIDE * SIDE, density.latent_dim, generator=random)
        mean, log_var = density.conditional(w)
        k = (torch.arange(SIDE) % density.n_components).repeat_interleave(SIDE)
        every = torch.arange(SIDE * SIDE)
        noise = torch.randn(SIDE * SIDE, density.latent_dim, generator=random)
        return (mean[every, k] + (0.5 * log_var[every, k]).exp() * noise).detach()
    return density.sample(SIDE * SIDE, random)


def draw_samples(fitted: FittedModel, path: Path) -> None:
    r"""Draws a hundred samples, a row for each component where there is a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = fitted.decode(codes_by_component(fitted)).float() / 255
    save_image(images, path, nrow=SIDE, padding=1)


def draw_reconstructions(models: dict[str, FittedModel], images: Tensor, path: Path) -> None:
    r"""Draws images in the first row, and each model's reconstructions in a row below."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = images[: 2 * SIDE]
    rows = [chosen, *(fitted.reconstruct(chosen) for fitted in models.values())]
    save_image(torch.cat(rows).float() / 255, path, nrow=2 * SIDE, padding=1)
