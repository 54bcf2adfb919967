r"""Finds the smooth invertible map that moves one image onto another."""

__all__ = ["LEVELS", "SMOOTHNESS", "reduced", "register"]

import torch
from torch import Tensor
from torch.nn import functional

from .fields import NODES, displacement, invertible, move_images, roughness

LEVELS = (8, 16, 32)
"""The longest sides, in pixels, of the images that are compared, from coarse to fine."""

STEPS = 20
"""The number of optimiser steps at each level."""

LEARNING_RATE = 0.02
"""Adam's learning rate: a step moves a point by about this fraction of half the image."""

SMOOTHNESS = 1.0
"""The weight of the field's squared derivatives beside the squared difference of the images."""

MAP_NODES, SQUARINGS = 17, 4
"""A coarser computation of the map than when images are moved, for speed."""


@torch.enable_grad()
def register(moving: Tensor, fixed: Tensor, *, smoothness: float = SMOOTHNESS) -> Tensor:
    r"""Returns the velocity fields :math:`v` whose maps move images onto others.

    .. math:: v = \arg\min_v \|N(a \circ \exp(v)) - N(b)\|^2 + \lambda \|\nabla v\|^2

    Here :math:`a` is the moving image and :math:`b` the fixed one. :math:`N` brings an image to mean 0 and variance 1,
    so that brightness and contrast do not count. The squared norms are means over pixels and nodes. Adam minimises the
    sum at three sizes of the images, from coarse to fine.

    Args:
        moving: The images :math:`a`, with shape :math:`(B, C, H, W)`.
        fixed: The images :math:`b`, with shape :math:`(B, C, H, W)`.
        smoothness: The weight :math:`\lambda`.

    Returns:
        The velocity fields, with shape :math:`(B, 2, 8, 8)`. Their maps are invertible.
    """
    v = torch.zeros(len(moving), 2, NODES, NODES, device=moving.device, requires_grad=True)
    optimiser = torch.optim.Adam([v], lr=LEARNING_RATE)
    for longest in LEVELS:
        a, b = reduced(moving, longest), _normalised(reduced(fixed, longest))
        for _ in range(STEPS):
            moved = _normalised(move_images(a, displacement(v, MAP_NODES, SQUARINGS), "bilinear"))
            loss = (moved - b).square().mean(dim=(1, 2, 3)) + smoothness * roughness(v)
            optimiser.zero_grad()
            # Each field has its own term of the sum, and Adam scales each value by itself: the pairs do not interact.
            loss.sum().backward()
            optimiser.step()
    return invertible(v.detach())


def reduced(images: Tensor, longest: int) -> Tensor:
    r"""Returns images with shape :math:`(B, C, H, W)`, scaled down until no side is longer than ``longest``."""
    height, width = images.shape[-2:]
    scale = longest / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def _normalised(images: Tensor) -> Tensor:
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-6).sqrt()
