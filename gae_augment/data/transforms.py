r"""A dataset's raw twin, and the transforms that its raw items go through."""

__all__ = ["raw_view", "source_datasets", "transforms_of"]

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import ConcatDataset, Dataset
from torchvision.datasets.vision import StandardTransform

Joint = Callable[[Any, Any], tuple[Any, Any]]


def _unchanged(image: Any) -> Any:
    return image


def _both_unchanged(image: Any, label: Any) -> tuple[Any, Any]:
    return image, label


def source_datasets(dataset: Any) -> list[Any]:
    r"""Returns the datasets that a dataset takes its items from: one for a Subset or a wrapper, more when joined."""
    if isinstance(dataset, ConcatDataset):
        return list(dataset.datasets)
    inner = getattr(dataset, "dataset", None)
    return [inner] if isinstance(inner, Dataset) else []


def raw_view(dataset: Any) -> Any:
    r"""Returns a dataset's twin whose items are raw: the same items, before any transform of the image.

    The twin is a shallow copy, so the user's dataset is not touched. Transforms are switched off along Subset,
    ConcatDataset and any wrapper that keeps its dataset in ``dataset``; what a dataset does to its images elsewhere
    than in ``transform`` and ``transforms`` cannot be seen, and stays.
    """
    children = source_datasets(dataset)
    switched = [name for name in ("transform", "transforms") if getattr(dataset, name, None) is not None]
    if not children and not switched:
        return dataset
    twin = copy.copy(dataset)
    for name in switched:
        joint = name == "transforms" and not isinstance(dataset.transforms, StandardTransform)
        if name == "transforms" and not joint:
            setattr(twin, name, StandardTransform(None, dataset.transforms.target_transform))
        else:
            setattr(twin, name, _both_unchanged if joint else _unchanged)
    if isinstance(dataset, ConcatDataset):
        twin.datasets = [raw_view(child) for child in children]
    elif children:
        twin.dataset = raw_view(children[0])
    return twin


def transforms_of(dataset: Any) -> list[Joint]:
    r"""Returns the transforms that a dataset puts its raw items through, in their order.

    Raises:
        ValueError: If datasets that are joined into one have different transforms.
    """
    chains = [transforms_of(child) for child in source_datasets(dataset)]
    for chain in chains[1:]:
        # Two transforms of one kind are rarely equal, but they are written alike.
        if chain != chains[0] and repr(chain) != repr(chains[0]):
            raise ValueError(
                "The joined datasets have different transforms, so that it is open which one a synthetic image "
                "gets. Pass 'transform', which then holds for all images."
            )
    own: list[Joint] = []
    transform, transforms = getattr(dataset, "transform", None), getattr(dataset, "transforms", None)
    if isinstance(transforms, StandardTransform):
        transform, transforms = transform or transforms.transform, None
    if transform is not None:
        own = [_ImageOnly(transform)]
    elif transforms is not None:
        own = [transforms]
    return (chains[0] if chains else []) + own


@dataclass(frozen=True)
class _ImageOnly:
    r"""A transform of the image, as a transform of image and label."""

    transform: Callable[[Any], Any]

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        return self.transform(image), label
