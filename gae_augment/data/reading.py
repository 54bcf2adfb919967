r"""Reading labels and raw images, before the user's transforms, out of any dataset and any array."""

__all__ = [
    "ItemFormat",
    "check_images",
    "class_names",
    "image_array",
    "label_array",
    "open_source",
    "raw_view",
    "read_classes",
    "read_images",
    "read_in_parts",
    "read_labels",
    "transforms_of",
]

import copy
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets.vision import StandardTransform

from .._utils.storage import new_images, take
from .._utils.threads import use_threads
from .values import ValueScale

Joint = Callable[[Any, Any], tuple[Any, Any]]

HUGGING_FACE = ", as gae_augment.integrations.huggingface.HuggingFaceImages does with one of Hugging Face's"

READ_AT_ONCE = 1000
"""So many images are in memory besides those that are kept."""

PATIENCE = 30.0
"""The seconds after which an item that a dataset has not come back with is named."""


def _unchanged(image: Any) -> Any:
    return image


def _both_unchanged(image: Any, label: Any) -> tuple[Any, Any]:
    return image, label


def check_dataset(dataset: Any) -> None:
    r"""Raises an error unless a dataset has a length and can be indexed.

    Raises:
        TypeError: If it is not a map-style dataset.
        ValueError: If it is empty.
    """
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"The dataset can be indexed, and {type(dataset).__name__} is an IterableDataset, which can only be "
            f"iterated. Collect it first: TensorDataset(torch.stack(images), torch.tensor(labels))."
        )
    if isinstance(dataset, str | os.PathLike):
        raise TypeError(
            f"The dataset is a map-style torch dataset, and it is the text {os.fspath(dataset)!r}. Open a folder "
            f"of images first, with torchvision's ImageFolder, or gae_augment.data.folders.open_folder."
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"The dataset is a map-style torch dataset, and it is a {type(dataset).__name__}. "
            f"Arrays are passed with their labels: fit(X, y)."
        )
    if not len(dataset):
        raise ValueError("The dataset is empty: it has no image to learn from.")


def _children(dataset: Any) -> list[Any]:
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
    children = _children(dataset)
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
    chains = [transforms_of(child) for child in _children(dataset)]
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


