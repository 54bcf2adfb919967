r"""Processing of large tensors in chunks, which limits memory use."""

__all__ = ["VALUES_PER_CHUNK", "chunk_size", "map_chunks"]

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from .threads import map_in_threads

VALUES_PER_CHUNK = 2**22
"""The maximum number of image values that pass through a network together, outside training."""

Result = TypeVar("Result")


def chunk_size(most: int, shape: Sequence[int], values: int = VALUES_PER_CHUNK) -> int:
    r"""Returns the number of images per chunk, at least 1.

    Args:
        most: The maximum number of images per chunk.
        shape: The shape of an image.
        values: The maximum number of values per chunk. An image has one value per pixel and channel.
    """
    return max(1, min(most, values // math.prod(shape)))


def map_chunks(
    function: Callable[[slice], Result], n: int, size: int, device: torch.device
) -> Iterator[tuple[slice, Result]]:
    r"""Calls a function for each chunk of :math:`n` items, and yields pairs (chunk, result) in order.

    On a CPU, the calls run in parallel. The function must not write to shared data.

    Args:
        function: A function of a chunk. The chunk is a slice of the indices 0 to :math:`n - 1`.
        n: The number of items.
        size: The maximum number of items per chunk.
        device: The device that the function uses.
    """
    chunks = [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]
    results = map(function, chunks) if device.type == "cuda" else map_in_threads(function, chunks)
    yield from zip(chunks, results, strict=True)
