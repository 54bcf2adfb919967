r"""Distances between images, almost independent of small shifts, brightness, contrast and noise."""

__all__ = ["aligned_nearest"]

import torch
from torch import Tensor
from torch.nn import functional

MIN_DEVIATION = 0.02
"""The smallest number that centred pixels are divided by."""

MAX_CHUNK_VALUES = 2**23
"""The maximum number of pixel values of points that are compared with the queries at a time."""


def aligned_nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance and the index of the point nearest to each query.

    Queries and points are images of the same size. Their distance is :math:`1 - r`. Here :math:`r` is the largest
    correlation of a window in the centre of the query with windows of the point, over small shifts. The shorter side of
    the images determines shifts and blur:

    - From 16 pixels: shifts of up to two pixels, and a slight blur.
    - From 12 to 15 pixels: shifts of up to one pixel, and a slight blur.
    - From 8 to 11 pixels: shifts of up to one pixel, and no blur.
    - Below 8 pixels: no shifts, and no blur.

    Windows with a standard deviation below 0.02 are nearly flat. They are divided by 0.02 instead of their standard
    deviation, and the distance is half the mean squared difference of the divided windows.

    Args:
        queries: Images in [0, 1], with shape :math:`(M, C, H, W)`.
        points: Images in [0, 1], with shape :math:`(N, C, H, W)`.

    Returns:
        The distances, in [0, 2], and the indices of the nearest points. Both have the shape :math:`(M,)`.
    """
    side = min(queries.shape[-2:])
    max_shift = 2 if side >= 16 else 1 if side >= 8 else 0
    blur_size = 5 if side >= 24 else 3 if side >= 12 else 1
    height, width = (size - 2 * max_shift for size in queries.shape[-2:])

    def normalised_windows(images: Tensor, top: int, left: int) -> Tensor:
        windows = images[..., top : top + height, left : left + width].flatten(1)
        windows = windows - windows.mean(dim=1, keepdim=True)
        deviation = windows.square().mean(dim=1, keepdim=True).sqrt()
        return windows / deviation.clamp(min=MIN_DEVIATION) / windows.shape[1] ** 0.5

    query_windows = normalised_windows(_blurred(queries, blur_size), max_shift, max_shift)
    query_norms = query_windows.square().sum(dim=1)
    # Squared distances to the nearest point so far, less the queries' squared norms, which are equal for all points.
    best = torch.full((len(queries),), torch.inf)
    index = torch.zeros(len(queries), dtype=torch.long)
    chunk_size = max(1, MAX_CHUNK_VALUES // query_windows.shape[1])
    for start in range(0, len(points), chunk_size):
        chunk = _blurred(points[start : start + chunk_size], blur_size)
        for top in range(2 * max_shift + 1):
            for left in range(2 * max_shift + 1):
                windows = normalised_windows(chunk, top, left)
                distances = torch.addmm(windows.square().sum(dim=1), query_windows, windows.T, alpha=-2)
                nearest, position = distances.min(dim=1)
                index = torch.where(nearest < best, position + start, index)
                best = torch.minimum(nearest, best)
    return ((best + query_norms) / 2).clamp(min=0), index


def _blurred(images: Tensor, size: int) -> Tensor:
    margin = size // 2
    padded = functional.pad(images.float(), (margin, margin, margin, margin), mode="replicate")
    return functional.avg_pool2d(padded, size, stride=1)
