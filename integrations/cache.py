r"""Fitted augmenters kept in files that are named after what they were fitted to."""

__all__ = ["AugmenterCache", "cache_key"]

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from sklearn.base import clone

from gae_augment import GAEAugmenter, __version__
from gae_augment.fitting.cache import checked_folder, described, taking_turns
from gae_augment.models.objectives import own_model
from gae_augment._utils.files import FORMAT_VERSION
from gae_augment.data.reading import open_source, read_in_parts
from gae_augment.data.strategy import resolve_strategy

# What changes no image; the strategy counts as the numbers that it comes to.
WITHOUT_EFFECT = ("n_jobs", "progress", "cache_dir", "sampling_strategy")


def cache_key(augmenter: GAEAugmenter, training_set: Any) -> str:
    r"""Returns a name for what an augmenter learns from a training set: the same name for the same fit only.

    It depends on all labels, on all raw images, on the augmenter's parameters but
    those that change no image, and on the versions of the package and of the file format.

    Raises:
        TypeError, ValueError: If the data cannot be read, or the sampling strategy does not suit them.
    """
    labels, read = open_source(training_set)
    strategy = resolve_strategy(augmenter.sampling_strategy, labels)
    parameters = {name: value for name, value in augmenter.get_params().items() if name not in WITHOUT_EFFECT}
    parameters["model"] = described(augmenter.model)
    kind = f"{type(augmenter).__module__}.{type(augmenter).__qualname__}"
    digest = hashlib.sha256(repr((__version__, FORMAT_VERSION, kind, sorted(parameters.items()), strategy)).encode())
    digest.update(labels.tobytes())
    for part, images in read_in_parts(read, len(labels)):
        if not part.start:
            digest.update(f"{images.dtype} {(len(labels), *images.shape[1:])}".encode())
        digest.update(images.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


class AugmenterCache:
    r"""Keeps fitted augmenters in a folder, which may be emptied at any time.

    Args:
        folder: The folder, made when it is needed. By default ``gae-augment`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        if folder is None:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gae-augment"
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        r"""Returns the file of a key, whether it is there or not."""
        return self.folder / f"{key}.safetensors"

    def load(self, augmenter: GAEAugmenter, key: str) -> GAEAugmenter | None:
        r"""Returns the fitted augmenter of a key, or None if there is no usable file.

        Warns:
            UserWarning: If there is a file, but a damaged one.
        """
        try:
            # Files hold no code.
            loaded = type(augmenter).load(self.path(key), model=own_model(augmenter.model))
        except FileNotFoundError:
            return None
        except ValueError as error:
            warnings.warn(f"The fitted generators are damaged, and are fitted again. {error}", stacklevel=3)
            return None
        loaded.cache_dir = augmenter.cache_dir
        return loaded

    def fit(self, augmenter: GAEAugmenter, training_set: Any, key: str) -> GAEAugmenter:
        r"""Returns a fitted copy of an augmenter, and keeps it under a key.

        Of several processes that ask for a key at the same time one fits, and the others wait for it. A fit that is
        broken off goes on with the classes that are left.

        Raises:
            TypeError, ValueError, RuntimeError: As :meth:`gae_augment.GAEAugmenter.fit`.
            OSError: If the folder cannot be written to.
        """
        checked_folder(self.folder, "cache_dir")
        path = self.path(key)
        with taking_turns(path):
            # A damaged file has been warned of when the generators were first asked for.
            with warnings.catch_warnings(action="ignore"):
                found = self.load(augmenter, key)
            if found is not None:
                return found
            classes = self.folder / f"{key}-classes"
            fitted: GAEAugmenter = clone(augmenter).fit(training_set, checkpoint_dir=classes)
            fitted.save(path)
            shutil.rmtree(classes, ignore_errors=True)
        return fitted
