r"""Reads the labels of a dataset or array, and its raw images (before any transform) in batches."""

__all__ = ["READ_AT_ONCE", "ImageReader", "load_source", "read_classes", "read_in_batches"]

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import Dataset

from .._utils.storage import index_images, new_images
from .file_loaders import header_loader, reduced_loader
from .formats import ItemFormat
from .images import image_array, read_images
from .items import check_dataset
from .labels import label_array
from .values import LEVEL_TYPES, ValueScale
from .views import DatasetView
from .working_size import WorkingSize, choose_size, resize_images


@dataclass(frozen=True)
class ImageReader:
    r"""A function that maps :math:`n` indices to a tensor of :math:`n` raw images.

    Attributes:
        function: The function.
        shape: The shape of an image that it returns.
        dtype: The data type of an image that it returns.
        resized: Whether it resizes images, because they differ in size or are larger than the working size.
    """

    function: Callable[[Iterable[int]], Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype
    resized: bool

    def __call__(self, indices: Iterable[int]) -> Tensor:
        r"""Returns the images with the given indices, with shape :math:`(n, *)`."""
        return self.function(indices)


READ_AT_ONCE = 1000
"""The number of images that are read at a time. It limits the use of memory."""

CHECKED = 100
"""The number of images whose format is checked, evenly spread over all classes, whether a model needs them or not."""

SIZES_READ = 100
"""The maximum number of images that are read to choose the working size."""


def read_in_batches(read: ImageReader, n: int) -> Iterator[tuple[slice, Tensor]]:
    r"""Reads images in batches of at most 1000, and yields the indices (a slice) and the images of each batch.

    Args:
        read: A function that maps indices to a tensor of images.
        n: The number of images. The indices 0 to :math:`n - 1` are read.
    """
    for start in range(0, n, READ_AT_ONCE):
        rows = slice(start, min(start + READ_AT_ONCE, n))
        yield rows, read(range(rows.start, rows.stop))


def read_classes(
    read: ImageReader,
    labels: np.ndarray,
    labels_to_keep: Iterable[Any],
    folder: str | os.PathLike[str] | None = None,
    *,
    most: Mapping[Any, int] | None = None,
) -> tuple[dict[Any, Tensor], ValueScale]:
    r"""Returns the images of selected classes, by label, and the :class:`ValueScale` of all images.

    The value scale converts image values to network inputs. Images are read once, in batches. Images of bytes have the
    same scale whatever their values, so only those that are returned are read, and 100 others as a check. Of images of
    another type, all are read.

    Args:
        read: A function that maps indices to a tensor of images.
        labels: The labels of all :math:`N` images, with shape :math:`(N,)`.
        labels_to_keep: The labels of the selected classes. Each must occur in ``labels``.
        folder: The folder of memory-mapped files for the selected images; ``None`` keeps these images in memory.
        most: The maximum number of images of a class, by label. The images kept are evenly spread over the class.
    """
    images: dict[Any, Tensor] = {}
    positions = np.full(len(labels), -1)
    for label in labels_to_keep:
        rows = np.flatnonzero(labels == label)
        rows = rows[_evenly_spread(len(rows), (most or {}).get(label, len(rows)))]
        positions[rows] = np.arange(len(rows))
        images[label] = new_images((len(rows), *read.shape), read.dtype, folder)
    indices = np.arange(len(labels))
    if read.dtype in LEVEL_TYPES:
        indices = np.union1d(np.flatnonzero(positions >= 0), _evenly_spread(len(labels), CHECKED))

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(indices), READ_AT_ONCE):
            chunk = indices[start : start + READ_AT_ONCE]
            batch = read(chunk.tolist())
            chunk_labels, chunk_positions = labels[chunk], positions[chunk]
            for label in images.keys() & set(chunk_labels.tolist()):
                chosen = (chunk_labels == label) & (chunk_positions >= 0)
                images[label].numpy()[chunk_positions[chosen]] = index_images(batch, chosen).numpy()
            yield batch

    return images, ValueScale.of(batches())


