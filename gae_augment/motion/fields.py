r"""Smooth invertible maps of an image, given by stationary velocity fields.

A velocity field :math:`v` is a tensor of cubic B-spline coefficients on a coarse grid, in the coordinates of
``torch.nn.functional.grid_sample``: both sides of an image run from -1 to 1, and channel 0 holds the horizontal
component. The map :math:`\exp(v)` follows the field for one unit of time.

References:
    | A log-Euclidean framework for statistics on diffeomorphisms (Arsigny et al., 2006)
    | https://doi.org/10.1007/11866565_113
"""

__all__ = ["NODES", "displacement", "invertible", "jacobian", "move_images", "move_points", "roughness"]

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NODES = 8
"""The number of B-spline coefficients of a velocity field along each side of an image."""

MAP_NODES = 33
"""The number of nodes along each side on which a map is computed. Between nodes, the map is bilinear."""

SQUARINGS = 6
"""A map is computed from a :math:`2^6`-th of the velocity field, by composing it with itself six times."""

MIN_JACOBIAN = 0.1
"""The smallest Jacobian determinant of a map. At 0, a map would fold the image."""

SAFE_DIVERGENCE = 2.0
"""A map whose field has a smaller divergence than this bound cannot fold, so it is not computed to check it.

The logarithm of the determinant is the divergence, integrated along a path of unit time. Its bound is -2 here, and -2.3
for ``MIN_JACOBIAN``, which leaves room for errors of the computation.
"""

SHRINKAGE = 0.8
"""A velocity field whose map would fold the image is multiplied by this factor until the map does not."""

FIELDS_PER_CHUNK = 1000
"""The maximum number of velocity fields that are checked at a time. It limits the use of memory."""

PIXELS_PER_CHUNK = 2**18
"""The maximum number of pixels that are moved at a time. It limits the use of memory for large photographs.

On a GPU it is 16 times as large, because each chunk takes some launches of kernels.
"""


def _constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    r"""Decorator: keeps what a function of integers returns, converted to a data type and a device.

    These are the last two arguments of each call.
    """

    # Few sizes are kept, because the weights of a photograph take a megabyte.
    @lru_cache(maxsize=32)
    @wraps(make)
    def kept(*arguments: Any) -> Tensor:
        *numbers, dtype, device = arguments
        # A tensor that is made in inference mode could never take part in training.
        with torch.inference_mode(False):
            return make(*numbers).to(device, dtype)

    return kept


def displacement(v: Tensor, nodes: int = MAP_NODES, squarings: int = SQUARINGS) -> Tensor:
    r"""Returns the displacement :math:`\exp(v)(p) - p` on a grid of points :math:`p`, by scaling and squaring.

    Args:
        v: The velocity fields, with shape :math:`(B, 2, 8, 8)`.
        nodes: The number :math:`R` of grid points along each side. The outer points lie on the border of the image.
        squarings: The number of compositions of the map with itself.

    Returns:
        The displacements, with shape :math:`(B, 2, R, R)`.
    """
    weights = _spline_weights(v.shape[-1], nodes, v.dtype, v.device)
    points = _points(nodes, v.dtype, v.device)
    u = weights @ v @ weights.T / 2**squarings
    for _ in range(squarings):
        moved = (points + u).movedim(1, -1)
        u = u + functional.grid_sample(u, moved, padding_mode="border", align_corners=True)
    return u


@_constant
def _spline_weights(n: int, nodes: int) -> Tensor:
    r"""Returns the values of ``n`` cubic B-splines at ``nodes`` points from border to border, one row per point."""
    distance = (torch.linspace(0, n - 1, nodes, dtype=torch.float64)[:, None] - torch.arange(n)).abs()
    inner = 2 / 3 - distance**2 * (1 - distance / 2)
    outer = (2 - distance).clamp(min=0) ** 3 / 6
    weights = torch.where(distance < 1, inner, outer)
    # At the border, where splines are missing, a constant field must remain constant.
    return weights / weights.sum(dim=1, keepdim=True)


@_constant
def _points(nodes: int) -> Tensor:
    r"""Returns the coordinates (x, y) of a grid from border to border, with shape :math:`(2, R, R)`."""
    side = torch.linspace(-1, 1, nodes, dtype=torch.float64)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"))


@_constant
def _linear_weights(nodes: int, pixels: int) -> Tensor:
    r"""Returns the weights of linear interpolation from nodes to the centres of pixels, one row per pixel."""
    positions = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * (nodes - 1)
    return (1 - (positions[:, None] - torch.arange(nodes)).abs()).clamp(min=0)


@_constant
def _pixel_centres(pixels: int) -> Tensor:
    r"""Returns the coordinates of the centres of pixels along one side."""
    return (2 * torch.arange(pixels, dtype=torch.float64) + 1) / pixels - 1