class _Items:
    r"""Reads the items of a dataset, and meanwhile warns of one that does not come.

    It is left to the user to end what waits: of a dataset that waits for a lock or a network nobody else knows whether
    it goes on. It is read in the thread that asks, for many data sets are bound to theirs.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        # Which one, and since when.
        self._awaited: tuple[int, float] | None = None
        self._done = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, args=(PATIENCE,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()

    def _watch(self, patience: float) -> None:
        told = None
        while not self._done.wait(patience / 10):
            awaited = self._awaited
            if awaited not in (None, told) and time.monotonic() - awaited[1] > patience:
                told = awaited
                warnings.warn(
                    f"Item {awaited[0]} of the dataset has not come for {patience:g} seconds. If its __getitem__ waits "
                    f"for something, interrupt this, and see what dataset[{awaited[0]}] does.",
                    stacklevel=1,
                )

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self._awaited = index, time.monotonic()
        try:
            item = self._dataset[index]
            if isinstance(item, tuple | list) and item and isinstance(item[0], Image.Image):
                # Pillow reads the pixels of an opened file when they are asked for.
                item[0].load()
        except Exception as error:
            raise ValueError(
                f"Item {index} of the dataset cannot be read: {type(error).__name__}: {str(error).rstrip('.')}. Mend "
                f"or remove it."
            ) from error
        finally:
            self._awaited = None
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"An item of the dataset is a pair of image and label, and item {index} is a {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, tuple | list | dict) else ''}. Wrap the dataset in one that "
                f"returns (image, label){HUGGING_FACE if isinstance(item, dict) else ''}."
            )
        return item[0], item[1]


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
    children = _children(dataset)
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

    Warns:
        UserWarning: If an item does not come for half a minute.
    """
    check_dataset(dataset)
    listed = _listed_labels(dataset)
    probes = {0, len(dataset) // 2, len(dataset) - 1}
    with _Items(raw_view(dataset)) as items:
        own = {index: _integer(items[index][1], index) for index in sorted(probes)}
        if listed is None or any(np.ndim(listed[index]) or listed[index] != label for index, label in own.items()):
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
    named = [class_names(child) for child in _children(dataset)]
    return named[0] if named and all(names == named[0] for names in named) else None


@dataclass(frozen=True)
class ItemFormat:
    r"""The form of a dataset's raw images: from it to tensors, and back.

    Attributes:
        container: A PIL image, a NumPy array, a tensor, or a ``tv_tensors.Image``.
        shape: The shape of the image as a tensor: :math:`(C, H, W)`, :math:`(H, W)` or :math:`(F,)`.
        dtype: Its data type as a tensor.
        mode: The mode of a PIL image.
        channels_last: Whether it is an array of shape :math:`(H, W, C)`.
    """

    container: Literal["PIL image", "array", "tensor", "tv_tensor"]
    shape: tuple[int, ...]
    dtype: torch.dtype
    mode: str | None = None
    channels_last: bool = False

    @classmethod
    def of(cls, image: Any) -> Self:
        r"""Returns the format of an image.

        Raises:
            ValueError: If it is not an image or vector of numbers.
        """
        if isinstance(image, Image.Image):
            if image.mode in ("P", "PA"):
                raise ValueError(
                    f"The values of an image are colours, and mode {image.mode!r} has numbers of palette entries. "
                    f"Convert the images: image.convert('RGB')."
                )
            if image.mode.startswith("I;16") and image.mode != "I;16":
                raise ValueError(
                    f"The values of a 16-bit image are in this machine's own byte order, and mode {image.mode!r} has "
                    f"another. Convert the images: image.convert('I')."
                )
            tensor = torch.from_numpy(np.array(image))
            shape = (1, *tensor.shape) if tensor.ndim == 2 else (tensor.shape[2], *tensor.shape[:2])
            return cls("PIL image", tuple(shape), tensor.dtype, mode=image.mode)
        if isinstance(image, np.ndarray):
            try:
                tensor = torch.from_numpy(np.array(image))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"An image is an array of numbers that torch knows, and its type is {image.dtype}. "
                    f"Convert it: image.astype('float32')."
                ) from error
            last = image.ndim == 3 and image.shape[2] in (1, 2, 3, 4) and image.shape[0] not in (1, 2, 3, 4)
            shape = (image.shape[2], *image.shape[:2]) if last else image.shape
            container: Literal["array", "tensor", "tv_tensor"] = "array"
        elif isinstance(image, Tensor):
            tensor, last, shape = image, False, tuple(image.shape)
            container = "tv_tensor" if isinstance(image, tv_tensors.Image) else "tensor"
        else:
            raise ValueError(
                f"An image is a PIL image, an array or a tensor, and it is a {type(image).__name__}. "
                f"Wrap the dataset in one that returns such images."
            )
        if tensor.dtype.is_complex or not 1 <= len(shape) <= 3 or 0 in shape:
            raise ValueError(
                f"An image has shape (C, H, W) or (H, W), a vector (F,), of real numbers, and it has shape "
                f"{tuple(shape)} of {tensor.dtype}."
            )
        return cls(container, tuple(shape), tensor.dtype, channels_last=last)

    def to_tensor(self, image: Any) -> Tensor:
        r"""Returns an image of this format as a tensor."""
        if isinstance(image, Tensor):
            return image.detach().cpu().as_subclass(Tensor)
        tensor = torch.from_numpy(np.array(image))
        if self.container == "PIL image" and tensor.ndim == 2:
            return tensor[None]
        return tensor.permute(2, 0, 1) if self.container == "PIL image" or self.channels_last else tensor

    def from_tensor(self, tensor: Tensor) -> Any:
        r"""Returns a tensor as an image of this format."""
        if self.container == "tensor":
            return tensor.clone()
        if self.container == "tv_tensor":
            return tv_tensors.Image(tensor.clone())
        if self.container == "array":
            return (tensor.permute(1, 2, 0) if self.channels_last else tensor).contiguous().numpy().copy()
        pixels = tensor[0] if tensor.shape[0] == 1 else tensor.permute(1, 2, 0)
        array = np.ascontiguousarray(pixels.numpy())
        if self.mode == "1":
            return Image.fromarray(array)
        return Image.frombytes(str(self.mode), (array.shape[1], array.shape[0]), array.tobytes())


