r"""Labels and raw images of any dataset or array, read in batches."""

__all__ = ["READ_AT_ONCE", "ImageReader", "load_source", "read_classes", "read_in_batches"]

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import Dataset

from .._utils.storage import index_images, new_images
from .._utils.threads import use_threads
from .formats import ItemFormat
from .images import image_array, read_images
from .items import check_dataset
from .labels import label_array, read_labels
from .transforms import raw_view
from .values import ValueScale

ImageReader = Callable[[Iterable[int]], Tensor]
"""Reads the raw images at some indices, with shape :math:`(n, *)`."""

READ_AT_ONCE = 1000
"""The most images in memory besides those that are kept."""


def read_in_batches(read: ImageReader, n: int) -> Iterator[tuple[slice, Tensor]]:
    r"""Yields the places of some images after others, of n, and these images, so that few are in memory."""
    for start in range(0, n, READ_AT_ONCE):
        part = slice(start, min(start + READ_AT_ONCE, n))
        yield part, read(range(part.start, part.stop))


@use_threads(1)
def read_classes(
    read: ImageReader,
    labels: np.ndarray,
    wanted: Iterable[Any],
    folder: str | os.PathLike[str] | None = None,
) -> tuple[dict[Any, Tensor], ValueScale]:
    r"""Reads and checks all images, and returns those of some classes, by label, and the scale of the values of all.

    Only those that are returned are in memory together.

    Args:
        read: From indices to images, as :func:`load_source` gives it.
        labels: The label of each image.
        wanted: The labels of the classes whose images are kept.
        folder: Where they are kept, in files that are mapped into memory; ``None`` for memory itself.
    """
    images: dict[Any, Tensor] = {}
    filled = dict.fromkeys(wanted, 0)

    def batches() -> Iterator[Tensor]:
        for part, batch in read_in_batches(read, len(labels)):
            own = labels[part]
            for label in filled.keys() & set(own.tolist()):
                chosen = index_images(batch, own == label)
                if label not in images:
                    shape = (int((labels == label).sum()), *batch.shape[1:])
                    images[label] = new_images(shape, batch.dtype, folder)
                images[label][filled[label] : filled[label] + len(chosen)] = chosen
                filled[label] += len(chosen)
            yield batch

    values = ValueScale.of(batches())
    return {label: images[label] for label in filled}, values


def load_source(X: Any, y: Any = None) -> tuple[np.ndarray, ImageReader]:
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
        return label_array(y, len(images)), lambda indices: index_images(images, np.asarray(indices))
    if issparse(X):
        raise TypeError("'X' is a dense array, and it is a sparse one. Make it dense: X.toarray().")
    check_dataset(X)
    if y is not None:
        raise ValueError("A dataset brings its labels with it, and 'y' was passed as well. Use fit(dataset).")
    labels = read_labels(X)
    item_format = ItemFormat.of(raw_view(X)[0][0])
    return labels, lambda indices: read_images(X, indices, item_format)
