r"""Raw images of any dataset or array as tensors."""

__all__ = ["append_rows", "check_images", "image_array", "read_images"]

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._utils.threads import use_threads
from .formats import ItemFormat
from .items import ItemReader
from .transforms import raw_view

CHECKED_AT_ONCE = 1000
"""Images are checked in batches of this size, which bounds the memory."""


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
    items = ItemReader(raw_view(dataset))
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
    for part, own in enumerate(images.split(CHECKED_AT_ONCE) if images.dtype.is_floating_point else ()):
        if own.isfinite().all():
            continue
        first = int((~own.isfinite()).flatten(1).any(dim=1).nonzero()[0]) + part * CHECKED_AT_ONCE
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


def append_rows(original: Any, rows: np.ndarray | None) -> Any:
    r"""Returns an array or tensor with rows appended, in its own type; anything else becomes an array."""
    if isinstance(original, Tensor):
        return original if rows is None else torch.cat([original, torch.from_numpy(rows).to(original)])
    array = np.asarray(original)
    return array if rows is None else np.concatenate([array, rows.astype(array.dtype)])
