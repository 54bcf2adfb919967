r"""Stores fitted models in a folder, for later fits with the same data and settings."""

__all__ = ["ClassFit", "FitCache", "default_cache_dir", "plan_fits"]

import hashlib
import inspect
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._utils.files import FORMAT_VERSION, MALFORMED, file_lock, read_file, write_file
from .._utils.parallel import Failure
from .._utils.seeding import RandomState, derive_seed, resolve_random_state
from .._utils.version import __version__
from ..data import Label, ValueScale
from ..models import GenerativeModel, ModelDefinition
from .fitted import FittedModel
from .plan import Plan, make_plan

LEFTOVER_AGE = 600
"""A temporary file older than this age, in seconds, counts as a leftover of a killed process."""


@dataclass(frozen=True, eq=False)
class ClassFit:
    r"""All inputs of the fit of one class.

    Attributes:
        images: The images of the class, with shape :math:`(N, *)`.
        plan: The settings of the fit.
        definition: The model's objective, latent density and type of encoder.
        values: The conversion from image values to network inputs, and back.
        seed: The seed of all random numbers of the fit.
    """

    images: Tensor
    plan: Plan
    definition: ModelDefinition
    values: ValueScale
    seed: int

    @cached_property
    def digest(self) -> str:
        r"""A hexadecimal hash of all inputs and of the versions of this package and torch."""
        scale = [
            None if tensor is None else tensor.tolist()
            for tensor in (self.values.mean, self.values.deviation, self.values.bounds)
        ]
        plain = {
            **asdict(self.plan),
            "device": torch.device(self.plan.device).type,
            "definition": _describe(self.definition),
            "values": [self.values.kind, str(self.values.dtype), *scale],
            "seed": self.seed,
            "dtype": str(self.images.dtype),
            "versions": [__version__, FORMAT_VERSION, torch.__version__],
        }
        digest = hashlib.sha256(repr(sorted(plain.items())).encode())
        for batch in self.images.split(1000):
            digest.update(batch.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]


def plan_fits(
    images: Mapping[Label, Tensor],
    models: Mapping[Any, GenerativeModel],
    values: ValueScale,
    seed: int,
    device: torch.device | str,
    *,
    resized: bool = False,
) -> dict[Label, ClassFit]:
    r"""Returns the inputs of the fit of each class, by label.

    Args:
        images: The images of each class, with shape :math:`(N, *)`, by label.
        models: The models by label. The key ``None`` holds the model of all other labels.
        values: The conversion from image values to network inputs, and back.
        seed: The base seed. The seed of a fit depends on the base seed and the label.
        device: The device of training and sampling. ``"auto"`` is a CUDA GPU if one is available, else the CPU.
        resized: Whether the user's images are larger than these, or differ in size.

    Raises:
        ValueError: If a class has fewer than 2 images, or a hyper-parameter is invalid for the images.
        RuntimeError: If ``device`` is not the name of a torch device.
    """
    fits = {}
    for label, class_images in images.items():
        model = models.get(label, models[None])
        plan = make_plan(model, tuple(class_images.shape[1:]), len(class_images), device, resized=resized)
        # The seed depends on the label alone, so that a class's model does not depend on the other classes.
        class_seed = derive_seed(seed, "fit", label)
        fits[label] = ClassFit(class_images, plan, model.resolved_definition, values, class_seed)
    return fits


def _describe(definition: ModelDefinition) -> Any:
    r"""Returns the fields of a model definition. The objective's name and source code replace the objective."""
    return {**vars(definition), "objective": _source(definition.objective)}


def _source(function: Any) -> Any:
    r"""Returns the name of a function or class, and its source code if Python can read it."""
    if isinstance(function, partial):
        return _source(function.func), function.args, function.keywords
    # A callable object has no name.
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    try:
        return name, inspect.getsource(function)
    except (OSError, TypeError):
        return name


