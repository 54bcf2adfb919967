r"""Where images live: in memory, or in files that are mapped into it."""

__all__ = ["ImageFile", "new_images", "take"]

import os
import tempfile
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


class ImageFile:
    r"""Images in a file that is mapped into memory: the system keeps there what is used, and gives back the rest.

    Processes that get it by pickling map the same file, and see what one of them writes; a deep copy is a file of its
    own. The file is removed with the object that made it, or when the interpreter ends; a process that is killed leaves
    it in the folder.

    Args:
        folder: The folder of the file, which is made if it is not there.
        shape: The shape of all images together, :math:`(N, *)`, :math:`N \geq 1`.
        dtype: Their type.

    Attributes:
        tensor: The images, unset at first.

    Raises:
        OSError: If the folder cannot be written to, or has no room for all of them.
    """

    tensor: Tensor

    def __init__(self, folder: str | os.PathLike[str], shape: Sequence[int], dtype: torch.dtype) -> None:
        self._shape, self._dtype = tuple(shape), dtype
        size = prod(self._shape) * dtype.itemsize
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="images-", suffix=".bin", dir=folder)
            self.path = Path(name).absolute()
            try:
                # All of it now: to find the disk full when a page is written would end the process.
                os.posix_fallocate(handle, 0, size) if hasattr(os, "posix_fallocate") else os.truncate(handle, size)
            except BaseException:
                self.path.unlink()
                raise
            finally:
                os.close(handle)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror}. Images are kept in a folder that can be written to and has room for {size} bytes, "
                f"and this failed for",
                os.fspath(folder),
            ) from error
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())
        self._map()

    def _map(self) -> None:
        images = torch.from_file(str(self.path), shared=True, size=prod(self._shape), dtype=self._dtype)
        self.tensor = images.view(self._shape)

    def remove(self) -> None:
        r"""Removes the file's name; its room is given back when no process has it mapped any more."""
        self._remove()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_shape": self._shape, "_dtype": self._dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"The file of the images, {str(self.path)!r}, is gone: it is kept as long as the dataset that made it. "
                f"Make the dataset again from the augmenter, which can be saved."
            )
        self._map()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self)(self.path.parent, self._shape, self._dtype)
        copy.tensor.copy_(self.tensor)
        return copy


def _remove(path: Path, process: int) -> None:
    # A worker process that was forked off has the object too, and must leave the file to the one that made it.
    if os.getpid() == process:
        path.unlink(missing_ok=True)


def new_images(shape: Sequence[int], dtype: torch.dtype, folder: str | os.PathLike[str] | None) -> Tensor:
    r"""Returns unset images, in memory, or in a file without a name that goes when nothing refers to them any more.

    Pickled, they are copies.

    Args:
        shape: The shape of all images together, :math:`(N, *)`.
        dtype: Their type.
        folder: The folder of the file; ``None`` for memory.

    Raises:
        OSError: As :class:`ImageFile`.
    """
    if folder is None or not prod(shape):
        return torch.empty(tuple(shape), dtype=dtype)
    file = ImageFile(folder, shape, dtype)
    # Torch takes its own maps for memory that it can share with other processes by name.
    mapped = np.memmap(file.path, np.uint8, "r+")
    file.remove()
    return torch.from_numpy(mapped).view(dtype).view(tuple(shape))


def take(images: Tensor, places: np.ndarray) -> Tensor:
    r"""Returns a copy of some images of a tensor on the CPU, of any type that NumPy has too.

    Args:
        images: Images, with shape :math:`(N, *)`.
        places: Which ones: indices, or a Boolean for each image.
    """
    # Torch before 2.10 does not index its unsigned types wider than a byte.
    return torch.from_numpy(images.numpy()[places])
