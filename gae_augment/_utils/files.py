r"""Files of plain values and tensors: a JSON header inside a safetensors file, and no pickle."""

__all__ = ["FORMAT_VERSION", "MALFORMED", "check_place", "read_file", "write_file", "written_whole"]

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "gae-augment"
FORMAT_VERSION = 2
"""Version 1 had no checksum."""

MALFORMED = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError)
"""What comes of using a header and tensors that are not what they are taken for."""

SAVED_IN = "The file is saved in a folder that exists, can be written to and has room"


def check_place(path: Path) -> None:
    r"""Raises a FileExistsError if there is something else than a file at a path.

    To put a file in place of a device, such as ``/dev/null``, is possible for an administrator, and breaks the system.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(
            errno.EEXIST, "A file takes the place of another file, or of nothing, and here is something else", str(path)
        )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    r"""Lends the name of a file to write to, which then takes a path in one step: never is there a part of it.

    Raises:
        OSError: If there is something else than a file, or the folder does not exist, cannot be written to, or has no
            room.
    """
    check_place(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # A temporary file is for its owner alone; a saved one is as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    r"""Writes a file in one step: under its name there is the old file or the whole new one, never a part.

    Raises:
        OSError: If there is something else than a file, or the folder does not exist, cannot be written to, or has no
            room.
    """
    path = Path(path)
    check_place(path)
    text, own = json.dumps(header, default=_plain), _apart(tensors)
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "header": text,
        "checksum": _checksum(text, own),
    }
    try:
        with written_whole(path) as temporary:
            save_file(own, temporary, metadata)
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}. {SAVED_IN}, and this failed for", str(path)) from error
    except SafetensorError as error:
        # It has no type of its own for a full disk.
        raise OSError(f"{SAVED_IN}, and {str(path)!r} could not be written: {error}.") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Returns tensors that are contiguous and share no memory, which safetensors asks for: copies where they do."""
    own: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and tensor.nbytes == storage.nbytes() and storage.data_ptr() not in storages
        own[name] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
        storages.add(storage.data_ptr())
    return own


def _plain(value: Any) -> Any:
    r"""Returns a NumPy number or a device, which JSON does not know, as a plain value."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.device):
        return str(value)
    raise TypeError(f"The header of a file holds plain values, and {value!r} is a {type(value).__name__}.")


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    r"""Returns the SHA-256 of a header and of all tensors, with their names, types and shapes."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _AnotherFileError(ValueError):
    r"""A file that may be whole, and is none of ours, or of a version to come."""


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Returns the header and the tensors of a file that :func:`write_file` wrote.

    Nothing in it is executed, and no more memory is taken than the file has bytes. The checksum tells a file that was
    damaged, not one that was made to deceive: who uses what is in a file checks it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, damaged, is of another kind, or is of a newer version of the format.
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
            raise TypeError("its header is no mapping")
        if version > 1 and _checksum(metadata["header"], tensors) != metadata["checksum"]:
            raise ValueError("its checksum is that of another content")
        return header, tensors
    except _AnotherFileError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{str(path)!r} is truncated, damaged, or not a file of gae-augment: {error}. Save it again."
        ) from error


def _version(path: Path, metadata: Mapping[str, str]) -> int:
    r"""Returns the version of the format that the metadata of a file name.

    Raises:
        ValueError: If it is none of ours, or a newer one.
    """
    if metadata.get("format") != FORMAT:
        raise _AnotherFileError(
            f"{str(path)!r} is a safetensors file, but not one of gae-augment. Load files that GAEAugmenter.save wrote."
        )
    version = int(metadata["version"])
    if version > FORMAT_VERSION:
        raise _AnotherFileError(
            f"{str(path)!r} has version {version} of the file format, and this gae-augment reads up to "
            f"version {FORMAT_VERSION}. Update it: pip install --upgrade gae-augment."
        )
    return version
