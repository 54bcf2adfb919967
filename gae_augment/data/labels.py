r"""Labels of a dataset or array, and class names of a dataset."""

__all__ = ["class_names", "ends_of_classes", "label_array", "read_labels"]

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import CIFAR10, MNIST, QMNIST, STL10, SVHN, DatasetFolder, VisionDataset

from .._utils.seeding import global_seed, make_generator
from .._utils.threads import use_threads
from .items import ItemReader, check_dataset
from .transforms import (
    Skip,
    attributes_of,
    copy_with_transforms,
    has_trusted_type,
    is_trusted,
    read_attribute,
    slots_of,
    source_datasets,
)

NAMES = ("classes", "class_to_idx")
"""The attributes that hold the names of classes."""

PROBES = 700
"""The number of items whose labels are compared with listed labels; see :func:`read_labels`."""

SECONDS = 2.0
"""If reading all items takes no longer than this, the labels of all items are compared."""


def _integer_label(label: Any, index: int) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool | int | np.integer | np.bool_):
        if not -(2**63) <= int(label) < 2**63:
            raise ValueError(
                f"The label of item {index} is {label}, but must be below 2**63. Number the classes from 0, for "
                f"instance with a target_transform."
            )
        return int(label)
    if isinstance(label, Tensor | np.ndarray | list | tuple) and len(label) > 1:
        raise ValueError(
            f"The label of item {index} is a vector of {len(label)} numbers, but must be an integer. Pass the dataset "
            f"without soft or mixed labels. Images of several classes at once cannot be augmented."
        )
    raise ValueError(
        f"The label of item {index} is {label!r}, a {type(label).__name__}, but must be an integer. "
        f"Number the classes from 0, for instance with a target_transform."
    )


def _known_labels(dataset: Any) -> list[Any] | None:
    r"""Returns the labels of the items of a trusted dataset, or ``None`` if the class does not list them."""
    if any(slot.form == "pair" for slot in slots_of(dataset)):
        # Such a transform may change labels.
        return None
    if isinstance(dataset, ConcatDataset):
        inner = [_known_labels(source) for source in dataset.datasets]
        return None if any(labels is None for labels in inner) else [label for part in inner for label in part or ()]
    if isinstance(dataset, Subset):
        whole = _known_labels(dataset.dataset) if is_trusted(dataset.dataset) else None
        # As torch does it: indices may be a column of a table, with an index of its own.
        return None if whole is None else [whole[int(dataset.indices[index])] for index in range(len(dataset))]
    labels: Any = None
    if isinstance(dataset, TensorDataset):
        labels = dataset.tensors[1] if len(dataset.tensors) == 2 else None
    elif isinstance(dataset, DatasetFolder):
        labels = [label for _, label in dataset.samples]
    elif isinstance(dataset, MNIST | CIFAR10) or type(dataset).__module__.startswith("gae_augment."):
        labels = dataset.targets
    elif isinstance(dataset, SVHN | STL10):
        labels = dataset.labels
    if labels is None or len(labels) != len(dataset) or isinstance(dataset, QMNIST):
        return None
    if isinstance(labels, Tensor) and labels.is_floating_point():
        return None
    integers = _as_integers(labels.tolist() if isinstance(labels, Tensor) else labels)
    if integers is None or not isinstance(dataset, VisionDataset):
        return None if integers is None else integers.tolist()
    return _transformed(integers, dataset)


