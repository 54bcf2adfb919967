r"""Conversion of the images of a dataset or array to tensors, with checks of their values."""

__all__ = ["append_samples", "check_images", "check_unmasked", "image_array", "read_images"]

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._utils.threads import map_in_threads, use_threads
from .formats import ItemFormat
from .views import DatasetView
from .working_size import resize_images

CHECK_BATCH_SIZE = 1000
"""The number of images that are checked at a time. It limits the use of memory."""


def _check_format(item_format: ItemFormat, expected: ItemFormat, index: int, any_size: bool) -> None:
    if any_size and len(item_format.shape) == len(expected.shape) and item_format.shape[:-2] == expected.shape[:-2]:
        expected = replace(expected, shape=item_format.shape)
    if item_format == expected:
        return
    if item_format.shape != expected.shape:
        name, values = "shape", [str(item_format.shape), str(expected.shape)]
    elif item_format.mode != expected.mode:
        name, values = "mode", [str(item_format.mode), str(expected.mode)]
    else:
        name, values = "type", [f"{f.container} of {f.dtype}" for f in (item_format, expected)]
    raise ValueError(
        f"Item {index} has {name} {values[0]}, but item 0 has {name} {values[1]}. Convert the images in the dataset's "
        f"loader{'' if any_size else ', or resize those of a folder with --size 64'}. Its 'transform' has no effect: "
        f"models learn from raw images."
    )


def read_images(
    view: DatasetView,
    indices: Iterable[int],
    item_format: ItemFormat,
    size: tuple[int, int] | None = None,
    *,
    parallel: bool = False,
) -> Tensor:
    r"""Returns images of a dataset as a tensor, without the dataset's image transforms.

    The shape of the tensor is :math:`(n, *)` for :math:`n` indices and images of shape :math:`*`.

    Args:
        view: A view of the dataset.
        indices: The indices of the images, at least one.
        item_format: The format that every image must have.
        size: The height and width to which images of any size are resized. ``None`` requires the shape of
            ``item_format``.
        parallel: Whether several threads read images.

    Raises:
        ValueError: If an item cannot be read or is not a pair of image and label. Also if an image does not have the
            format ``item_format``, has a value that is not finite, or has a data type that NumPy does not support.
    """

    def image_at(index: int) -> Tensor:
        image = view.raw_image(int(index))
        _check_format(ItemFormat.of(image), item_format, index, any_size=size is not None)
        batch = item_format.to_tensor(image)[None]
        check_images(batch, f"item {index}")
        # A copy, since a dataset may return the same tensor with other values each time.
        return (batch if size is None else resize_images(batch, size))[0].clone()

    images = list(map_in_threads(image_at, indices)) if parallel else None
    with use_threads(1):
        return torch.stack(list(map(image_at, indices)) if images is None else images)


@use_threads(1)
def check_images(images: Tensor, name: str = "X") -> None:
    r"""Checks that all image values are finite, and that NumPy supports the data type.

    Args:
        images: The images on the CPU, with shape :math:`(N, *)`, where :math:`*` is the shape of an image.
        name: The name of the images in error messages.

    Raises:
        ValueError: If a value is not finite, or NumPy does not support the data type.
    """
    try:
        images[:0].numpy()
    except TypeError as error:
        raise ValueError(
            f"NumPy does not support the type of the images: {name} is of {images.dtype}. "
            f"Convert it: {name if name == 'X' else 'image'}.float()."
        ) from error
    for batch_index, batch in enumerate(images.split(CHECK_BATCH_SIZE) if images.dtype.is_floating_point else ()):
        if batch.isfinite().all():
            continue
        index = int((~batch.isfinite()).flatten(1).any(dim=1).nonzero()[0]) + batch_index * CHECK_BATCH_SIZE
        image_name = f"image {index} of {name}" if len(images) > 1 else name
        raise ValueError(
            f"Values are not finite: {image_name} holds NaN or infinity. Remove it, or replace these values."
        )


