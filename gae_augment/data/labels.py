r"""Labels of a dataset or array, and class names of a dataset."""

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


def _integer_label(label: Any, index: int) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool | int | np.integer | np.bool_):
        return int(label)
    if isinstance(label, Tensor) and label.is_floating_point() and label.ndim == 1:
        raise ValueError(
            f"The label of item {index} is a vector of {len(label)} numbers, but must be an integer. Pass the dataset "
            f"without soft or mixed labels."
        )
    raise ValueError(
        f"The label of item {index} is {label!r}, a {type(label).__name__}, but must be an integer. "
        f"Number the classes from 0, for instance with a target_transform."
    )


def _listed_labels(dataset: Any) -> Sequence[Any] | None:
    r"""Returns the labels from a dataset's attributes, without reading items, or None if no attribute lists labels."""
    children = source_datasets(dataset)
    transform = getattr(dataset, "target_transform", None)
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1].tolist() if len(dataset.tensors) == 2 and dataset.tensors[1].ndim == 1 else None
    if isinstance(dataset, ConcatDataset):
        child_labels = [_listed_labels(child) for child in children]
        if any(labels is None for labels in child_labels):
            return None
        return [label for labels in child_labels for label in labels or ()]
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        if isinstance(values, Tensor | np.ndarray | list | tuple) and len(values) == len(dataset):
            labels = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
            return labels if transform is None else [transform(label) for label in labels]
    if children:
        inner_labels = _listed_labels(children[0])
        indices = getattr(dataset, "indices", None)
        if inner_labels is not None and indices is not None and len(indices) == len(dataset):
            inner_labels = [inner_labels[int(index)] for index in indices]
        if inner_labels is not None and len(inner_labels) == len(dataset):
            return inner_labels if transform is None else [transform(label) for label in inner_labels]
    return None


@use_threads(1)
def read_labels(dataset: Any) -> np.ndarray:
    r"""Returns the labels of a dataset's :math:`N` items, with shape :math:`(N,)`, as int64.

    To avoid decoding images, labels are taken from the attribute ``targets`` or ``labels``, or from the second tensor
    of a TensorDataset. For a Subset or ConcatDataset, they are taken from the inner datasets. The first, the middle and
    the last item are read for comparison. If the label of one of these items differs, or labels cannot be taken in this
    way, all items are read to get their labels.

    Raises:
        TypeError: If the dataset is not map-style.
        ValueError: If the dataset is empty, an item cannot be read or is not a pair of image and label, or a label is
            not an integer.
    """
    check_dataset(dataset)
    listed = _listed_labels(dataset)
    probes = {0, len(dataset) // 2, len(dataset) - 1}
    items = ItemReader(raw_view(dataset))
    item_labels = {index: _integer_label(items[index][1], index) for index in sorted(probes)}
    if listed is None or any(np.ndim(listed[index]) or listed[index] != label for index, label in item_labels.items()):
        listed = [items[index][1] for index in range(len(dataset))]
    return np.array([_integer_label(label, index) for index, label in enumerate(listed)], dtype=np.int64)


def class_names(dataset: Any) -> dict[int, str] | None:
    r"""Returns a mapping from labels to class names, or None if the names are unknown.

    A dataset's attribute ``classes`` lists the names of the labels 0, 1, and so on. Without this attribute, a Subset,
    ConcatDataset or other wrapper has the names of its inner datasets. Names are unknown if no dataset has the
    attribute, if the datasets in a ConcatDataset have different names, or if a dataset has a ``target_transform``.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple):
        return dict(enumerate(map(str, classes)))
    child_names = [class_names(child) for child in source_datasets(dataset)]
    return child_names[0] if child_names and all(names == child_names[0] for names in child_names) else None


def label_array(y: Any, n_images: int) -> np.ndarray:
    r"""Converts labels to an array of integers or strings, with shape :math:`(N,)`.

    Args:
        y: One integer or string per image. Booleans and floating-point numbers with whole values become integers.
        n_images: The number of images, :math:`N`.

    Raises:
        ValueError: If ``y`` is ``None``, does not have one label per image, mixes strings and numbers, or has labels of
            another type.
    """
    if y is None:
        raise ValueError("'y' is missing: fit(X, y) needs one label per image.")
    # NumPy would convert the integers to strings.
    if isinstance(y, list | tuple) and len({isinstance(label, str) for label in y}) == 2:
        raise ValueError("'y' holds both strings and numbers. Make all labels integers, or all labels strings.")
    labels = np.asarray(y.tolist() if isinstance(y, Tensor) else y)
    if labels.ndim != 1 or len(labels) != n_images:
        raise ValueError(
            f"'y' has shape {labels.shape}, but must have one label per image, with shape ({n_images},)."
            f"{' Convert one-hot labels with y.argmax(1).' if labels.ndim == 2 else ''}"
        )
    if labels.dtype.kind == "f" and ((labels == labels.round()) & (abs(labels) < 2**53)).all():
        return labels.astype(np.int64)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        return labels.astype(str)
    if labels.dtype.kind == "O" and all(isinstance(label, Integral) for label in labels):
        return labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise ValueError(
            f"'y' begins with {labels[:3].tolist()}, of type {labels.dtype}, but labels must be integers or strings. "
            f"Number the classes, for instance with sklearn.preprocessing.LabelEncoder."
        )
    return labels.astype(np.int64) if labels.dtype.kind in "bu" else labels
