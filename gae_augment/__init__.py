r"""Generates training images for the scarce classes of a PyTorch classifier, with generative autoencoders."""

from typing import TYPE_CHECKING

from ._utils.lazy import lazy_names
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
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
