r"""Keeps freed memory in the process for later allocations.

The module changes settings of the C library glibc for the whole process.
"""

__all__ = ["keep_freed_memory"]

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# The constants of malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT_BYTES = 2**30
"""The mmap and trim thresholds of glibc that keep freed memory, in bytes."""

LARGEST_DYNAMIC = 2**25
"""The largest mmap threshold, in bytes, that glibc sets by itself."""

VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""The environment variables that set glibc's mmap and trim thresholds in a new process."""


def _find_mallopt() -> Callable[[int, int], int] | None:
    r"""Returns ``mallopt``, the function that changes memory settings of glibc.

    Returns ``None`` without glibc, or if environment variables hold these settings.
    """
    if sys.platform != "linux" or any(name in os.environ for name in (*VARIABLES, "GLIBC_TUNABLES")):
        return None
    library: Any = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        return None
    mallopt: Callable[[int, int], int] = library.mallopt
    return mallopt


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    r"""Context manager: keeps freed memory in this process and in worker processes that start inside the context.

    The context has no effect without glibc, or if environment variables hold glibc's memory settings.
    """
    mallopt = _find_mallopt()
    if mallopt is None:
        yield
        return
    mallopt(MMAP_THRESHOLD, KEPT_BYTES)
    mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    # Workers are new processes, which read the environment.
    os.environ.update(dict.fromkeys(VARIABLES, str(KEPT_BYTES)))
    try:
        yield
    finally:
        for name in VARIABLES:
            os.environ.pop(name, None)
        mallopt(MMAP_THRESHOLD, LARGEST_DYNAMIC)
        mallopt(TRIM_THRESHOLD, 2 * LARGEST_DYNAMIC)
        ctypes.CDLL(None).malloc_trim(0)
