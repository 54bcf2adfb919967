r"""A training set of real and synthetic images."""

__all__ = ["AugmentedDataset"]

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.datasets import VisionDataset

from .._utils.seeding import derive_seed, global_seed
from .._utils.storage import ImageFile, index_images
from .._utils.threads import use_threads
from ..data import (
    ItemFormat,
    Label,
    SamplingStrategy,
    class_names,
    raw_view,
    read_labels,
    resolve_strategy,
    transforms_of,
)
from .soft_labels import Teacher, ask, check_teacher, check_weight, soft_labels


class ImageSource(Protocol):
    r"""What makes synthetic images, as a fitted :class:`gae_augment.GAEAugmenter` does.

    ``out`` is where they are wanted; images that are returned elsewhere are copied there.
    """

    sampling_strategy: SamplingStrategy
    seed_: int

    def sample(self, label: Label, n: int, *, seed: int | None = None, out: Tensor | None = None) -> Tensor: ...


class AugmentedDataset(VisionDataset):
    r"""A dataset's own items first, then synthetic ones, class by class, so many as the sampling strategy promises.

    It needs no ``wrap_dataset_for_transforms_v2``, which the dataset that it is made from may be put through before.
    Labels are classes: items with boxes or masks cannot be augmented.

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
        cache_dir: A folder for a file of the synthetic images that is mapped into memory, for more of them than fit
            there. Worker processes and pickled copies see the same file, and what ``set_epoch`` of one of them draws;
            it is removed with the dataset.

    Attributes:
        targets: The label of each item, a list.
        is_synthetic: Whether each item is synthetic, a Boolean array.
        classes: The names of the classes.
        class_to_idx: The label of each name.

    Raises:
        TypeError: If the dataset is not a map-style one.
        ValueError: If the augmenter was fitted to images of another shape or type, or has no generator for a class.
        OSError: If ``cache_dir`` cannot be written to, or has no room.
    """

    def __init__(
        self,
        dataset: Any,
        augmenter: ImageSource,
        *,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        images_to_add: Mapping[Label, int] | None = None,
        seed: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
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
            # A class that could not be learned stays without.
            failed = getattr(augmenter, "failures_", {})
            strategy = resolve_strategy(augmenter.sampling_strategy, labels)
            images_to_add = {label: number for label, number in strategy.items() if label not in failed}
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

        self._teacher: tuple[Teacher, float] | None = None
        self._soft: Tensor | None = None
        self._format = ItemFormat.of(self._raw[0][0])
        shape, dtype = (len(added), *self._format.shape), self._format.dtype
        self._file = None if cache_dir is None or not len(added) else ImageFile(cache_dir, shape, dtype)
        self._synthetic = torch.empty(shape, dtype=dtype) if self._file is None else self._file.tensor
        if self._file is None:
            _share(self._synthetic)
        try:
            self._draw(epoch=0)
        except BaseException:
            if self._file is not None:
                # The traceback keeps the dataset.
                self._file.remove()
            raise
        self.epoch = 0

    def _draw(self, epoch: int) -> None:
        seed = derive_seed(self.seed, "augmented dataset", epoch)
        start = 0
        for label, number in self.images_to_add.items():
            wanted = self._synthetic[start : start + number]
            made = self.augmenter.sample(label, number, seed=seed, out=wanted)
            if made is not wanted:
                if made.shape != wanted.shape or made.dtype != wanted.dtype:
                    raise ValueError(
                        f"The images that are wanted have shape {tuple(wanted.shape)} of {wanted.dtype}, and the "
                        f"augmenter made {tuple(made.shape)} of {made.dtype}. Fit it to this dataset."
                    )
                wanted.copy_(made)
            start += number

    @property
    def shares_images(self) -> bool:
        r"""Whether worker processes of a loader see the images that :meth:`set_epoch` draws in this one."""
        return self._file is not None or self._synthetic.is_shared() or not len(self._synthetic)

    def set_epoch(self, epoch: int) -> None:
        r"""Draws fresh synthetic images, the same ones for the same seed and epoch; epoch 0 is how it begins.

        Workers of a DataLoader see them too, persistent ones included, where the system has shared memory for all
        synthetic images. A teacher labels them anew.

        Raises:
            RuntimeError: If labels are soft and this is a copy, which has no teacher.
        """
        if epoch == self.epoch:
            return
        if self._soft is not None and self._teacher is None:
            raise RuntimeError(
                "A copy of a dataset with soft labels does not hold the teacher, so that fresh images would stay "
                "without labels. Call soften again, or set_epoch of the original."
            )
        # Should it be broken off, or the teacher fail, images and labels do not belong together, and no epoch counts as
        # drawn.
        self.epoch = -1
        self._draw(epoch)
        if self._soft is not None and self._teacher is not None:
            self._soft.copy_(self._ask(*self._teacher, epoch))
        self.epoch = epoch

    def with_soft_labels(self, teacher: Teacher, weight: float = 0.5) -> Self:
        r"""Makes all labels probabilities, in which a teacher has a say for synthetic images; returns the dataset.

        An image that was made for a class may look like another one. A classifier that was trained on the real images
        alone, in the same way, may know better: the label of a synthetic image is then as
        :func:`gae_augment.mixing.soft_labels.soft_labels` says. Real images keep theirs, as probabilities of 0 and 1.
        ``torch.nn.functional.cross_entropy`` without class weights and torchvision's ``MixUp`` and ``CutMix`` take such
        labels as they are. ``targets`` stays a list of integers.

        The teacher is asked once for each image, and again by :meth:`set_epoch`. It sees the items: where transforms
        are random, one draw of them, which depends on the seed and the epoch. Worker processes that run already go on
        with integers; if labels are soft already, they see the new ones. Copies do not hold the teacher.

        Args:
            teacher: From a batch of images, in the form of the items and with shape :math:`(B, *)`, to logits of shape
                :math:`(B, C)`. A module is asked in evaluation mode, on its own device; a function that calls one sees
                to both itself.
            weight: The teacher's say, in [0, 1].

        Raises:
            TypeError: If the teacher cannot be called, or images or logits are no tensors.
            ValueError: If the weight is out of its range, labels are below 0, or the logits do not have a column for
                every label or are not finite.

        Example:
            >>> from gae_augment import GAEAugmenter
            >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
            >>> training_set = torch.utils.data.TensorDataset(X, torch.tensor([0] * 40 + [1] * 20))
            >>> augmenter = GAEAugmenter(epochs=2, delta=1.0, random_state=0, progress=False).fit(training_set)
            >>> augmented = augmenter.augment(training_set).with_soft_labels(lambda images: images.flatten(1)[:, :2], weight=0.5)
            >>> augmented[0][1]
            tensor([1., 0.])
            >>> augmented.targets[-1], bool(0.5 < augmented[-1][1][1] < 1)
            (1, True)
        """
        check_teacher(teacher)
        check_weight(weight, "weight")
        if min(self.targets) < 0:
            raise ValueError(
                f"Soft labels are for labels from 0 on, the columns of the logits, and there is {min(self.targets)}. "
                f"Number the classes from 0."
            )
        soft = self._ask(teacher, weight, self.epoch)
        if self._soft is not None and self._soft.shape == soft.shape:
            # Where workers look.
            self._soft.copy_(soft)
        else:
            # Workers that do not see fresh images must not see their labels.
            self._soft = soft.share_memory_() if self._synthetic.is_shared() else soft
        self._teacher = teacher, weight
        return self

    def _ask(self, teacher: Teacher, weight: float, epoch: int) -> Tensor:
        r"""Returns the soft labels of the synthetic images."""
        labels = torch.tensor(self.targets)[torch.from_numpy(self.is_synthetic)]
        # Without synthetic images any one tells the number of classes.
        asked = np.flatnonzero(self.is_synthetic).tolist() if len(labels) else [0]
        with global_seed(derive_seed(self.seed, "teacher", epoch)):
            logits = ask(teacher, (self._image(index) for index in asked), wanted=max(self.targets) + 1)
        return soft_labels(labels, logits[: len(labels)], weight)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes need the soft labels, and not the teacher, which may be on a GPU or tied to a trainer.
        state = {**self.__dict__, "_teacher": None}
        if self._file is not None:
            # They find the images in the file.
            del state["_synthetic"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._file is not None:
            self._synthetic = self._file.tensor

    def synthetic_images(self, label: int) -> Tensor:
        r"""Returns the synthetic images of a class, raw, with shape :math:`(n, *)`."""
        targets = np.array(self.targets)[self.is_synthetic]
        return index_images(self._synthetic, targets == label)

    def __getitem__(self, index: int) -> tuple[Any, int | Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"The dataset has {len(self)} items, and there is none at {index}.")
        index = int(index) % len(self)
        image, label = self._image(index), self.targets[index]
        if self._soft is None:
            return image, label
        if self.is_synthetic[index]:
            return image, self._soft[self._place(index)].clone()
        return image, functional.one_hot(torch.tensor(label), self._soft.shape[1]).to(self._soft)

    def __getitems__(self, indices: Iterable[int]) -> list[tuple[Any, int | Tensor]]:
        r"""Returns several items, as loaders ask for them: what does not depend on the item is done once for all."""
        indices = list(map(int, indices))
        real = len(self) - len(self._synthetic)
        # A subclass may have items of its own.
        own_items = type(self).__getitem__ is AugmentedDataset.__getitem__
        plain = own_items and self._soft is None and self.transform is None
        if not plain or not indices or min(indices) < 0 or max(indices) >= len(self):
            return [self[index] for index in indices]
        dataset, targets, transforms = self.dataset, self.targets, transforms_of(self.dataset)
        copies: Sequence[Tensor] = ()
        if places := [index - real for index in indices if index >= real]:
            # A copy: what becomes of an item must not reach the dataset. NumPy's, as torch would wake all its threads.
            as_bytes = self._synthetic.view(torch.uint8).numpy()[places]
            copies = torch.from_numpy(as_bytes).view(self._synthetic.dtype).unbind()
        made = iter(copies) if self._format.container == "tensor" else map(self._format.from_tensor, copies)

        def synthetic(label: int) -> Any:
            image = next(made)
            for transform in transforms:
                image, _ = transform(image, label)
            return image

        return [(dataset[index][0] if index < real else synthetic(targets[index]), targets[index]) for index in indices]

    def _place(self, index: int) -> int:
        r"""Returns the place of an item among the synthetic ones."""
        return index - len(self) + len(self._synthetic)

    def _image(self, index: int) -> Any:
        own_transforms = self.transform is None
        if not self.is_synthetic[index]:
            image, _ = (self.dataset if own_transforms else self._raw)[index]
        else:
            image = self._format.from_tensor(self._synthetic[self._place(index)])
            for transform in transforms_of(self.dataset) if own_transforms else ():
                image, _ = transform(image, self.targets[index])
        return image if self.transform is None else self.transform(image)

    def __len__(self) -> int:
        return len(self.targets)

    def extra_repr(self) -> str:
        r"""Returns what ``repr`` says besides the number of items."""
        added = ", ".join(f"{label}: {number}" for label, number in self.images_to_add.items())
        return f"Synthetic: {len(self._synthetic)} ({added})\nReal: {self.dataset!r}".replace("\n", "\n    ")


@use_threads(1)
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
