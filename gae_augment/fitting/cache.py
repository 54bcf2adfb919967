r"""Generators of single classes, kept in a folder while a fit goes on, so that one that is broken off goes on there."""

__all__ = ["Checkpoints", "checked_folder", "described", "taking_turns"]

import hashlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock
from torch import Tensor

from .._utils.devices import resolve_device
from .generator import Generator
from ..models.objectives import Model, own_model
from .._utils.files import FORMAT_VERSION, MALFORMED, read_file, write_file
from .._utils.seeding import RandomState, resolve_random_state
from ..models.generative_model import GeneratorSettings
from ..data.values import ValueScale
from .._utils.version import __version__


def checked_folder(folder: str | os.PathLike[str], name: str) -> Path:
    r"""Makes a folder of fitted generators, and returns it.

    Args:
        folder: The folder.
        name: The parameter that it was passed as.

    Raises:
        OSError: If it cannot be made or written to. That shows now, and not after a long fit.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{name!r} is the path of a folder, and it is {folder!r}.")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{error.strerror}. Fitted generators are kept in a folder that can be written to, and this one cannot; "
            f"pass another {name!r}",
            str(folder),
        ) from error
    return folder


@contextmanager
def taking_turns(path: Path) -> Iterator[None]:
    r"""Waits until no other process has a path, and has it meanwhile; what a process that is killed had is free."""
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


def described(model: str | Model) -> Any:
    r"""Returns what a model is, in plain values; of one of the user's own, its parts and the source of its objective.

    What the objective calls elsewhere does not count.
    """
    return {**asdict(model), "objective": _written(model.objective)} if isinstance(model, Model) else model


def _written(function: Any) -> Any:
    r"""Returns what a function or a class is, in place of where it lies: its source, if it has one."""
    if isinstance(function, partial):
        return _written(function.func), function.args, function.keywords
    # An object that can be called has no name of its own.
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    try:
        return name, inspect.getsource(function)
    except (OSError, TypeError):
        return name


class Checkpoints:
    r"""The generators of a fit, class by class, in a folder, which may be emptied when no fit is on.

    A file is named after all that its generator depends on: images, settings, seed and versions. Whatever fit asks for
    the same one finds it. Fits with one folder take turns: the second finds what the first has done.

    Args:
        folder: The folder, which is made if it is not there.

    Raises:
        OSError: If the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = checked_folder(folder, "checkpoint_dir")

    @contextmanager
    def opened(self) -> Iterator[Self]:
        r"""Waits for other fits with the folder, and keeps them waiting."""
        with taking_turns(self.folder / "fit"):
            # Of a process that was killed while it wrote.
            for rest in self.folder.glob(".*.safetensors.*"):
                rest.unlink(missing_ok=True)
            yield self

    def seed(self, random_state: RandomState) -> int:
        r"""Returns the seed of a fit; without a ``random_state`` one that is drawn once for the folder.

        Raises:
            ValueError: If ``random_state`` is none.
            OSError: If the seed cannot be written.
        """
        if random_state is not None:
            return resolve_random_state(random_state)
        path = self.folder / "seed.safetensors"
        try:
            return int(read_file(path)[0]["seed"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            seed = resolve_random_state(None)
            write_file(path, {"seed": seed}, {})
            return seed

    def path(self, images: Tensor, settings: GeneratorSettings, values: ValueScale, seed: int) -> Path:
        r"""Returns the file of the generator that is learned from images, whether it is there or not."""
        scale = [None if own is None else own.tolist() for own in (values.mean, values.deviation, values.bounds)]
        plain = {
            **vars(settings),
            "model": described(settings.model),
            "device": resolve_device(settings.device).type,
            "values": [values.kind, str(values.dtype), *scale],
            "seed": seed,
            "images": [tuple(images.shape), str(images.dtype)],
            "versions": [__version__, FORMAT_VERSION, torch.__version__],
        }
        digest = hashlib.sha256(repr(sorted(plain.items())).encode())
        for part in images.split(1000):
            digest.update(part.contiguous().flatten().view(torch.uint8).numpy().data)
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def load(self, path: Path, settings: GeneratorSettings) -> Generator | None:
        r"""Returns the generator in a file, without the training images that it may be anchored in, or ``None``.

        Warns:
            UserWarning: If the file is damaged.
        """
        try:
            header, tensors = read_file(path)
            return Generator.from_state_dict(header, tensors, own_model(settings.model))
        except FileNotFoundError:
            return None
        except MALFORMED as error:
            warnings.warn(f"A checkpoint is damaged, and its class is fitted again. {error}", stacklevel=3)
            return None

    def save(self, path: Path, generator: Generator) -> None:
        r"""Writes a generator, without training images.

        Warns:
            RuntimeWarning: If it cannot be written. The fit can go on without.
        """
        header, tensors = generator.state_dict()
        try:
            write_file(path, header, tensors)
        except OSError as error:
            warnings.warn(
                f"A class that is fitted could not be kept: {error}. The fit goes on; broken off, it would have to fit "
                f"that class again.",
                RuntimeWarning,
                stacklevel=3,
            )
