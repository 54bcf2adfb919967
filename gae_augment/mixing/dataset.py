r"""A training set of real and synthetic images."""

__all__ = ["AugmentedDataset"]

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.datasets import VisionDataset

from .._utils.checks import check_integer
from .._utils.seeding import derive_seed, global_seed
from ..data import DatasetView, Label, class_names, read_attribute, resolve_strategy
from ..motion import Motion
from .synthetic import ImageSource, SyntheticImages, apply_motion, move_each
from .teachers import Teacher, check_teacher, check_weight, soft_labels, teacher_logits


class AugmentedDataset(VisionDataset):
    r"""A dataset of real items, followed by synthetic items that are ordered by class.

    Labels must be integer class labels: datasets with boxes or masks cannot be augmented. If you use torchvision's
    ``wrap_dataset_for_transforms_v2``, wrap the real dataset, not the ``AugmentedDataset``.

    A synthetic item is an (image, label) pair. Before transforms, a synthetic image has the same type as a real image:
    PIL image, tensor or array.

    Args:
        dataset: The real images: a map-style dataset of (image, label) pairs.
        augmenter: The source of the synthetic images, usually a fitted :class:`gae_augment.GAEAugmenter`.
        transform: The transform of all images, real and synthetic. ``"same"`` keeps the dataset's transforms; ``None``
            applies no transform; a callable replaces the dataset's transforms.
        motion: A transform of raw images, usually :meth:`gae_augment.GAEAugmenter.motion`. It moves real images, and
            synthetic ones that are not deformed, before all other transforms. ``None`` moves no image.
        images_to_add: The number of synthetic images of each class, by label. By default the augmenter's sampling
            strategy is applied to the dataset's labels, and classes whose fit failed get no images.
        seed: The seed of the synthetic images; by default ``augmenter.seed_``.
        cache_dir: A folder for a memory-mapped file of the synthetic images, which can be larger than memory. By
            default the images are in memory. Worker processes and pickled copies share the file: if one process calls
            :meth:`set_epoch`, all processes see the new images. The file is deleted when the original
            ``AugmentedDataset`` is garbage-collected, or when Python exits.

    Attributes:
        targets: A list with the integer label of each item.
        is_synthetic: A Boolean array with one entry per item, true for synthetic items.
        classes: The names of the classes.
        class_to_idx: The label of each class, by class name.

    Raises:
        TypeError: If the dataset is not map-style.
        ValueError: If a number in ``images_to_add`` is negative, the augmenter was fitted to images of another shape or
            type, or the augmenter has no model of a class that needs synthetic images.
        OSError: If ``cache_dir`` is not writable or its disk is full.
    """

    def __init__(
        self,
        dataset: Any,
        augmenter: ImageSource,
        *,
        transform: Callable[[Any], Any] | Literal["same"] | None = "same",
        motion: Callable[[Any], Any] | None = None,
        images_to_add: Mapping[Label, int] | None = None,
        seed: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(root=read_attribute(dataset, "root") or "")
        if not callable(getattr(augmenter, "sample", None)):
            raise TypeError(
                f"'augmenter' is of type {type(augmenter).__name__}, but must be a fitted GAEAugmenter, or another "
                f"source of images with a method 'sample'."
            )
        if not (transform is None or transform == "same" or callable(transform)):
            raise TypeError(f"'transform' is {transform!r}, but must be a function of an image, 'same' or None.")
        self._view = DatasetView(dataset)
        if transform == "same":
            # Joined datasets with different transforms are an error.
            _ = self._view.transforms
        labels = self._view.labels
        self.dataset = dataset
        self._same_transforms = transform == "same"
        self.transform = None if transform == "same" else transform
        self.motion = motion
        self.augmenter = augmenter
        self.seed = augmenter.seed_ if seed is None else seed
        if images_to_add is None:
            # A class whose fit failed gets no synthetic images.
            failed = getattr(augmenter, "failures_", {})
            strategy = resolve_strategy(augmenter.sampling_strategy, labels)
            images_to_add = {label: number for label, number in strategy.items() if label not in failed}
        if not isinstance(images_to_add, Mapping):
            raise TypeError(
                f"'images_to_add' is {images_to_add!r}, but must be a mapping: {{label: number of images}}."
            )
        for label, number in images_to_add.items():
            check_integer(number, f"images_to_add[{label!r}]")
        if min(images_to_add.values(), default=0) < 0:
            raise ValueError(
                f"'images_to_add' is {dict(images_to_add)}, but numbers of images must not be negative. "
                f"Remove real images with torch.utils.data.Subset."
            )
        self.images_to_add = {label: number for label, number in images_to_add.items() if number}

        added = np.repeat(np.array(list(self.images_to_add), dtype=np.int64), list(self.images_to_add.values()))
        self.targets: list[int] = [*labels.tolist(), *added.tolist()]
        self.is_synthetic = np.arange(len(self.targets)) >= len(labels)
        names = class_names(dataset, labels) or {}
        present = names or dict.fromkeys(np.unique(labels).tolist())
        self.class_to_idx = {names.get(label, str(label)): label for label in present}
        self.classes = list(self.class_to_idx)

        self._teacher: tuple[Teacher, float] | None = None
        self._soft_labels: Tensor | None = None
        self._synthetic = SyntheticImages(self._view, augmenter, self.images_to_add, self.seed, cache_dir)
        self.epoch = 0

    @property
    def transform_functions(self) -> list[Any]:
        r"""The functions that turn a raw image into the image of an item, in the order in which they are applied."""
        functions = [getattr(slot, "function", slot) for slot in self._view.transforms] if self._same_transforms else []
        return functions if self.transform is None else [*functions, self.transform]

    @property
    def raw_images_repeat(self) -> bool:
        r"""Whether a real image, before its transforms, is the same whenever it is read."""
        return self._view.repeats

    @property
    def shares_images(self) -> bool:
        r"""Whether DataLoader workers already running see new images after :meth:`set_epoch` in the main process."""
        return self._synthetic.is_shared

    def set_epoch(self, epoch: int) -> None:
        r"""Draws new synthetic images for an epoch.

        With the same augmenter and seed, an epoch always has the same images. A new dataset has the images of epoch 0.
        DataLoader workers, even persistent ones, see the new images if :attr:`shares_images` is true. Soft labels
        are computed anew, with the teacher of :meth:`with_soft_labels`.

        Args:
            epoch: The number of the epoch. A call with the current epoch changes nothing.

        Raises:
            RuntimeError: If labels are soft and this dataset is a copy, because copies have no teacher.
        """
        if epoch == self.epoch:
            return
        if self._soft_labels is not None and self._teacher is None:
            raise RuntimeError(
                "This copy of a dataset with soft labels has no teacher, so fresh images cannot be labelled. "
                "Call with_soft_labels again, or call set_epoch on the original."
            )
        # After an interruption or a failing teacher, images and labels do not match. No epoch counts as drawn then, so
        # that the next call draws again.
        self.epoch = -1
        self._synthetic.draw(epoch)
        if self._soft_labels is not None and self._teacher is not None:
            self._soft_labels.copy_(self._teacher_labels(*self._teacher, epoch))
        self.epoch = epoch

    def with_soft_labels(self, teacher: Teacher, weight: float = 0.5) -> Self:
        r"""Replaces integer labels by soft labels (class probabilities) in place, and returns this dataset.

        A synthetic image can look like an image of another class. A teacher, which is a classifier trained on the real
        images alone, can recognise such an image. The soft label of a synthetic image mixes the one-hot vector of its
        class with the teacher's probabilities, as in :func:`gae_augment.mixing.soft_labels`. The soft label of a real
        image is one-hot. ``targets`` remains a list of integers. ``torch.nn.functional.cross_entropy`` (without class
        weights) and torchvision's ``MixUp`` and ``CutMix`` accept soft labels.

        This method, and each later :meth:`set_epoch`, applies the teacher once to every synthetic image, after all
        transforms. If transforms are random, the teacher sees one random version of the image, which depends on the
        seed and the epoch.

        Call this method before DataLoader workers start, because running workers may keep the old labels. Copies of the
        dataset do not hold the teacher.

        Args:
            teacher: A function from a batch of :math:`B` transformed images to logits of shape :math:`(B, C)`, where
                :math:`C` is the number of classes. A ``torch.nn.Module`` runs in evaluation mode on the device of its
                parameters. Any other function must itself set the evaluation mode and use the right device.
            weight: The weight of the teacher's probabilities in the soft labels, in [0, 1].

        Raises:
            TypeError: If the teacher is not callable, or transformed images or logits are not tensors.
            ValueError: If the weight is out of range, a label is negative, the logits have no column for a label, or
                the logits are not finite.

        Example:
            >>> from gae_augment import GAEAugmenter, GenerativeModel
            >>> X = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0))
            >>> training_set = torch.utils.data.TensorDataset(X, torch.tensor([0] * 40 + [1] * 20))
            >>> augmenter = GAEAugmenter(GenerativeModel(epochs=20), random_state=0, progress=False).fit(training_set)
            >>> augmented = augmenter.augment(training_set)
            >>> augmented = augmented.with_soft_labels(lambda images: images.flatten(1)[:, :2], weight=0.5)
            >>> augmented[0][1]
            tensor([1., 0.])
            >>> augmented.targets[-1], bool(0.5 < augmented[-1][1][1] < 1)
            (1, True)
        """
        check_teacher(teacher)
        check_weight(weight, "weight")
        if min(self.targets) < 0:
            raise ValueError(
                f"The smallest label is {min(self.targets)}, but soft labels need labels from 0 on, the columns of the "
                f"logits. Number the classes from 0."
            )
        labels = self._teacher_labels(teacher, weight, self.epoch)
        if self._soft_labels is not None and self._soft_labels.shape == labels.shape:
            # Running workers see the new labels only if they are written in place.
            self._soft_labels.copy_(labels)
        else:
            # Workers that do not see fresh images must not see the labels of these images.
            self._soft_labels = labels.share_memory_() if self._synthetic.is_shared else labels
        self._teacher = teacher, weight
        return self

    def _teacher_labels(self, teacher: Teacher, weight: float, epoch: int) -> Tensor:
        r"""Returns the soft labels of the :math:`n` synthetic images, with shape :math:`(n, C)` for :math:`C` classes.

        The seed of random transforms depends on ``epoch``.
        """
        labels = torch.tensor(self.targets)[torch.from_numpy(self.is_synthetic)]
        # Without synthetic images, the teacher's logits of one real image give the number of classes.
        indices = np.flatnonzero(self.is_synthetic).tolist() if len(labels) else [0]
        with global_seed(derive_seed(self.seed, "teacher", epoch)):
            images = (self._image(index) for index in indices)
            logits = teacher_logits(teacher, images, min_classes=max(self.targets) + 1)
        return soft_labels(labels, logits[: len(labels)], weight)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes need only the soft labels; the teacher may be on a GPU or belong to a trainer.
        return {**self.__dict__, "_teacher": None}

    def source_of(self, index: int) -> int | None:
        r"""Returns the index of the real item that an item was made from.

        A deformed image is a real image that was moved. A real item is its own source. A decoded or residual image has
        no recorded source, so the result is ``None``.
        """
        index = self._checked(index)
        return self._synthetic.source_of(self._synthetic_index(index)) if self.is_synthetic[index] else index

    def motion_of(self, index: int) -> Tensor | None:
        r"""Returns the velocity field of a deformed item, with shape :math:`(1, 2, 8, 8)`, or ``None`` for others."""
        index = self._checked(index)
        return self._synthetic.motion_of(self._synthetic_index(index)) if self.is_synthetic[index] else None

    def raw_image(self, index: int) -> Any:
        r"""Returns the image of an item before motions of real images and before transforms.

        A deformed image is moved already. The format is that of the real images.
        """
        index = self._checked(index)
        if self.is_synthetic[index]:
            return self._synthetic[self._synthetic_index(index)]
        return self._view.raw_image(index, seeded=False)

    def synthetic_images(self, label: int, n: int | None = None, size: tuple[int, int] | None = None) -> Tensor:
        r"""Returns synthetic images of a class, before transforms, in one tensor with a row per image.

        Args:
            label: The label of the class.
            n: The maximum number of images. ``None`` returns all.
            size: The height and width to which images are resized. ``None`` requires that all have one size.

        Raises:
            ValueError: If ``size`` is ``None`` and the images differ in size, as deformed images of a folder of
                photographs may.
        """
        targets = np.array(self.targets)[self.is_synthetic]
        return self._synthetic.tensor(np.flatnonzero(targets == label)[:n], size)

    def __getitem__(self, index: int) -> tuple[Any, int | Tensor]:
        index = self._checked(index)
        return self._item(self._image(index), index)

    def _item(self, image: Any, index: int) -> tuple[Any, int | Tensor]:
        label = self.targets[index]
        if self._soft_labels is None:
            return image, label
        if self.is_synthetic[index]:
            return image, self._soft_labels[self._synthetic_index(index)].clone()
        return image, functional.one_hot(torch.tensor(label), self._soft_labels.shape[1]).to(self._soft_labels)

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Index {index} is out of range: the dataset has {len(self)} items.")
        return int(index) % len(self)

    def __getitems__(self, indices: Iterable[int]) -> list[tuple[Any, int | Tensor]]:
        r"""Returns the items at several indices, faster than one call per item.

        DataLoader calls this method for each batch.
        """
        indices = list(map(int, indices))
        n_real = len(self) - len(self._synthetic)
        # A subclass may override __getitem__.
        overridden = type(self).__getitem__ is not AugmentedDataset.__getitem__
        if overridden or not indices or min(indices) < 0 or max(indices) >= len(self):
            return [self[index] for index in indices]
        if isinstance(self.motion, Motion):
            return [self._item(image, index) for image, index in zip(self._moved_images(indices), indices, strict=True)]
        if self._soft_labels is not None or self.transform is not None or self.motion is not None:
            return [self[index] for index in indices]
        targets, transforms = self.targets, self._view.transforms if self._same_transforms else ()
        # The data sets of torchvision are not slowed down by a check.
        dataset = self.dataset if self._same_transforms and self._view.trusted else None
        images = self._synthetic.images([index - n_real for index in indices if index >= n_real])

        def next_synthetic(label: int) -> Any:
            image = next(images)
            for transform in transforms:
                image = transform(image, label)
            return image

        def real(index: int) -> Any:
            return self._real_image(index) if dataset is None else dataset[index][0]

        return [
            (real(index) if index < n_real else next_synthetic(targets[index]), targets[index]) for index in indices
        ]

    def _synthetic_index(self, index: int) -> int:
        r"""Converts the index of a synthetic item in the dataset to its index among the synthetic items."""
        return index - len(self) + len(self._synthetic)

    def _image(self, index: int) -> Any:
        if self.motion is None and not self.is_synthetic[index]:
            image = self._real_image(index)
            return image if self.transform is None else self.transform(image)
        image = self.raw_image(index)
        if self.motion is not None and self._moves(index):
            # torchvision's transforms return arrays unchanged.
            image = apply_motion(self.motion, image) if isinstance(self.motion, Motion) else self.motion(image)
        return self._transformed(image, index)

    def _moved_images(self, indices: list[int]) -> list[Any]:
        assert isinstance(self.motion, Motion)
        raw = (self.raw_image(index) for index in indices)
        images = move_each(self.motion, raw, map(self._moves, indices))
        return [self._transformed(image, index) for image, index in zip(images, indices, strict=True)]

    def _moves(self, index: int) -> bool:
        r"""Returns whether a motion may move an item. A deformed image is moved already."""
        return not (self.is_synthetic[index] and self._synthetic.is_deformed[self._synthetic_index(index)])

    def _transformed(self, image: Any, index: int) -> Any:
        r"""Returns an image after the transforms of the dataset, and the transform of all images."""
        for transform in self._view.transforms if self._same_transforms else ():
            image = transform(image, self.targets[index])
        return image if self.transform is None else self.transform(image)

    def _real_image(self, index: int) -> Any:
        if not self._same_transforms:
            # A dataset that augments its images itself goes on doing so.
            return self._view.raw_image(index, seeded=False)
        image, label = self.dataset[index]
        if not self._view.trusted and int(label) != self.targets[index]:
            raise ValueError(
                f"Item {index} of the dataset has label {int(label)}, but had or listed label {self.targets[index]} "
                f"when the augmented dataset was created. Pass the right labels: "
                f"gae_augment.data.ImageDataset(dataset, labels=…)."
            )
        return image

    def __len__(self) -> int:
        return len(self.targets)

    def extra_repr(self) -> str:
        r"""Returns the text that this class adds to ``repr``: the numbers of synthetic images, and the real dataset."""
        added = ", ".join(f"{label}: {number}" for label, number in self.images_to_add.items())
        return f"Synthetic: {len(self._synthetic)} ({added})\nReal: {self.dataset!r}".replace("\n", "\n    ")