def default_cache_dir() -> Path:
    r"""Returns the path ``$XDG_CACHE_HOME/gae-augment``, or ``~/.cache/gae-augment`` without this variable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gae-augment"


class FitCache:
    r"""A folder of fitted models, with one file per class.

    A fit with the same data, settings and seed loads these models instead of training them. After an interruption, this
    fit trains the missing models. The files hold no training images. You may empty the folder while no fit runs.

    Args:
        folder: The path of the folder, created if it does not exist.
        keep_failures: Whether to store the reasons of failed fits. Later fits then do not try them again.
        on_miss: A function ``on_miss(labels)``, called before training with the labels of the classes without a file.
        name: The name of the parameter ``folder`` in error messages.

    Raises:
        TypeError: If ``folder`` is not a path.
        OSError: If the folder cannot be created or written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep_failures: bool = False,
        on_miss: Callable[[list[Label]], None] | None = None,
        name: str = "checkpoint_dir",
    ) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"{name!r} is {folder!r}, but must be the path of a folder.")
        self.folder = Path(folder)
        self.keep_failures = keep_failures
        self.on_miss = on_miss
        self._name = name
        self._create()

    def _create(self) -> None:
        # A folder without write access fails now, and not after a long fit.
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror}. Fitted classes cannot be written here; pass another {self._name!r}",
                str(self.folder),
            ) from error

    @contextmanager
    def open(self, fits: Iterable[ClassFit]) -> Iterator[str]:
        r"""Context manager: locks a set of fits against other processes, and yields a hash of the set.

        Another process that opens the same set waits until the context ends.
        """
        paths = sorted(map(self.path, fits))
        key = hashlib.sha256("".join(path.stem for path in paths).encode()).hexdigest()[:32]
        with file_lock(self.folder / f"fit-{key}"):
            for path in paths:
                for leftover in self.folder.glob(f".{path.name}.*"):
                    # A younger file may be in use by a fit that shares some of the classes.
                    with suppress(FileNotFoundError):
                        if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE:
                            leftover.unlink()
            yield key

    def seed(self, random_state: RandomState) -> int:
        r"""Returns an integer seed for a ``random_state``.

        Args:
            random_state: An integer is the seed. A NumPy generator draws the seed. With ``None``, the first call stores
                a new seed in the folder, and later calls return this seed.

        Raises:
            ValueError: If ``random_state`` has another type.
            OSError: If the seed cannot be written to the folder.
        """
        if random_state is not None:
            return resolve_random_state(random_state)
        path = self.folder / "seed.safetensors"
        with file_lock(path):
            try:
                return int(read_file(path)[0]["seed"])
            except (FileNotFoundError, KeyError, TypeError, ValueError):
                seed = resolve_random_state(None)
                write_file(path, {"seed": seed}, {})
                return seed

    def path(self, fit: ClassFit) -> Path:
        r"""Returns the path of the file of a fit, which need not exist."""
        return self.folder / f"{fit.digest}.safetensors"

    def load(self, fit: ClassFit) -> FittedModel | Failure | None:
        r"""Returns the stored result of a fit.

        Returns:
            The fitted model without training images, a stored failure, or ``None`` if the class must be fitted.

        Warns:
            UserWarning: If the file of the fit is damaged.
        """
        path = self.path(fit)
        try:
            header, tensors = read_file(path)
            if "failure" in header:
                return Failure(str(header["failure"])) if self.keep_failures else None
            definitions = {fit.definition.name: fit.definition}
            return FittedModel.from_state_dict(header, tensors, definitions, fit.plan.device)
        except FileNotFoundError:
            return None
        except MALFORMED as error:
            warnings.warn(f"A cached class is damaged and will be fitted again. {error}", stacklevel=3)
            return None

    def save(self, fit: ClassFit, fitted: FittedModel) -> None:
        r"""Writes a fitted model to the folder, without training images.

        Warns:
            RuntimeWarning: If the file cannot be written.
        """
        header, tensors = fitted.state_dict()
        tensors.pop("anchors.images", None)
        self._write(self.path(fit), header, tensors)

    def save_failures(self, failures: Mapping[ClassFit, str]) -> None:
        r"""Writes the reasons of failed fits to the folder if ``keep_failures`` is true.

        Warns:
            RuntimeWarning: If a file cannot be written.
        """
        for fit, reason in failures.items() if self.keep_failures else ():
            self._write(self.path(fit), {"failure": reason}, {})

    def remedy(self, failed: Iterable[ClassFit]) -> str:
        r"""Returns the last sentence of a warning, which tells the user how to try failed fits again.

        A space precedes the sentence. The result is empty if the cache stores no failures or ``failed`` is empty.
        """
        files = [str(self.path(fit)) for fit in failed]
        return f" To try again, remove {', '.join(map(repr, files))}." if files and self.keep_failures else ""

    def _write(self, path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        try:
            write_file(path, header, tensors)
        except OSError as error:
            warnings.warn(
                f"The fit of a class could not be cached: {error}. This fit continues, but the next one will fit that "
                f"class again.",
                RuntimeWarning,
                stacklevel=5,
            )
