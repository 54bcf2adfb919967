r"""Files of plain values and tensors: a JSON header inside a safetensors file, and no pickle."""

__all__ = ["FORMAT_VERSION", "read_file", "write_file"]

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT = "gae-augment"
FORMAT_VERSION = 1


def write_file(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    r"""Writes a file in one step: under its name there is the old file or the whole new one, never a part.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "header": json.dumps(header, default=_plain)}
    # Copies, for safetensors refuses tensors that share their memory.
    own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    content = save(own, metadata)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # A temporary file is for its owner alone; a saved one is as readable as any other.
                mask = os.umask(0)
                os.umask(mask)
                temporary.chmod(0o666 & ~mask)
                file.close()
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{error.strerror}. The file is saved in a folder that exists and can be written to, and this failed for",
            str(path),
        ) from error


def _plain(value: Any) -> Any:
    r"""Returns a NumPy number or a device, which JSON does not know, as a plain value."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.device):
        return str(value)
    raise TypeError(f"The header of a file holds plain values, and {value!r} is a {type(value).__name__}.")


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Returns the header and the tensors of a file that :func:`write_file` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, is of another kind, or is of a newer version of the format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} to load. 'save' writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(
                    f"{str(path)!r} is a safetensors file, but not one of gae-augment. "
                    f"Load files that GAEAugmenter.save wrote."
                )
            version = json.loads(metadata["version"])
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"{str(path)!r} has version {version} of the file format, and this gae-augment reads up to "
                    f"version {FORMAT_VERSION}. Update it: pip install --upgrade gae-augment."
                )
            header = json.loads(metadata["header"])
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is truncated, damaged, or not a file of gae-augment: {error}. Save it again."
        ) from error