def _check_format(own: ItemFormat, first: ItemFormat, index: int) -> None:
    if own == first:
        return
    what = "shape" if own.shape != first.shape else "mode" if own.mode != first.mode else "type"
    a, b = ((f.shape, f.mode, f"{f.container} of {f.dtype}") for f in (own, first))
    place = ("shape", "mode", "type").index(what)
    raise ValueError(
        f"All images have one {what}, and item {index} has {what} {a[place]} where item 0 has {b[place]}. "
        f"Resize or convert the images before, for instance in the dataset's loader; a 'transform' comes too "
        f"late, for generators learn raw images."
    )


@use_threads(1)
def read_images(dataset: Any, indices: Iterable[int], item_format: ItemFormat) -> Tensor:
    r"""Returns raw images of a dataset, with shape :math:`(n, *)`.

    Raises:
        ValueError: If an image cannot be read, differs from the format in shape, type or mode, or has a value that is
            not finite.
    """
    images = []
    with _Items(raw_view(dataset)) as items:
        for index in indices:
            image, _ = items[int(index)]
            _check_format(ItemFormat.of(image), item_format, index)
            tensor = item_format.to_tensor(image)
            check_images(tensor[None], f"item {index}")
            images.append(tensor)
    return torch.stack(images)


@use_threads(1)
def check_images(images: Tensor, name: str = "X") -> None:
    r"""Raises a ValueError if images, with shape :math:`(N, *)`, hold a value that is not finite, or not NumPy's."""
    try:
        images[:0].numpy()
    except TypeError as error:
        raise ValueError(
            f"The values of images are of a type that NumPy has too, and {name} is of {images.dtype}. "
            f"Convert it: {name if name == 'X' else 'image'}.float()."
        ) from error
    for part, own in enumerate(images.split(READ_AT_ONCE) if images.dtype.is_floating_point else ()):
        if own.isfinite().all():
            continue
        first = int((~own.isfinite()).flatten(1).any(dim=1).nonzero()[0]) + part * READ_AT_ONCE
        where = f"image {first} of {name}" if len(images) > 1 else name
        raise ValueError(
            f"The values of images are finite, and {where} holds NaN or infinity. Remove it, or put a number in place."
        )


@use_threads(1)
def image_array(X: Any) -> Tensor:
    r"""Returns an array of images or feature vectors as a tensor of shape :math:`(N, *)`, which nothing writes to.

    One that can be written to is not copied, and may be a map of a file, as of ``numpy.load(path, mmap_mode="c")``.

    Raises:
        TypeError, ValueError: If it is empty, not of numbers, not of one size, not of shape (N, C, H, W), (N, H, W) or
            (N, F), or not finite.
    """
    if isinstance(X, Tensor):
        images = X.detach().cpu()
    else:
        try:
            array = np.asarray(X)
            if array.dtype == object:
                # So NumPy has a table whose columns are of several types.
                array = array.astype(np.float64)
            if not array.dtype.isnative:
                array = array.astype(array.dtype.newbyteorder("="))
            # What is mapped into memory stays in its file. Torch has neither read-only memory nor all steps.
            usable = array.flags.writeable and all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
            images = torch.from_numpy(array if usable else np.array(array))
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"'X' is an array of numbers, all images of one size, and it cannot be read as one: {error}"
            ) from error
    shape = tuple(images.shape)
    if images.dtype.is_complex:
        raise ValueError("Complex data not supported: 'X' holds real numbers. Give their real part, or their size.")
    if not 2 <= images.ndim <= 4:
        raise ValueError(
            f"'X' holds real numbers with shape (N, C, H, W), (N, H, W) or (N, F), and it has shape {shape} of "
            f"{images.dtype}. Add the missing axis, or reshape."
        )
    if 0 in shape[1:]:
        raise ValueError(f"An image has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if not len(images):
        raise ValueError(f"'X' is empty: its shape is {shape}, and there is no image to learn from.")
    if images.ndim == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 2, 3, 4):
        raise ValueError(
            f"Images have shape (N, C, H, W), and with {shape} the channels seem to be last. "
            f"Move them: X.transpose(0, 3, 1, 2) for NumPy, X.permute(0, 3, 1, 2) for torch."
        )
    check_images(images)
    return images


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


