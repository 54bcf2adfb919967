r"""Files that are computed once, and read by all later runs."""

__all__ = ["Content", "kept"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from gae_augment._utils.files import read_file, write_file

Content = tuple[dict[str, Any], dict[str, Tensor]]
"""The header and the tensors of a file."""


def kept(path: Path, make: Callable[[], Content]) -> Content:
    r"""Returns the content of a file; one process computes it if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            write_file(path, *make())
    return read_file(path)