def _guessed_labels(dataset: Any, parents: tuple[Any, ...] = ()) -> Sequence[Any] | None:
    r"""Returns the labels that the attributes of any dataset list, or ``None``; they may be wrong."""
    if any(dataset is parent for parent in parents):
        return None
    for name in ("targets", "labels", "_labels", "tensors"):
        values = read_attribute(dataset, name)
        if name == "tensors" and isinstance(values, tuple) and len(values) == 2:
            values = values[1]
        if isinstance(values, Tensor | np.ndarray) and values.ndim == 0:
            continue
        if isinstance(values, Tensor | np.ndarray | list | tuple) and len(values) == len(dataset):
            return _transformed(values, dataset)
    inner = [_guessed_labels(source, (*parents, dataset)) for source in source_datasets(dataset)]
    if not inner or any(labels is None for labels in inner):
        return None
    labels = [label for source_labels in inner for label in source_labels or ()]
    indices = attributes_of(dataset).get("indices")
    if indices is not None:
        try:
            labels = [labels[int(indices[index])] for index in range(len(dataset))]
        except (IndexError, KeyError, TypeError, ValueError):
            return None
    return _transformed(labels, dataset) if len(labels) == len(dataset) else None


def _transformed(labels: Any, dataset: Any) -> list[Any] | None:
    r"""Returns labels after the dataset's ``target_transform``, or ``None`` if it does not accept them."""
    if labels is None:
        return None
    labels = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else list(labels)
    transform = attributes_of(dataset).get("target_transform")
    if transform is None:
        return labels
    try:
        return [transform(label) for label in labels]
    except Exception:
        # It may need labels of another type, which the items have.
        return None


def _as_integers(labels: Sequence[Any] | None) -> np.ndarray | None:
    r"""Converts listed labels to int64, or returns ``None`` if they are not all whole numbers."""
    if labels is None:
        return None
    try:
        array = np.array([label.item() if isinstance(label, Tensor | np.ndarray) else label for label in labels])
    except (ValueError, RuntimeError, TypeError):
        return None
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        return None
    with np.errstate(invalid="ignore"):
        integers = array.astype(np.int64)
    return integers if (integers == array).all() else None


def ends_of_classes(labels: np.ndarray) -> set[int]:
    r"""Returns the indices of the first and the last item of each class."""
    _, first = np.unique(labels, return_index=True)
    _, last = np.unique(labels[::-1], return_index=True)
    return {*first.tolist(), *(len(labels) - 1 - last).tolist()}


def _label(items: ItemReader, index: int) -> Any:
    r"""Reads the label of an item, with the index as the seed of random numbers."""
    with global_seed(index):
        return items[index][1]


def _confirmed(items: ItemReader, listed: np.ndarray) -> bool:
    r"""Returns whether the labels of items equal the listed labels; see :func:`read_labels`."""
    n = len(listed)
    chosen = torch.randperm(n, generator=make_generator("labels"))[:PROBES]
    indices = sorted({*ends_of_classes(listed), *chosen.tolist()})
    start = time.perf_counter()
    if not all(_has_label(items, index, listed[index]) for index in indices):
        return False
    if (time.perf_counter() - start) / len(indices) * n > SECONDS:
        return True
    return all(_has_label(items, index, listed[index]) for index in sorted(set(range(n)) - set(indices)))


def _has_label(items: ItemReader, index: int, expected: int) -> bool:
    label = _label(items, index)
    try:
        return _integer_label(label, index) == expected
    except (TypeError, ValueError):
        # The label is no integer, which is an error when all items are read.
        return False


@use_threads(1)
def read_labels(dataset: Any) -> np.ndarray:
    r"""Returns the labels of a dataset's :math:`N` items, with shape :math:`(N,)`, as int64.

    Known classes of torch and torchvision list their labels. For any other class, the label of each item counts. To
    avoid decoding all images, labels are taken from an attribute ``targets``, ``labels`` or ``_labels``, or from the
    datasets inside a wrapper, and compared with the labels of items: two of each class, and 700 at random. Errors in a
    hundredth of the items are missed with a probability of 1/1000. If all items can be read in two seconds, all are
    compared. If a label differs, or none are listed, all items are read.

    Args:
        dataset: A map-style dataset.

    Raises:
        TypeError: If the dataset is not map-style.
        ValueError: If the dataset is empty, an item cannot be read or is not a pair of image and label, or a label is
            not an integer.
    """
    check_dataset(dataset)
    items = ItemReader(dataset)
    if is_trusted(dataset):
        known = _known_labels(dataset)
        if known is not None:
            return np.array([_integer_label(label, index) for index, label in enumerate(known)], dtype=np.int64)
        # Without transforms of images, which known classes apply to nothing else.
        items = ItemReader(copy_with_transforms(dataset, lambda slot: None if slot.form == "pair" else Skip(slot)))
    listed = _as_integers(_guessed_labels(dataset))
    if listed is not None and _confirmed(items, listed):
        return listed
    return np.array([_integer_label(_label(items, index), index) for index in range(len(dataset))], dtype=np.int64)