def read_in_parts(read: Callable[[Iterable[int]], Tensor], n: int) -> Iterator[tuple[slice, Tensor]]:
    r"""Yields the places of some images after others, of n, and these images, so that few are in memory."""
    for start in range(0, n, READ_AT_ONCE):
        part = slice(start, min(start + READ_AT_ONCE, n))
        yield part, read(range(part.start, part.stop))


@use_threads(1)
def read_classes(
    read: Callable[[Iterable[int]], Tensor],
    labels: np.ndarray,
    wanted: Iterable[Any],
    folder: str | os.PathLike[str] | None = None,
) -> tuple[dict[Any, Tensor], ValueScale]:
    r"""Reads and checks all images, and returns those of some classes, by label, and the scale of the values of all.

    Only those that are returned are in memory together.

    Args:
        read: From indices to images, as :func:`open_source` gives it.
        labels: The label of each image.
        wanted: The labels of the classes whose images are kept.
        folder: Where they are kept, in files that are mapped into memory; ``None`` for memory itself.
    """
    images: dict[Any, Tensor] = {}
    filled = dict.fromkeys(wanted, 0)

    def batches() -> Iterator[Tensor]:
        for part, batch in read_in_parts(read, len(labels)):
            own = labels[part]
            for label in filled.keys() & set(own.tolist()):
                chosen = take(batch, own == label)
                if label not in images:
                    shape = (int((labels == label).sum()), *batch.shape[1:])
                    images[label] = new_images(shape, batch.dtype, folder)
                images[label][filled[label] : filled[label] + len(chosen)] = chosen
                filled[label] += len(chosen)
            yield batch

    values = ValueScale.of(batches())
    return {label: images[label] for label in filled}, values


def open_source(X: Any, y: Any = None) -> tuple[np.ndarray, Callable[[Iterable[int]], Tensor]]:
    r"""Returns the labels of a dataset or of arrays, and a function from indices to raw images.

    Args:
        X: A map-style dataset, or an array of images.
        y: The labels that go with an array.

    Raises:
        TypeError, ValueError: As :func:`read_labels`, or as :func:`image_array` and :func:`label_array`.
    """
    if y is None and isinstance(X, list | tuple):
        raise TypeError(
            f"A {type(X).__name__} is an array of images, and comes with its labels: fit(X, y). Pairs of image and "
            f"label are a dataset, an object with __getitem__ and __len__ such as TensorDataset(images, labels)."
        )
    if isinstance(X, Tensor | list | tuple) or (hasattr(X, "__array__") and not isinstance(X, Dataset)):
        images = image_array(X)
        return label_array(y, len(images)), lambda indices: take(images, np.asarray(indices))
    if issparse(X):
        raise TypeError("'X' is a dense array, and it is a sparse one. Make it dense: X.toarray().")
    check_dataset(X)
    if y is not None:
        raise ValueError("A dataset brings its labels with it, and 'y' was passed as well. Use fit(dataset).")
    labels = read_labels(X)
    item_format = ItemFormat.of(raw_view(X)[0][0])
    return labels, lambda indices: read_images(X, indices, item_format)
