r"""The working size: the height and width to which images are brought for the networks."""

__all__ = ["WorkingSize", "check_working_size", "choose_size", "resize_images"]

from collections.abc import Iterable
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .._utils.threads import use_threads

WorkingSize = Literal["auto"] | int | tuple[int, int]
"""``"auto"``, the longest side in pixels, or the height and width."""

LONGEST_SIDE = 64
"""With ``"auto"``, the longest side of the working size has at most this number of pixels."""

SHORTEST_SIDE = 8
"""Each side of a chosen working size has at least this number of pixels, unless all images are smaller."""

MAX_ASPECT = 4
"""A chosen working size is at most this number of times as long as wide, unless all images have one small size."""

WIDE_TYPES = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
"""The data types with values that float32 cannot represent."""


def check_working_size(working_size: Any) -> None:
    r"""Checks that a working size is ``"auto"``, an integer of at least 8, or a pair of positive integers.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(working_size, str):
        valid = working_size == "auto"
    elif isinstance(working_size, tuple | list):
        valid = len(working_size) == 2 and all(_is_integer(side, 1) for side in working_size)
    else:
        valid = _is_integer(working_size, SHORTEST_SIDE)
    if not valid:
        raise ValueError(
            f"'working_size' is {working_size!r}, but must be 'auto', an integer of at least {SHORTEST_SIDE} (the "
            f"longest side), or a pair of positive integers (height, width)."
        )


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def choose_size(sizes: Iterable[tuple[int, int]], working_size: WorkingSize = "auto") -> tuple[int, int]:
    r"""Returns the height and width at which networks see images.

    If all images have one size, and its longest side is at most 64, this is the size. Otherwise, it is the median
    height and the median width, scaled down until the longest side is at most 64. The longer side is first shortened to
    four times the shorter side, and each side is at least 8 unless all images are smaller.

    Args:
        sizes: The heights and widths of the images. There must be at least one.
        working_size: ``"auto"``; an integer in place of 64; or a pair, which is returned.
    """
    if isinstance(working_size, tuple | list):
        return int(working_size[0]), int(working_size[1])
    longest = LONGEST_SIDE if isinstance(working_size, str) else int(working_size)
    pairs = np.array(list(sizes))
    if (pairs == pairs[0]).all() and pairs[0].max() <= longest:
        return int(pairs[0, 0]), int(pairs[0, 1])
    height, width = np.median(pairs, axis=0)
    height, width = min(height, MAX_ASPECT * width), min(width, MAX_ASPECT * height)
    scale = min(1.0, longest / max(height, width))
    least = np.where(pairs.max(axis=0) < SHORTEST_SIDE, 1, SHORTEST_SIDE).tolist()
    return max(round(height * scale), least[0]), max(round(width * scale), least[1])


@use_threads(1)
def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    r"""Returns images in another height and width, with the same data type and in the same range of values.

    Each pixel of a smaller image is a weighted mean of all pixels that it covers. Images that already have the size are
    returned themselves, not copied.

    Args:
        images: The images on the CPU, with shape :math:`(N, C, H, W)` or :math:`(N, H, W)`.
        size: The new height and width.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    resized = images.new_empty((*images.shape[:-2], *size))
    # One at a time: intermediate values of large images need much memory.
    for index, image in enumerate(images):
        resized[index] = _resize(image.reshape(1, -1, *image.shape[-2:]), size).view(resized.shape[1:])
    return resized


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    r"""Resizes one image of shape :math:`(1, C, H, W)`."""
    dtype = image.dtype
    # PyTorch's integer arithmetic for this type is much faster than float32, and rounds to the same or the next value.
    values = image if dtype == torch.uint8 else image.double() if dtype in WIDE_TYPES else image.float()
    resized = functional.interpolate(values, size=tuple(size), mode="bilinear", antialias=True)
    if dtype == torch.uint8:
        return resized
    if dtype == torch.bool:
        return resized > 0.5
    # Rounding errors must not lead out of the range of the values, such as [0, 1].
    resized = resized.clamp(*values.aminmax())
    return (resized if dtype.is_floating_point else resized.round()).to(dtype)