def _evenly_spread(n: int, most: int) -> np.ndarray:
    r"""Returns at most ``most`` of the indices 0 to :math:`n - 1`, evenly spread, in ascending order."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def load_source(
    X: Any, y: Any = None, working_size: WorkingSize = "auto", *, own_size: bool = False
) -> tuple[np.ndarray, ImageReader]:
    r"""Returns the labels of a dataset or array, and a function that reads images.

    The function maps indices to a tensor of images, without the dataset's image transforms. All images of a dataset or
    array are resized to one working size, which depends on the sizes of at most 100 images.

    Args:
        X: A map-style dataset, or a dense array of images or feature vectors.
        y: The labels of an array: one integer or string per image. Must be ``None`` for a dataset, whose items contain
            integer labels.
        working_size: The height and width of the images as :class:`gae_augment.GAEAugmenter` defines them.
        own_size: Whether images keep their size, which must then be one size, and which ``working_size`` must allow.

    Raises:
        TypeError, ValueError: If ``X`` is empty or neither a dataset nor an array, or an array contains values that are
            not finite real numbers. Also if ``y`` is missing for an array or passed with a dataset, or if a label is
            not of an allowed type, or the working size does not suit the data.
    """
    if y is None and isinstance(X, list | tuple):
        raise TypeError(
            f"'y' is missing: a {type(X).__name__} of images needs fit(X, y). Put pairs of image and label into a "
            f"dataset, an object with __getitem__ and __len__ such as TensorDataset(images, labels)."
        )
    if isinstance(X, Tensor | list | tuple) or (hasattr(X, "__array__") and not isinstance(X, Dataset)):
        images = image_array(X)
        array_size, resized = _reading_size(tuple(images.shape[1:]), [], working_size, own_size)

        def read(indices: Iterable[int]) -> Tensor:
            chosen = index_images(images, np.asarray(indices))
            return chosen if array_size is None else resize_images(chosen, array_size)

        shape = (*images.shape[1:-2], *array_size) if array_size else tuple(images.shape[1:])
        return label_array(y, len(images)), ImageReader(read, shape, images.dtype, resized)
    if issparse(X):
        raise TypeError("'X' is sparse, but must be a dense array. Convert it: X.toarray().")
    check_dataset(X)
    if y is not None:
        raise ValueError("'y' was passed, but the dataset already has labels. Use fit(dataset).")
    view = DatasetView(X)
    item_format = ItemFormat.of(view.raw_image(0))
    labels = view.labels
    headers = view.loaded_with(header_loader)
    size, resized = _reading_size(item_format.shape, _shapes(headers, len(labels)), working_size, own_size)
    shape = (*item_format.shape[:-2], *size) if size else item_format.shape
    source = view.loaded_with(partial(reduced_loader, size=size)) if size and resized else view

    def read_items(indices: Iterable[int]) -> Tensor:
        # Only known loaders of files have no state that threads would share.
        return read_images(source, indices, item_format, size, parallel=headers is not view)

    return labels, ImageReader(read_items, shape, item_format.dtype, resized)


def _shapes(view: DatasetView, n: int) -> Iterator[tuple[int, ...]]:
    r"""Reads at most 100 of the images from index 1 on, evenly spread, and yields their shapes."""
    for index in np.unique(np.linspace(0, n - 1, SIZES_READ).astype(int))[1:]:
        yield ItemFormat.of(view.raw_image(int(index))).shape


def _reading_size(
    first: tuple[int, ...], others: Iterable[tuple[int, ...]], working_size: WorkingSize, own_size: bool
) -> tuple[tuple[int, int] | None, bool]:
    r"""Returns the height and width to which images are resized, and whether this changes any image.

    The height and width are ``None`` for images that keep their shape. The arguments ``first`` and ``others`` are the
    shapes of images. The others are read only if they are needed.
    """
    if len(first) == 1:
        if working_size != "auto":
            raise ValueError(
                f"'working_size' is {working_size!r}, but the data are vectors of {first[0]} features, which have no "
                f"height and width. Leave it at 'auto'."
            )
        return None, False
    if not own_size:
        sizes = [(shape[-2], shape[-1]) for shape in chain([first], others) if len(shape) > 1]
        size = choose_size(sizes, working_size)
        return size, any(other != size for other in sizes)
    if working_size != "auto" and choose_size([(first[-2], first[-1])], working_size) != first[-2:]:
        raise ValueError(
            f"'working_size' is {working_size!r}, but these images keep their size, {first[-2]}x{first[-1]}. Leave it "
            f"at 'auto', or call fit and sample, which resize images."
        )
    return None, False
