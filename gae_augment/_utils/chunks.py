r"""Processing of large tensors in chunks, which limits the memory in use."""

__all__ = ["VALUES_PER_CHUNK", "chunk_size", "map_chunks"]

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from .threads import map_in_threads

VALUES_PER_CHUNK = 2**22
"""The maximum number of image values that pass through a network together, except in training."""

Result = TypeVar("Result")


def chunk_size(most: int, shape: Sequence[int], values: int = VALUES_PER_CHUNK) -> int:
    r"""Returns the number of images per chunk: at most ``most`` images and ``values`` values, but at least 1 image."""
    return max(1, min(most, values // math.prod(shape)))


def map_chunks(
    function: Callable[[slice], Result], n: int, size: int, device: torch.device
) -> Iterator[tuple[slice, Result]]:
    r"""Calls a function for each chunk of n items, and yields each chunk with its result, in order.

    On a CPU, as many chunks run in parallel as PyTorch has threads. The function must not write to shared data: after
    an interruption, some calls continue for a while.

    Args:
        function: A function of a slice, the chunk.
        n: The number of items.
        size: The maximum number of items per chunk.
        device: The device on which the function computes.
    """
    chunks = [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]
    results = map(function, chunks) if device.type == "cuda" else map_in_threads(function, chunks)
    yield from zip(chunks, results, strict=True)
