r"""A motion whose strength follows from the errors of the classifier that is trained."""

__all__ = ["MAX_ADAPTED", "PROBES", "STEP", "AdaptiveMotion", "adapted_strength"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from .._utils.checks import check_integer, check_number
from .._utils.modules import evaluation_mode
from .._utils.seeding import derive_seed, global_seed, make_generator
from ..data import read_attribute, read_labels
from .bank import MAX_STRENGTH, MotionBank
from .transform import Motion

MAX_ADAPTED = 1.5
"""The largest strength by default. Without standard maps, it gained most of the fixed ones measured."""

STEP = 0.25
"""The change of the strength in one update."""

MARGIN = 0.25
"""The strength rises if there are more errors on moved images than on unmoved ones by more than this fraction."""

PROBES = 500
"""The number of training images that an update compares, shared equally among the classes."""

BATCH_SIZE = 100
"""The number of images in a batch of an update."""


def adapted_strength(
    strength: float, unmoved_errors: int, moved_errors: int, max_strength: float = MAX_ADAPTED
) -> float:
    r"""Returns the strength after an update.

    Moved images are nearly new to the classifier. If it errs more on them than on the same images unmoved, it has
    learned its training images by heart and has not learned the motions, so they can teach it something. If it errs as
    often on both, it knows the motions already, for instance from affine maps of the user's own, and they only make
    training harder.

    Let :math:`e_0` and :math:`e_1` be the numbers of errors on the same images, unmoved and moved. The strength rises
    by 0.25 if :math:`e_1 > 1.25 \, e_0`, and else falls by 0.25.

    Args:
        strength: The strength so far.
        unmoved_errors: The number of errors :math:`e_0`.
        moved_errors: The number of errors :math:`e_1`, on images moved with strength 1.
        max_strength: The largest strength; the smallest is 0.
    """
    step = STEP if moved_errors > (1 + MARGIN) * unmoved_errors else -STEP
    return min(max(strength + step, 0.0), max_strength)


class AdaptiveMotion(Motion):
    r"""A :class:`Motion` whose strength rises while motions can teach the classifier something, and else falls.

    The strength is 0 at first. Call :meth:`update` after each epoch. It needs no validation images: it compares the
    classifier's errors on some training images with its errors on the same images moved, see
    :func:`adapted_strength`. The images of all classes have one strength, because a classifier can mistake a moved
    image for one of a class whose images move more.

    An adaptive strength avoids the cost of motions on top of other maps. It does not notice motions that change what an
    image means, as of text: its strength would rise.

    DataLoader workers, even persistent ones, see a new strength at once. The strength and the number of updates are in
    :meth:`~torch.nn.Module.state_dict`.

    Args:
        bank: The motions.
        p: The probability that a call moves its images.
        max_strength: The largest strength, from 0 to 3.
        per_image: Whether each image of a batch gets a motion of its own, as in :class:`Motion`.
        seed: The seed of the choice of training images in updates, and of their motions.

    Attributes:
        errors_: The fractions of errors in the latest update: on unmoved and on moved images. ``None`` before the first
            update.

    Raises:
        TypeError, ValueError: If a number has another type or is out of range.

    References:
        | CUDA: curriculum of data augmentation for long-tailed recognition (Ahn et al., 2023), whose levels rise with
          the number of right answers. Here errors on unmoved images are the measure, because the number of right
          answers depends on the data set and on the progress of training.
        | https://arxiv.org/abs/2302.05499
    """

    updates: Tensor
    _strength: Tensor

    def __init__(
        self,
        bank: MotionBank,
        p: float = 0.5,
        *,
        max_strength: float = MAX_ADAPTED,
        per_image: bool = False,
        seed: int = 0,
    ) -> None:
        check_number(max_strength, "max_strength", 0, MAX_STRENGTH)
        check_integer(seed, "seed")
        super().__init__(bank, 0.0, p, per_image=per_image)
        self.max_strength = max_strength
        self.seed = seed
        self.errors_: tuple[float, float] | None = None
        self._probe: float | None = None
        self._probed = 0
        self._labels: tuple[Any, np.ndarray] | None = None

    @property
    def strength(self) -> float:
        r"""The factor of every motion. You may set it."""
        return float(self._strength) if self._probe is None else self._probe

    @strength.setter
    def strength(self, value: float) -> None:
        check_number(value, "strength", 0, MAX_STRENGTH)
        if "_strength" not in self._buffers:
            # Workers see later changes of shared memory.
            self.register_buffer("_strength", torch.zeros((), dtype=torch.float64).share_memory_())
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._strength.fill_(value)

    def _moves(self, n: int) -> Tensor:
        r"""Draws whether each of some images moves, with shape :math:`(n,)`."""
        if self._probe is not None:
            self._probed += 1
        elif not self.strength:
            return torch.zeros(n, dtype=torch.bool)
        return super()._moves(n)

    def update(self, network: Callable[[Tensor], Tensor], dataset: Any) -> float:
        r"""Adapts the strength to a classifier, and returns it. Call this method after each epoch.

        It reads 500 items of the training set twice, the same number of each class: once with all images unmoved, once
        with all images moved with strength 1. Other transforms draw the same random numbers both times. The global
        random state does not change. In a distributed training, ranks share the images.

        Args:
            network: A function from a batch of :math:`B` images to logits of shape :math:`(B, C)`. A
                ``torch.nn.Module`` runs in evaluation mode on the device of its parameters. Any other function must
                itself do so. If this transform moves batches, it is part of the function:
                ``lambda images: network(motion(images))``.
            dataset: The training set, whose items are pairs of an image tensor and a label. This transform is one of
                its transforms, or part of the function. Synthetic images of an
                :class:`gae_augment.AugmentedDataset` are left out.

        Raises:
            TypeError: If images are not tensors.
            ValueError: If this transform moved no image, or ``dataset`` has no real image.
        """
        ranks = (distributed.get_world_size(), distributed.get_rank()) if _is_distributed() else (1, 0)
        seed, labels = derive_seed(self.seed, "update", int(self.updates)), self._labels_of(dataset)
        indices = _balanced(labels, seed)
        share = indices[ranks[1] :: ranks[0]]
        self._probed = 0
        with evaluation_mode(network) as device, torch.no_grad():
            errors = torch.zeros(2, dtype=torch.int64, device=device)
            for start in range(0, len(share), BATCH_SIZE):
                batch = share[start : start + BATCH_SIZE]
                targets = torch.from_numpy(labels[batch]).to(device)
                for moved in (0, 1):
                    batch_seed = derive_seed(seed, "batch", ranks[1], start)
                    logits = self._logits(network, dataset, batch.tolist(), float(moved), batch_seed, device)
                    errors[moved] += (logits.argmax(dim=1).to(device) != targets).sum()
        if len(share) and not self._probed:
            raise ValueError(
                "This transform moved none of the dataset's images. Make it one of the transforms of the dataset, or "
                "part of the function: motion.update(lambda images: network(motion(images)), dataset)."
            )
        if ranks[0] > 1:
            distributed.all_reduce(errors)
        unmoved_errors, moved_errors = errors.tolist()
        self.errors_ = unmoved_errors / len(indices), moved_errors / len(indices)
        self.strength = adapted_strength(self.strength, unmoved_errors, moved_errors, self.max_strength)
        self.updates += 1
        return self.strength

    def _labels_of(self, dataset: Any) -> np.ndarray:
        r"""Returns the label of each item, read once; the labels of synthetic items are -1."""
        if self._labels is None or self._labels[0] is not dataset:
            is_synthetic = read_attribute(dataset, "is_synthetic")
            if is_synthetic is None:
                labels = read_labels(dataset)
            else:
                labels = np.where(is_synthetic, -1, np.asarray(dataset.targets))
            if not (labels >= 0).any():
                raise ValueError("The dataset has no real image with a label from 0 on. Pass the training set.")
            self._labels = dataset, labels
        return self._labels[1]

    def _logits(
        self,
        network: Callable[[Tensor], Tensor],
        dataset: Any,
        indices: list[int],
        strength: float,
        seed: int,
        device: torch.device,
    ) -> Tensor:
        r"""Returns the logits of items that are all moved with one strength; 0 draws the same random numbers as 1."""
        p, self.p, self._probe = self.p, 1.0, strength
        try:
            images = []
            for position, index in enumerate(indices):
                # A class with few images shows one of them several times, each with another motion.
                with global_seed(derive_seed(seed, position)):
                    images.append(dataset[index][0])
            if not all(isinstance(image, Tensor) for image in images):
                raise TypeError(
                    f"The images are of type {type(images[0]).__name__}, but must be tensors. Add a transform to the "
                    f"dataset that converts images to tensors."
                )
            with global_seed(seed):
                return network(torch.stack(images).to(device))
        finally:
            self.p, self._probe = p, None

    def __getstate__(self) -> dict[str, Any]:
        # Workers have the dataset already.
        return {**self.__dict__, "_labels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._strength.share_memory_()

    def extra_repr(self) -> str:
        r"""Returns the parameters, for ``repr``."""
        return f"strength={self.strength} (adaptive), p={self.p}, motions={len(self.bank)}"


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _balanced(labels: np.ndarray, seed: int) -> np.ndarray:
    r"""Returns the indices of images in random order, the same number of each class; small classes repeat images."""
    generator = make_generator(seed, "images")
    present = np.unique(labels[labels >= 0])
    members = [np.flatnonzero(labels == label) for label in present]
    number = max(1, PROBES // len(present))
    chosen = [rows[torch.randint(len(rows), (number,), generator=generator).numpy()] for rows in members]
    return np.concatenate(chosen)[torch.randperm(number * len(present), generator=generator).numpy()]
