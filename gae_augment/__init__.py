r"""Synthetic training images for the scarce classes of a PyTorch classifier, from generative autoencoders."""

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
"""The submodule of each public name, imported when the name is first used.

Processes that only unpickle a training set, such as DataLoader workers, therefore do not import scikit-learn. That
import takes two thirds as long as the import of torch.
"""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
