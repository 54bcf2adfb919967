r"""The synthetic images of a training set: pixels, or real images with motions."""

__all__ = ["ImageSource", "SyntheticImages", "apply_motion", "move_each"]

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .._utils.seeding import balanced_draw, derive_seed
from .._utils.storage import ImageFile, index_images
from .._utils.threads import use_threads
from ..data import DatasetView, ItemFormat, Label, SamplingStrategy, resize_images
from ..motion import VALUES_TOGETHER, Motion, move


class ImageSource(Protocol):
    r"""Protocol of a source of synthetic images, such as a fitted :class:`gae_augment.GAEAugmenter`.

    A source may have another method, ``motions_for(label, n, *, seed)``. It returns the velocity fields of ``n``
    deformed images of a class, with shape :math:`(n, 2, 8, 8)`, or ``None`` if :meth:`sample` makes the images of the
    class.

    Attributes:
        sampling_strategy: Which classes get synthetic images, and how many, as in imbalanced-learn's over-samplers.
        seed_: The default seed of an :class:`AugmentedDataset`.
    """

    sampling_strategy: SamplingStrategy
    seed_: int

    def sample(self, label: Label, n: int, *, seed: int | None = None, out: Tensor | None = None) -> Tensor:
        r"""Returns ``n`` synthetic images of a class, with shape :math:`(n, *)`.

        The images have the shape, data type and value range of the real images before any transform.

        Args:
            label: The label of the class.
            n: The number of images.
            seed: The seed of the images; ``None`` lets this method choose a seed.
            out: A tensor that this method may fill with the images and return, to save memory. The method may return a
                new tensor instead.
        """


