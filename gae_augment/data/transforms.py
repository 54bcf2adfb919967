r"""Copies datasets without their image transforms, and lists the image transforms of a dataset."""

__all__ = ["raw_view", "source_datasets", "transforms_of"]

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import ConcatDataset, Dataset
from torchvision.datasets.vision import StandardTransform

JointTransform = Callable[[Any, Any], tuple[Any, Any]]
"""A function that transforms an image and its label together."""


def _unchanged(image: Any) -> Any:
    return image


def _both_unchanged(image: Any, label: Any) -> tuple[Any, Any]:
    return image, label


def source_datasets(dataset: Any) -> list[Any]:
    r"""Lists the datasets directly inside a dataset: one in a Subset or wrapper, several in a ConcatDataset, else none.

    A wrapper is an object whose attribute ``dataset`` is a dataset.
    """
    if isinstance(dataset, ConcatDataset):
        return list(dataset.datasets)
    inner = getattr(dataset, "dataset", None)
    return [inner] if isinstance(inner, Dataset) else []


def raw_view(dataset: Any) -> Any:
    r"""Returns a shallow copy of a dataset. The items of the copy contain the images before any transform.

    In the copy, the attributes ``transform`` and ``transforms`` leave images unchanged. The same holds for datasets
    inside a Subset, a ConcatDataset, or a wrapper whose attribute ``dataset`` is a dataset. Any other processing in a
    dataset's code remains. A dataset without transforms and without inner datasets is returned itself, not copied.
    """
    children = source_datasets(dataset)
    names = [name for name in ("transform", "transforms") if getattr(dataset, name, None) is not None]
    if not children and not names:
        return dataset
    view = copy.copy(dataset)
    for name in names:
        joint = name == "transforms" and not isinstance(dataset.transforms, StandardTransform)
        if name == "transforms" and not joint:
            setattr(view, name, StandardTransform(None, dataset.transforms.target_transform))
        else:
            setattr(view, name, _both_unchanged if joint else _unchanged)
    if isinstance(dataset, ConcatDataset):
        view.datasets = [raw_view(child) for child in children]
    elif children:
        view.dataset = raw_view(children[0])
    return view


def transforms_of(dataset: Any) -> list[JointTransform]:
    r"""Returns the image transforms of a dataset, in the order in which the dataset applies them.

    Each transform takes an image and its label, and returns both. Transforms of the label alone are omitted.

    Raises:
        ValueError: If the datasets in a ConcatDataset have different transforms.
    """
    chains = [transforms_of(child) for child in source_datasets(dataset)]
    for chain in chains[1:]:
        # Most transforms do not define equality, but equal ones have the same representation.
        if chain != chains[0] and repr(chain) != repr(chains[0]):
            raise ValueError(
                "The joined datasets have different transforms, so that the one for synthetic images is ambiguous. "
                "Pass 'transform', one for all images."
            )
    outer: list[JointTransform] = []
    transform, transforms = getattr(dataset, "transform", None), getattr(dataset, "transforms", None)
    if isinstance(transforms, StandardTransform):
        transform, transforms = transform or transforms.transform, None
    if transform is not None:
        outer = [_ImageOnly(transform)]
    elif transforms is not None:
        outer = [transforms]
    return (chains[0] if chains else []) + outer


@dataclass(frozen=True)
class _ImageOnly:
    r"""A function of an image and its label that transforms the image and leaves the label unchanged."""

    transform: Callable[[Any], Any]

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        return self.transform(image), label