def jacobian(u: Tensor) -> Tensor:
    r"""Returns the smallest Jacobian determinant of each map.

    Between nodes, a map is bilinear. Its determinant is linear within a cell, and so is smallest in a corner.

    Args:
        u: The displacements, with shape :math:`(B, 2, R, R)`.

    Returns:
        The determinants, with shape :math:`(B,)`. The identity has determinant 1.
    """
    nodes = u.shape[-1]
    x, y = (_points(nodes, u.dtype, u.device) + u).unbind(dim=1)
    across, down = (x.diff(dim=2), y.diff(dim=2)), (x.diff(dim=1), y.diff(dim=1))
    determinants = [
        (across[0][:, rows] * down[1][:, :, columns] - across[1][:, rows] * down[0][:, :, columns]).flatten(1)
        for rows in (slice(None, -1), slice(1, None))
        for columns in (slice(None, -1), slice(1, None))
    ]
    return torch.cat(determinants, dim=1).amin(dim=1) * ((nodes - 1) / 2) ** 2


def invertible(v: Tensor) -> Tensor:
    r"""Returns velocity fields that are weakened where their maps, or the inverse maps, would fold an image."""
    v = v.clone()
    for chunk in v.split(FIELDS_PER_CHUNK):
        # A bound on the divergence: a spline is not steeper than the steps between its coefficients.
        steps = chunk[:, 0].diff(dim=2).abs().amax(dim=(1, 2)) + chunk[:, 1].diff(dim=1).abs().amax(dim=(1, 2))
        folds = steps * (chunk.shape[-1] - 1) / 2 >= SAFE_DIVERGENCE
        while folds.any():
            both_ways = torch.stack([chunk[folds], -chunk[folds]])
            smallest = jacobian(displacement(both_ways.flatten(0, 1))).view(2, -1).amin(dim=0)
            folds[folds.clone()] = smallest < MIN_JACOBIAN
            chunk[folds] *= SHRINKAGE
    return v


def roughness(v: Tensor) -> Tensor:
    r"""Returns the mean squared derivative of each velocity field, with shape :math:`(B,)`.

    The derivatives are differences of neighbouring coefficients, divided by :math:`2/8`, about their distance.
    """
    scale = (v.shape[-1] / 2) ** 2
    return (v.diff(dim=2).square().mean(dim=(1, 2, 3)) + v.diff(dim=3).square().mean(dim=(1, 2, 3))) * scale


def move_images(images: Tensor, u: Tensor, mode: str = "bicubic", dtype: torch.dtype | None = None) -> Tensor:
    r"""Returns images moved by maps: the value at a point :math:`p` is the image's value at :math:`p + u(p)`.

    Beyond its border, an image is continued by reflection.

    Args:
        images: The images, of a floating-point type, with shape :math:`(B, C, H, W)`.
        u: The displacements, with shape :math:`(B, 2, R, R)` or :math:`(1, 2, R, R)`.
        mode: The interpolation of ``torch.nn.functional.grid_sample``. ``"bicubic"`` keeps images sharp, and its values
            are clamped to those of each channel. ``"bilinear"`` is faster, and blurs.
        dtype: The data type of the result, by default that of the images. Integers are rounded.
    """
    dtype = images.dtype if dtype is None else dtype
    height, width = images.shape[-2:]
    rows = max(1, PIXELS_PER_CHUNK * (16 if images.is_cuda else 1) // (width * len(images)))
    clamped = mode == "bicubic" and images.numel() > 0
    if clamped:
        low, high = images.amin(dim=(-2, -1), keepdim=True), images.amax(dim=(-2, -1), keepdim=True)
    chunks = []
    for start in range(0, height, rows):
        points = _pixel_points(u, height, width, slice(start, start + rows))
        points = points.expand(len(images), -1, -1, -1)
        moved = functional.grid_sample(images, points, mode, padding_mode="border", align_corners=False)
        moved = moved.clamp(low, high) if clamped else moved
        chunks.append((moved if dtype.is_floating_point else moved.round()).to(dtype))
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=2)


def _pixel_points(u: Tensor, height: int, width: int, rows: slice) -> Tensor:
    r"""Returns the points that pixels take their values from, with shape (B, H, W, 2), for some rows of an image."""
    down = _linear_weights(u.shape[-1], height, u.dtype, u.device)[rows]
    across = _linear_weights(u.shape[-1], width, u.dtype, u.device)
    points = (down @ u @ across.T).movedim(1, -1)
    points[..., 0] += _pixel_centres(width, u.dtype, u.device)
    points[..., 1] += _pixel_centres(height, u.dtype, u.device)[rows, None]
    # Reflects points at the border of the image. With cubic interpolation, grid_sample takes twice as long to do it.
    return points.clamp(-1, 1).mul_(2).sub_(points)


def move_points(points: Tensor, u: Tensor) -> Tensor:
    r"""Returns the points :math:`p + u(p)`.

    Args:
        points: The points (x, y), with shape :math:`(B, N, 2)`, from -1 to 1 within an image.
        u: The displacements, with shape :math:`(B, 2, R, R)`.
    """
    at_points = functional.grid_sample(u, points[:, None], padding_mode="border", align_corners=True)
    return points + at_points[:, :, 0].movedim(1, -1)