def check_unmasked(X: Any) -> None:
    r"""Checks that no value of an array is masked, since the mask would be lost.

    Raises:
        ValueError: If a value is masked.
    """
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"'X' is a masked array with {int(np.ma.getmaskarray(X).sum())} masked values, which would be used as if "
            f"they were valid. Replace them first: X.filled(value)."
        )


@use_threads(1)
def image_array(X: Any) -> Tensor:
    r"""Converts an array of images or feature vectors to a CPU tensor of the same shape.

    The tensor shares memory with ``X`` if possible, so never write to the tensor. For example, an array from
    ``numpy.load(path, mmap_mode="c")`` is not copied.

    Args:
        X: An array, tensor or list. The shape is :math:`(N, C, H, W)` or :math:`(N, H, W)` for :math:`N` images, and
            :math:`(N, F)` for :math:`N` vectors of :math:`F` features.

    Raises:
        TypeError, ValueError: If ``X`` is empty or not numeric, images differ in size, the shape is not allowed, the
            last axis seems to hold the channels, or a value is not finite.
    """
    check_unmasked(X)
    if isinstance(X, Tensor):
        images = X.detach().cpu()
    else:
        try:
            array = np.asarray(X)
            if array.dtype == object:
                # NumPy gives this type to a table whose columns have several types.
                array = array.astype(np.float64)
            if not array.dtype.isnative:
                array = array.astype(array.dtype.newbyteorder("="))
            # Not copied if possible, so that a mapped file stays on disk. Torch supports neither read-only arrays nor
            # strides that are negative or split an element.
            usable = array.flags.writeable and all(s >= 0 and s % array.itemsize == 0 for s in array.strides)
            images = torch.from_numpy(array if usable else np.array(array))
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"'X' cannot be converted to an array of numbers: {str(error).rstrip('.')}. Convert the values to "
                f"numbers. Pass images of several sizes as a dataset: gae_augment.data.ImageDataset(X, labels=y)."
            ) from error
    shape = tuple(images.shape)
    if images.dtype.is_complex:
        raise ValueError("Complex data not supported: 'X' must hold real numbers. Pass their real part or magnitude.")
    if not 2 <= images.ndim <= 4:
        raise ValueError(
            f"'X' has shape {shape} and type {images.dtype}, but must hold real numbers with shape (N, C, H, W), "
            f"(N, H, W) or (N, F). Add the missing axis, or reshape it."
        )
    if 0 in shape[1:]:
        raise ValueError(f"An image has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if not len(images):
        raise ValueError(f"'X' is empty: its shape is {shape}. Pass at least one image.")
    if images.ndim == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 2, 3, 4):
        raise ValueError(
            f"The channels seem to be last: 'X' has shape {shape}, but must have shape (N, C, H, W). "
            f"Move them: X.transpose(0, 3, 1, 2) for NumPy, X.permute(0, 3, 1, 2) for torch."
        )
    check_images(images)
    return images


@use_threads(1)
def append_samples(X: Any, y: Any, samples: Mapping[Any, Tensor]) -> tuple[Any, Any]:
    r"""Returns images and labels, followed by new images of each class and their labels.

    Each result is a tensor if the argument is a tensor, else a NumPy array. Data types stay as they are.

    Args:
        X: The images or vectors, with shape :math:`(N, *)`.
        y: The labels, with shape :math:`(N,)`.
        samples: The new images or vectors of each class, with shape :math:`(n, *)`, by label.
    """
    if not samples:
        return _append(X, None), _append(y, None)
    labels = np.repeat(np.array(list(samples)), list(map(len, samples.values())))
    return _append(X, torch.cat(list(samples.values())).numpy()), _append(y, labels)


def _append(original: Any, rows: np.ndarray | None) -> Any:
    if isinstance(original, Tensor):
        return original if rows is None else torch.cat([original, torch.from_numpy(rows).to(original)])
    array = np.asarray(original)
    return array if rows is None else np.concatenate([array, rows.astype(array.dtype)])
