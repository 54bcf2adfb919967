r"""Reading and writing of safetensors files, which contain tensors and a JSON header."""

__all__ = [
    "FORMAT_VERSION",
    "MALFORMED",
    "atomic_write",
    "check_file_place",
    "file_lock",
    "read_file",
    "write_file",
]

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "gae-augment"
FORMAT_VERSION = 4
"""The version of the file format.

Version 2 added a checksum. Version 3 replaced each ``"auto"`` of a fitted model by a value. Version 4 replaced
``anchored`` by ``synthesis`` and ``step``, and added codes of training images and motions.
"""

_UMASK_LOCK = Lock()

MALFORMED = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError)
"""Exceptions that reading a malformed file can raise."""

REMEDY = "A file needs an existing, writable folder with enough free space"


def check_file_place(path: Path) -> None:
    r"""Raises a FileExistsError if a path exists but is not a regular file."""
    if path.exists() and not path.is_file():
        raise FileExistsError(
            errno.EEXIST, "This is not a regular file and is not overwritten; choose another path", str(path)
        )


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    r"""Context manager: waits until no other process locks a path, then locks the path.

    The lock file is the path with ``.lock`` appended.
    """
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


def _umask() -> int:
    r"""Returns the umask of this process, which is the permissions that new files lack."""
    with _UMASK_LOCK:
        mask = os.umask(0)
        os.umask(mask)
    return mask


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    r"""Context manager: yields the path of a temporary file, which replaces the file at ``path`` at the end.

    Readers never see a half-written file. An error leaves the file at ``path`` unchanged.

    Raises:
        OSError: If ``path`` exists but is not a regular file, or the file cannot be written.
    """
    check_file_place(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # Temporary files are private to their owner; saved ones get the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    r"""Writes a header and tensors to a file.

    Readers never see a half-written file.

    Args:
        path: The path of the file.
        header: A mapping to values that JSON supports, NumPy numbers or torch devices.
        tensors: The tensors by name.

    Raises:
        OSError: If ``path`` exists but is not a regular file, or the file cannot be written.
        TypeError: If ``header`` has a value of another type.
    """
    path = Path(path)
    check_file_place(path)
    text, separate = json.dumps(header, default=_plain), _separate(tensors)
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "header": text,
        "checksum": _checksum(text, separate),
    }
    try:
        with atomic_write(path) as temporary:
            save_file(separate, temporary, metadata)
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}. {REMEDY}. Writing failed for", str(path)) from error
    except SafetensorError as error:
        # Safetensors has no special exception for a full disk.
        raise OSError(f"{str(path)!r} could not be written: {error}. {REMEDY}.") from error


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Returns contiguous tensors that share no memory, as safetensors requires."""
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and tensor.nbytes == storage.nbytes() and storage.data_ptr() not in storages
        separate[name] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
        storages.add(storage.data_ptr())
    return separate


def _plain(value: Any) -> Any:
    r"""Converts a NumPy number or a torch device for JSON. Raises a TypeError for other values."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.device):
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, but the header of a file can hold plain values only.")


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    r"""Returns the SHA-256 checksum of a header and tensors."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _ForeignFileError(ValueError):
    r"""Raised for a file of another program or of a later format version."""


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Returns the header and the tensors of a file that :func:`write_file` wrote.

    Reading executes no code from the file. The caller must validate the content.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, in another format, or in a later version of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} to load. 'save' writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            version = _version(path, metadata)
            header = json.loads(metadata["header"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
        if not isinstance(header, dict):
            raise TypeError("its header is not a mapping")
        if version > 1 and _checksum(metadata["header"], tensors) != metadata["checksum"]:
            raise ValueError("its checksum does not match its content")
        return header, tensors
    except _ForeignFileError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{str(path)!r} is truncated, damaged, or not a file of gae-augment: {error}. Save it again."
        ) from error


def _version(path: Path, metadata: Mapping[str, str]) -> int:
    r"""Returns the format version of a file. Raises a ValueError for another program's file or a later version."""
    if metadata.get("format") != FORMAT:
        raise _ForeignFileError(
            f"{str(path)!r} is a safetensors file, but not one of gae-augment. Load a file of GAEAugmenter.save."
        )
    version = int(metadata["version"])
    if version > FORMAT_VERSION:
        raise _ForeignFileError(
            f"{str(path)!r} has version {version} of the file format, but this gae-augment reads up to version "
            f"{FORMAT_VERSION}. Update it: pip install --upgrade gae-augment."
        )
    return version