def class_names(dataset: Any, labels: np.ndarray | None = None) -> dict[int, str] | None:
    r"""Returns a mapping from labels to class names, or None if the names are unknown.

    The attribute ``class_to_idx`` maps names to labels, or ``classes`` lists the names of the labels 0, 1, and so on.
    Without them, a Subset, ConcatDataset or other wrapper has the names of the datasets inside it, unless it changes
    their labels. If several classes have one name, their labels are added to it: ``"crack (2)"``.

    Args:
        dataset: A dataset.
        labels: The labels of all items, as :func:`read_labels` returns them; ``None`` reads them if necessary.

    Raises:
        ValueError: If datasets that are joined give one label different names.
    """
    names = _names(dataset, labels)
    if names is None:
        return None
    repeated = {name for name, count in Counter(names.values()).items() if count > 1}
    return {label: f"{name} ({label})" if name in repeated else name for label, name in names.items()}


def _names(dataset: Any, labels: np.ndarray | None, parents: tuple[Any, ...] = ()) -> dict[int, str] | None:
    if any(dataset is parent for parent in parents):
        return None
    if read_attribute(dataset, "target_transform") is not None:
        # It may number the classes anew.
        return None
    if not has_trusted_type(dataset) and not _lists_labels_rightly(dataset, labels):
        return None
    classes, mapping = (read_attribute(dataset, name) for name in NAMES)
    classes = list(classes) if isinstance(classes, list | tuple | np.ndarray) else None
    if isinstance(mapping, Mapping) and mapping and all(isinstance(label, Integral) for label in mapping.values()):
        one_to_one = len(set(mapping.values())) == len(mapping) and (classes is None or len(mapping) == len(classes))
        if one_to_one:
            return {int(label): _text(name) for name, label in sorted(mapping.items(), key=lambda item: item[1])}
    if classes is not None:
        # Names of the present classes alone, whose labels have gaps, are not at the positions of the labels.
        positions = labels is None or labels.max() < len(classes) or len(np.unique(labels)) != len(classes)
        return dict(enumerate(map(_text, classes))) if positions else None
    inner = [_names(source, None, (*parents, dataset)) for source in source_datasets(dataset)]
    if not inner or any(names is None for names in inner):
        return None
    joined: dict[int, str] = {}
    for names in inner:
        for label, name in (names or {}).items():
            if joined.setdefault(label, name) != name:
                raise ValueError(
                    f"Label {label} is {joined[label]!r} in one of the joined datasets and {name!r} in another. Their "
                    f"classes are {' and '.join(str(list((names or {}).values())) for names in inner)}. Number the "
                    f"classes alike, for instance with a target_transform."
                )
    return dict(sorted(joined.items()))


def _lists_labels_rightly(dataset: Any, labels: np.ndarray | None) -> bool:
    r"""Returns whether the labels that a dataset or the datasets inside it list, if any, are those of its items."""
    guess = _guessed_labels(dataset)
    if guess is None:
        return True
    listed = _as_integers(guess)
    return listed is not None and np.array_equal(listed, read_labels(dataset) if labels is None else labels)


def _text(name: Any) -> str:
    r"""Returns a class name; of several, as in torchvision's ImageNet, the first."""
    return str(name[0] if isinstance(name, tuple) and name else name)


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
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        raise ValueError("'y' is a masked array with masked labels. Remove the images without a label.")
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
