r"""Keeps freed memory in the process, so that the next training step reuses it.

glibc returns large freed blocks to the system, which clears every page when they are allocated again. A convolutional
network on images of 64x64 pixels spends up to two fifths of its training time on that. The setting holds for a whole
process, so only the command line changes it: a library must not change the process of its user.
"""

__all__ = ["keep_freed_memory"]

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Of malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT_BYTES = 2**30
"""The largest block that is kept, and the most free memory at the end of the heap."""

LARGEST_DYNAMIC = 2**25
"""The largest threshold that glibc itself sets, after a block of that size was freed."""

VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""The environment variables from which a new process takes the same thresholds."""


def _find_mallopt() -> Callable[[int, int], int] | None:
    r"""Returns glibc's ``mallopt``; ``None`` with another C library, or if the user has set the thresholds."""
    if sys.platform != "linux" or any(name in os.environ for name in (*VARIABLES, "GLIBC_TUNABLES")):
        return None
    library: Any = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
        return None
    mallopt: Callable[[int, int], int] = library.mallopt
    return mallopt


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    r"""Keeps freed memory in this process and in worker processes that start inside, and returns it at the end.

    With a C library other than glibc, or if the user has set its thresholds in the environment, nothing changes.
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
