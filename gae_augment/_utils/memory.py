r"""Memory that the C library keeps after it was freed."""

__all__ = ["return_freed_memory"]

import ctypes
import sys
from typing import Any


def return_freed_memory() -> None:
    r"""Returns the freed memory of this process to the system, where the C library is glibc."""
    if sys.platform == "linux":
        library: Any = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
