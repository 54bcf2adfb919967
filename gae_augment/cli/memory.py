r"""Keeps freed memory in the process, so that later allocations reuse it.

By default, the C library glibc returns large freed blocks of memory to the operating system. The operating system
clears memory before it is allocated again, which slows training. This module changes glibc's settings for the whole
process. Only the command line uses the module, because a library must not change such settings for its user.
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
"""The maximum size, in bytes, of a freed block that is kept, and of the free memory kept at the end of the heap."""

LARGEST_DYNAMIC = 2**25
"""The largest value, in bytes, to which glibc by itself raises its mmap threshold when large blocks are freed."""

VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""The environment variables from which glibc reads its mmap and trim thresholds when a process starts."""


def _find_mallopt() -> Callable[[int, int], int] | None:
    r"""Returns ``mallopt``, the function of glibc that sets how much freed memory a process keeps.

    Returns ``None`` with a C library other than glibc, or if environment variables already set this amount.
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
    r"""Context manager: keeps freed memory in this process, and in worker processes that start inside the context.

    When the context ends, this process returns its freed memory to the operating system. The context changes nothing if
    the C library is not glibc, or if environment variables already hold glibc's memory settings.
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
