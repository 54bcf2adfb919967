r"""How much one image is another one: moved by some pixels, brighter, of more contrast, or noisy."""

__all__ = ["aligned_nearest"]

import torch
from torch import Tensor
from torch.nn import functional

FAINT = 0.02
"""A deviation of pixels below which an image counts as flat: its noise must not be taken for what it shows."""

COMPARED_VALUES = 2**23
"""So many values of moved images are in memory at a time."""


def aligned_nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance to the nearest point, and its index, of each query, after they are brought to cover.

    Images are blurred a little, and of a query the inside is compared with that of the point at every place that is up
    to two pixels off. Both have their mean taken off and are divided by their deviation :math:`\sigma`, or 0.02 if that
    is more. Half their mean squared difference is then :math:`1 - r` with the correlation :math:`r`, whatever their
    brightness and contrast are. Of images below 16 pixels one pixel counts, and of those below 8 none.

    Args:
        queries: Images in [0, 1], with shape :math:`(M, C, H, W)`.
        points: Likewise, with shape :math:`(N, C, H, W)`.

    Returns:
        The distances, in [0, 2], and the indices, each with shape :math:`(M,)`.
    """
    side = min(queries.shape[-2:])
    reach = 2 if side >= 16 else 1 if side >= 8 else 0
    blur = 5 if side >= 24 else 3 if side >= 12 else 1
    height, width = (size - 2 * reach for size in queries.shape[-2:])

    def inside(images: Tensor, down: int, right: int) -> Tensor:
        own = images[..., down : down + height, right : right + width].flatten(1)
        own = own - own.mean(dim=1, keepdim=True)
        deviation = own.square().mean(dim=1, keepdim=True).sqrt()
        return own / deviation.clamp(min=FAINT) / own.shape[1] ** 0.5

    looked_for = inside(_blurred(queries, blur), reach, reach)
    lengths = looked_for.square().sum(dim=1)
    best = torch.full((len(queries),), torch.inf)
    index = torch.zeros(len(queries), dtype=torch.long)
    at_once = max(1, COMPARED_VALUES // looked_for.shape[1])
    for start in range(0, len(points), at_once):
        some = _blurred(points[start : start + at_once], blur)
        for down in range(2 * reach + 1):
            for right in range(2 * reach + 1):
                moved = inside(some, down, right)
                squares = torch.addmm(moved.square().sum(dim=1), looked_for, moved.T, alpha=-2)
                least, place = squares.min(dim=1)
                index = torch.where(least < best, place + start, index)
                best = torch.minimum(least, best)
    return ((best + lengths) / 2).clamp(min=0), index


def _blurred(images: Tensor, size: int) -> Tensor:
    margin = size // 2
    padded = functional.pad(images.float(), (margin, margin, margin, margin), mode="replicate")
    return functional.avg_pool2d(padded, size, stride=1)
