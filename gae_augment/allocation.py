r"""Memory that every step of a training takes and frees again: kept by the process in between.

The C library of most Linux systems gives a large block back to the system when it is freed, and the system clears
every page of it when it is taken again. A convolutional network on images of 64x64 pixels spends up to two fifths of
its training so.
"""

__all__ = ["keep_freed_memory"]

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ._utils.threads import SharedContext

# Of malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT = 2**30
"""Blocks of up to so many bytes are kept, and so much free memory at the end of the heap."""

LARGEST_DYNAMIC = 2**25
"""The size that glibc itself raises its threshold to, in a process that has freed a block as large."""


def _set_threshold() -> Callable[[int, int], int] | None:
    r"""Returns glibc's function that sets a threshold, or None where there is another library or the user chose."""
    if sys.platform != "linux" or any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return None
    library: Any = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        return None
    set_threshold: Callable[[int, int], int] = library.mallopt
    return set_threshold


@contextmanager
def _kept() -> Iterator[None]:
    set_threshold = _set_threshold()
    if set_threshold is None:
        yield
        return
    set_threshold(MMAP_THRESHOLD, KEPT)
    set_threshold(TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        set_threshold(MMAP_THRESHOLD, LARGEST_DYNAMIC)
        set_threshold(TRIM_THRESHOLD, 2 * LARGEST_DYNAMIC)
        # What was kept goes back now.
        ctypes.CDLL(None).malloc_trim(0)


keep_freed_memory = SharedContext(_kept)
"""While any thread is inside, freed memory stays with the process, and is given back when the last one leaves.

Where the C library is another than glibc, or the user has set its thresholds in the environment, nothing changes.
"""
