r"""Generates training images for the scarce classes of a PyTorch classifier, with generative autoencoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._utils.version import __version__ as __version__

if TYPE_CHECKING:
    from .augmenter import GAEAugmenter
    from .mixing import AugmentedDataset, MixedSampler
    from .models import MODELS, GenerativeModel

__all__ = ["MODELS", "AugmentedDataset", "GAEAugmenter", "GenerativeModel", "MixedSampler"]

_HOMES = {
    "MODELS": "models",
    "AugmentedDataset": "mixing",
    "GAEAugmenter": "augmenter",
    "GenerativeModel": "models",
    "MixedSampler": "mixing",
}
"""The submodule of each public name. The first use of a name imports its submodule."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
