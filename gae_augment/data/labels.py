r"""Labels and class names of any dataset or array."""

__all__ = ["class_names", "label_array", "read_labels"]

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, TensorDataset

from .._utils.threads import use_threads
from .items import ItemReader, check_dataset
from .transforms import raw_view, source_datasets


def _integer(label: Any, index: int) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool | int | np.integer | np.bool_):
        return int(label)
    if isinstance(label, Tensor) and label.is_floating_point() and label.ndim == 1:
        raise ValueError(
            f"The labels of a dataset are integers, and that of item {index} is a vector of {len(label)} numbers. Pass "
            f"the dataset from before its labels were made soft or mixed."
        )
    raise ValueError(
        f"The labels of a dataset are integers, and that of item {index} is {label!r}, a {type(label).__name__}. "
        f"Number the classes from 0, for instance with a target_transform."
    )


def _listed_labels(dataset: Any) -> Sequence[Any] | None:
    r"""Returns the labels that a dataset lists beside its images, or None."""
    children = source_datasets(dataset)
    transform = getattr(dataset, "target_transform", None)
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1].tolist() if len(dataset.tensors) == 2 and dataset.tensors[1].ndim == 1 else None
    if isinstance(dataset, ConcatDataset):
        parts = [_listed_labels(child) for child in children]
        return None if any(part is None for part in parts) else [label for part in parts for label in part or ()]
    for name in ("targets", "labels"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, Tensor | np.ndarray | list | tuple) and len(listed) == len(dataset):
            labels = listed.tolist() if isinstance(listed, Tensor | np.ndarray) else list(listed)
            return labels if transform is None else [transform(label) for label in labels]
    if children:
        inner = _listed_labels(children[0])
        indices = getattr(dataset, "indices", None)
        if inner is not None and indices is not None and len(indices) == len(dataset):
            inner = [inner[int(index)] for index in indices]
        if inner is not None and len(inner) == len(dataset):
            return inner if transform is None else [transform(label) for label in inner]
    return None


@use_threads(1)
def read_labels(dataset: Any) -> np.ndarray:
    r"""Returns the labels that a dataset's items have, with shape :math:`(N,)`, as int64.

    They are taken from ``targets``, ``labels`` or the tensors, through Subset and ConcatDataset, without decoding
    images. Labels that are listed but do not agree with the items' own (three items are compared), and labels that
    are not listed at all, are read item by item.

    Raises:
        TypeError: If the dataset is not a map-style one.
        ValueError: If it is empty, an item is not a pair, or a label is not an integer.
    """
    check_dataset(dataset)
    listed = _listed_labels(dataset)
    probes = {0, len(dataset) // 2, len(dataset) - 1}
    items = ItemReader(raw_view(dataset))
    item_labels = {index: _integer(items[index][1], index) for index in sorted(probes)}
    if listed is None or any(np.ndim(listed[index]) or listed[index] != label for index, label in item_labels.items()):
        listed = [items[index][1] for index in range(len(dataset))]
    return np.array([_integer(label, index) for index, label in enumerate(listed)], dtype=np.int64)


def class_names(dataset: Any) -> dict[int, str] | None:
    r"""Returns the names of a dataset's labels, through Subset, ConcatDataset and wrappers.

    There are none where a dataset has no ``classes``, or gives its labels other numbers by a ``target_transform``.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple):
        return dict(enumerate(map(str, classes)))
    named = [class_names(child) for child in source_datasets(dataset)]
    return named[0] if named and all(names == named[0] for names in named) else None


def label_array(y: Any, images: int) -> np.ndarray:
    r"""Returns labels as an array of integers or strings with shape :math:`(N,)`.

    Raises:
        ValueError: If they are missing, not one per image, or neither integers nor strings.
    """
    if y is None:
        raise ValueError("Arrays of images are passed with their labels, and 'y' is missing: fit(X, y).")
    # NumPy would turn the integers into strings.
    if isinstance(y, list | tuple) and len({isinstance(label, str) for label in y}) == 2:
        raise ValueError("Labels are all integers or all strings, and 'y' holds both. Make them of one type.")
    labels = np.asarray(y.tolist() if isinstance(y, Tensor) else y)
    if labels.ndim != 1 or len(labels) != images:
        raise ValueError(
            f"'y' holds one label per image, with shape ({images},), and it has shape {labels.shape}."
            f"{' One-hot labels become such by y.argmax(1).' if labels.ndim == 2 else ''}"
        )
    if labels.dtype.kind == "f" and ((labels == labels.round()) & (abs(labels) < 2**53)).all():
        return labels.astype(np.int64)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        return labels.astype(str)
    if labels.dtype.kind == "O" and all(isinstance(label, Integral) for label in labels):
        return labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise ValueError(
            f"Labels are integers or strings, and 'y' is of {labels.dtype}, beginning with {labels[:3].tolist()}. "
            f"Number the classes, for instance with sklearn.preprocessing.LabelEncoder."
        )
    return labels.astype(np.int64) if labels.dtype.kind in "bu" else labels
