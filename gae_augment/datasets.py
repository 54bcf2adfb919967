r"""A training set of real and synthetic images."""

__all__ = ["AugmentedDataset"]

import shutil
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from .reading import ItemFormat, class_names, raw_view, read_labels, transforms_of
from .seeding import derive_seed
from .strategy import Label, SamplingStrategy, resolve_strategy


class ImageSource(Protocol):
    r"""What makes synthetic images, as a fitted :class:`gae_augment.GAEAugmenter` does."""

    sampling_strategy: SamplingStrategy
    seed_: int

    def sample(self, label: Label, n: int, *, seed: int | None = None) -> Tensor: ...


class AugmentedDataset(VisionDataset):
    r"""A dataset's own items first, then synthetic ones, class by class, so many as the sampling strategy promises.

    It needs no ``wrap_dataset_for_transforms_v2``: wrap the dataset that it is made from.

    A synthetic item is an image in the form of the dataset's raw images (PIL image, tensor or array), put through the
    dataset's own transforms, and its label.

    Args:
        dataset: The real images: a map-style dataset of (image, label) pairs.
        augmenter: A fitted augmenter.
        transform: What every image, real and synthetic, is put through in place of the dataset's own transforms, or
            ``None`` for raw images. ``"same"`` keeps the dataset's own.
        images_to_add: The synthetic images of each class. By default the augmenter's strategy, applied to the
            dataset's labels.
        seed: What the synthetic images depend on; by default the augmenter's seed.

    Attributes:
        targets: The label of each item, a list.
        is_synthetic: Whether each item is synthetic, a Boolean array.
        classes: The names of the classes.
        class_to_idx: The label of each name.

    Raises:
        TypeError: If the dataset is not a map-style one.
        ValueError: If the augmenter was fitted to images of another shape or type, or has no generator for a class.
    """

    def __init__(
        self,
        dataset: Any,
        augmenter: ImageSource,
        *,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        images_to_add: Mapping[Label, int] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(root=getattr(dataset, "root", ""))
        labels = read_labels(dataset)
        self._raw = raw_view(dataset)
        self.dataset = dataset if transform == "same" else self._raw
        self.transform = None if transform == "same" else transform
        transforms_of(self.dataset)
        self.augmenter = augmenter
        self.seed = augmenter.seed_ if seed is None else seed
        if images_to_add is None:
            images_to_add = resolve_strategy(augmenter.sampling_strategy, labels)
        if min(images_to_add.values(), default=0) < 0:
            raise ValueError(
                f"'images_to_add' holds numbers of images, none below 0, and it is {dict(images_to_add)}. "
                f"Take real images away with torch.utils.data.Subset."
            )
        self.images_to_add = {label: number for label, number in images_to_add.items() if number}

        added = np.repeat(np.array(list(self.images_to_add), dtype=np.int64), list(self.images_to_add.values()))
        self.targets: list[int] = [*labels.tolist(), *added.tolist()]
        self.is_synthetic = np.arange(len(self.targets)) >= len(labels)
        names = class_names(dataset) or {}
        present = names or dict.fromkeys(np.unique(labels).tolist())
        self.class_to_idx = {names.get(label, str(label)): label for label in present}
        self.classes = list(self.class_to_idx)

        self._format = ItemFormat.of(self._raw[0][0])
        self._synthetic = self._draw(epoch=0)
        self.epoch = 0
        _share(self._synthetic)

    def _draw(self, epoch: int) -> Tensor:
        seed = derive_seed(self.seed, "augmented dataset", epoch)
        drawn = [self.augmenter.sample(label, number, seed=seed) for label, number in self.images_to_add.items()]
        images = torch.cat(drawn) if drawn else torch.empty(0, *self._format.shape, dtype=self._format.dtype)
        if tuple(images.shape[1:]) != self._format.shape or images.dtype != self._format.dtype:
            raise ValueError(
                f"The dataset's images have shape {self._format.shape} of {self._format.dtype}, and the augmenter was "
                f"fitted to {tuple(images.shape[1:])} of {images.dtype}. Fit it to this dataset."
            )
        return images

    def set_epoch(self, epoch: int) -> None:
        r"""Draws fresh synthetic images, the same ones for the same seed and epoch; epoch 0 is how it begins.

        Workers of a DataLoader see them too, persistent ones included, where the system has shared memory for all
        synthetic images.
        """
        if epoch != self.epoch:
            self._synthetic.copy_(self._draw(epoch))
            self.epoch = epoch

    def synthetic_images(self, label: int) -> Tensor:
        r"""Returns the synthetic images of a class, raw, with shape :math:`(n, *)`."""
        targets = np.array(self.targets)[self.is_synthetic]
        return self._synthetic[torch.from_numpy(targets == label)]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"The dataset has {len(self)} items, and there is none at {index}.")
        index = int(index) % len(self)
        own_transforms = self.transform is None
        if not self.is_synthetic[index]:
            image, _ = (self.dataset if own_transforms else self._raw)[index]
        else:
            image = self._format.from_tensor(self._synthetic[index - len(self) + len(self._synthetic)])
            for transform in transforms_of(self.dataset) if own_transforms else ():
                image, _ = transform(image, self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        return image, self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)

    def extra_repr(self) -> str:
        r"""Returns what ``repr`` says besides the number of items."""
        added = ", ".join(f"{label}: {number}" for label, number in self.images_to_add.items())
        return f"Synthetic: {len(self._synthetic)} ({added})\nReal: {self.dataset!r}".replace("\n", "\n    ")


def _share(tensor: Tensor) -> None:
    r"""Moves a tensor to memory that worker processes share, so that they see what :meth:`set_epoch` writes there.

    Where that memory is too small it stays: filling it up would kill the process.
    """
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = tensor.nbytes * 4
    if tensor.nbytes * 4 <= free and len(tensor):
        tensor.share_memory_()
