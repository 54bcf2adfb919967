r"""Tensors for images, in memory or in memory-mapped files."""

__all__ = ["ImageFile", "index_images", "new_images"]

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
    r"""Images in a memory-mapped file, which can be larger than memory.

    An unpickled object maps the same file. A deep copy has its own file. The file is deleted together with the object
    that created it.

    Args:
        folder: The folder of the file, created if it does not exist.
        shape: The shape of all images together, :math:`(N, *)`, with :math:`N \geq 1`.
        dtype: The data type of the images.

    Attributes:
        tensor: All images. The caller must fill this tensor.

    Raises:
        OSError: If the folder is not writable, or has no space for all images.
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
                # Reserve the space now: writing a page to a full disk would kill the process.
                os.posix_fallocate(handle, 0, size) if hasattr(os, "posix_fallocate") else os.truncate(handle, size)
            except BaseException:
                self.path.unlink()
                raise
            finally:
                os.close(handle)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror}. Images need a writable folder with {size} bytes of free space. Free some space in "
                f"this one or choose another",
                os.fspath(folder),
            ) from error
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())
        self._map()

    def _map(self) -> None:
        # Not torch.from_file: torch pickles such memory by a temporary name, which does not outlive the process.
        images = np.memmap(self.path, np.uint8, "r+")
        self.tensor = torch.from_numpy(images).view(self._dtype).view(self._shape)

    def remove(self) -> None:
        r"""Deletes the file. Its disk space is free once no process maps the file."""
        self._remove()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_shape": self._shape, "_dtype": self._dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"The image file {str(self.path)!r} no longer exists: it is deleted with the dataset that created it. "
                f"Create the dataset again from the augmenter, which can be saved."
            )
        self._map()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self)(self.path.parent, self._shape, self._dtype)
        copy.tensor.copy_(self.tensor)
        return copy


def _remove(path: Path, process: int) -> None:
    # A forked worker holds a copy of the object, but the file belongs to the process that created it.
    if os.getpid() == process:
        path.unlink(missing_ok=True)


def new_images(shape: Sequence[int], dtype: torch.dtype, folder: str | os.PathLike[str] | None) -> Tensor:
    r"""Returns an uninitialised tensor for images, in memory or in a memory-mapped file.

    The file has no name in the folder. It takes disk space until the tensor is garbage-collected.

    Args:
        shape: The shape of all images together, :math:`(N, *)`.
        dtype: The data type of the images.
        folder: The folder of the file, created if it does not exist; ``None`` keeps the images in memory.

    Raises:
        OSError: If the folder is not writable, or has no space for all images.
    """
    if folder is None or not prod(shape):
        return torch.empty(tuple(shape), dtype=dtype)
    file = ImageFile(folder, shape, dtype)
    file.remove()
    return file.tensor


def index_images(images: Tensor, indices: np.ndarray) -> Tensor:
    r"""Returns a copy of the images with the given indices.

    Args:
        images: The images on the CPU, with shape :math:`(N, *)`.
        indices: The indices of the images, or a Boolean mask with shape :math:`(N,)`.
    """
    # Torch before 2.10 cannot index unsigned types wider than a byte.
    return torch.from_numpy(images.numpy()[indices])