class SyntheticImages:
    r"""The synthetic images of a training set, class by class, before any transform.

    Decoded and residual images are stored as pixels. A deformed image is stored as the index of a real image and a
    velocity field, which take 264 bytes whatever its size. The real image is read and moved when the deformed image is
    asked for.

    Args:
        view: The real images.
        source: The source of synthetic images.
        images_to_add: The number of images of each class, by label.
        seed: The seed of the images.
        cache_dir: A folder for a memory-mapped file of the pixels. ``None`` keeps them in memory.

    Raises:
        ValueError: If the source's images have another shape or type than the real ones, or a class without real images
            would get deformed ones.
        OSError: If ``cache_dir`` is not writable or its disk is full.
    """

    def __init__(
        self,
        view: DatasetView,
        source: ImageSource,
        images_to_add: Mapping[Label, int],
        seed: int,
        cache_dir: str | os.PathLike[str] | None,
    ) -> None:
        self._view, self._seed = view, seed
        self._source: Any = source
        self._numbers = dict(images_to_add)
        motions_for = getattr(source, "motions_for", lambda label, n, seed: None)
        deformed = [label for label in images_to_add if motions_for(label, 1, seed=0) is not None]
        self._real = {label: np.flatnonzero(view.labels == label) for label in deformed}
        for label, indices in self._real.items():
            if not len(indices):
                raise ValueError(
                    f"Class {label!r} has no real image in this dataset, but deformed images are real ones, moved. "
                    f"Leave the class out of 'images_to_add'."
                )
        self.format = ItemFormat.of(view.raw_image(0))
        self._labels = np.repeat(np.array(list(images_to_add), dtype=np.int64), list(images_to_add.values()))
        self.is_deformed = np.isin(self._labels, deformed)
        # The position of each image among the deformed ones, or among the others.
        self._slots = np.where(self.is_deformed, self.is_deformed.cumsum(), (~self.is_deformed).cumsum()) - 1
        n_deformed = int(self.is_deformed.sum())
        self._fields = torch.empty(n_deformed, 2, 8, 8, dtype=torch.float16)
        self._sources = torch.empty(n_deformed, dtype=torch.int64)
        shape, dtype = (len(self) - n_deformed, *self.format.shape), self.format.dtype
        self._file = None if cache_dir is None or not shape[0] else ImageFile(cache_dir, shape, dtype)
        self._pixels = torch.empty(shape, dtype=dtype) if self._file is None else self._file.tensor
        for tensor in self._in_memory:
            _share_memory(tensor)
        try:
            self.draw(epoch=0)
        except BaseException:
            if self._file is not None:
                # The traceback keeps this object alive, so the file would stay.
                self._file.remove()
            raise

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def _in_memory(self) -> list[Tensor]:
        return [self._fields, self._sources, *([] if self._file else [self._pixels])]

    @property
    def is_shared(self) -> bool:
        r"""Whether DataLoader workers already running see the images of the next :meth:`draw` in the main process."""
        return all(tensor.is_shared() or not len(tensor) for tensor in self._in_memory)

    def draw(self, epoch: int) -> None:
        r"""Draws the images of an epoch, in place."""
        seed = derive_seed(self._seed, "augmented dataset", epoch)
        pixels, deformed = 0, 0
        for label, number in self._numbers.items():
            if label in self._real:
                rows = slice(deformed, deformed + number)
                deformed += number
                self._fields[rows] = self._source.motions_for(label, number, seed=seed)
                chosen = balanced_draw(len(self._real[label]), number, derive_seed(seed, "sources", label))
                self._sources[rows] = torch.from_numpy(self._real[label])[chosen]
            else:
                self._sample(label, self._pixels[pixels : pixels + number], seed)
                pixels += number

    def _sample(self, label: Label, out: Tensor, seed: int) -> None:
        images = self._source.sample(label, len(out), seed=seed, out=out)
        if images is out:
            return
        if images.shape != out.shape or images.dtype != out.dtype:
            raise ValueError(
                f"The augmenter generated images of shape {tuple(images.shape)} and type {images.dtype}, but the "
                f"dataset needs {tuple(out.shape)} and {out.dtype}. Fit the augmenter to this dataset."
            )
        out.copy_(images)

    def source_of(self, index: int) -> int | None:
        r"""Returns the index of the real image that a deformed image was, or ``None`` for an image of another kind."""
        return int(self._sources[self._slots[index]]) if self.is_deformed[index] else None

    def motion_of(self, index: int) -> Tensor | None:
        r"""Returns the velocity field of a deformed image, or ``None`` for an image of another kind."""
        return self._fields[self._slots[index]].float()[None] if self.is_deformed[index] else None

    def __getitem__(self, index: int) -> Any:
        r"""Returns a new copy of an image, in the format of the real images."""
        slot, v = int(self._slots[index]), self.motion_of(index)
        if v is None:
            return self.format.from_tensor(self._pixels[slot])
        return apply_motion(lambda image: move(image, v), self._view.raw_image(int(self._sources[slot])))

    def images(self, indices: Sequence[int]) -> Iterator[Any]:
        r"""Yields new copies of images, faster than one by one if they are pixels."""
        if not indices or self.is_deformed[indices].any():
            return map(self.__getitem__, indices)
        # NumPy copies: torch would wake threads.
        image_bytes = self._pixels.view(torch.uint8).numpy()[self._slots[indices]]
        copies = torch.from_numpy(image_bytes).view(self._pixels.dtype).unbind()
        return iter(copies) if self.format.container == "tensor" else map(self.format.from_tensor, copies)

    def tensor(self, indices: np.ndarray, size: tuple[int, int] | None = None) -> Tensor:
        r"""Returns images as one tensor with a row per image.

        Args:
            indices: The indices of the images.
            size: The height and width to which images are resized. ``None`` requires that all have one size.

        Raises:
            ValueError: If ``size`` is ``None`` and the images differ in size.
        """
        if not self.is_deformed[indices].any():
            pixels = index_images(self._pixels, self._slots[indices])
            return pixels if size is None else resize_images(pixels, size)
        tensors = [ItemFormat.of(image).to_tensor(image) for image in map(self.__getitem__, indices)]
        if size is not None:
            tensors = [resize_images(tensor[None], size)[0] for tensor in tensors]
        if len({tensor.shape for tensor in tensors}) > 1:
            raise ValueError(
                "The images differ in size, so they do not fit into one tensor. Read them one by one, or pass 'size'."
            )
        return torch.stack(tensors)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._file is not None:
            # Worker processes map the pixels from the file.
            del state["_pixels"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._file is not None:
            self._pixels = self._file.tensor


def apply_motion(motion: Callable[[Any], Any], image: Any) -> Any:
    r"""Returns an image moved by a function of PIL images and tensors. An array is moved by way of a tensor."""
    if not isinstance(image, np.ndarray):
        return motion(image)
    item_format = ItemFormat.of(image)
    return item_format.from_tensor(motion(item_format.to_tensor(image)))


def move_each(motion: Motion, images: Iterable[Any], moves: Iterable[bool]) -> Iterator[Any]:
    r"""Yields images. Those that ``moves`` marks are moved, each by a motion of its own, with the motion's probability.

    Small images are moved together. A large one is yielded before the next is read, so that a batch of photographs is
    never in memory at full size.
    """
    group: list[tuple[Any, bool]] = []
    values = 0
    for image, is_moving in zip(images, moves, strict=True):
        group.append((image, is_moving))
        values += _number_of_values(image)
        if values >= VALUES_TOGETHER:
            yield from _moved_together(motion, group)
            group, values = [], 0
    yield from _moved_together(motion, group)


def _moved_together(motion: Motion, group: Sequence[tuple[Any, bool]]) -> Iterator[Any]:
    formats = [ItemFormat.of(image) if isinstance(image, np.ndarray) else None for image, _ in group]
    # torchvision's transforms return arrays unchanged.
    movable = [
        image if one is None else one.to_tensor(image)
        for (image, is_moving), one in zip(group, formats, strict=True)
        if is_moving
    ]
    moved = iter(motion.move_each(movable))
    for (image, is_moving), one in zip(group, formats, strict=True):
        result = next(moved) if is_moving else image
        yield one.from_tensor(result) if is_moving and one is not None else result


def _number_of_values(image: Any) -> int:
    if isinstance(image, Image.Image):
        return len(image.getbands()) * image.width * image.height
    return image.numel() if isinstance(image, Tensor) else np.asarray(image).size


@use_threads(1)
def _share_memory(tensor: Tensor) -> None:
    r"""Moves a tensor to shared memory, so that DataLoader workers see later changes of the tensor.

    A tensor larger than a quarter of the free shared memory is not moved, because a process that fills shared memory is
    killed.
    """
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = tensor.nbytes * 4
    if tensor.nbytes * 4 <= free and len(tensor):
        tensor.share_memory_()
