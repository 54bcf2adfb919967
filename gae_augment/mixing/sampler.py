r"""The sampler that mixes real and synthetic images in training batches."""

__all__ = ["LabelledImages", "MixedSampler"]

from collections.abc import Sequence
from numbers import Real
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .._utils.checks import check_integer, check_number
from .._utils.seeding import make_generator
from ..data import DatasetView, source_datasets
from .ranks import SharedSampler


class LabelledImages(Protocol):
    r"""Protocol of a training set for :class:`MixedSampler`; :class:`gae_augment.AugmentedDataset` implements it."""

    @property
    def targets(self) -> Sequence[int]:
        r"""The integer label of each image."""

    @property
    def is_synthetic(self) -> Sequence[bool] | np.ndarray:
        r"""One Boolean per image, true for synthetic images."""


class MixedSampler(SharedSampler):
    r"""Draws the indices of class-balanced batches, in which some images of scarce classes are synthetic.

    By default, each index is drawn independently, in three steps:

    1. A class :math:`c` is drawn. All classes are equally probable.
    2. The image will be synthetic with probability :math:`f \cdot (1 - n_c / n_{\max})`, else real. Here :math:`f` is
       ``synthetic_fraction``, :math:`n_c` is the number of real images of class :math:`c`, and :math:`n_{\max}` is the
       number of real images of the largest class.
    3. An image is drawn uniformly from the synthetic images of the class, or from its real images.

    In the largest class, all drawn images are therefore real. In a class with very few real images, the fraction of
    synthetic images among the drawn images is nearly :math:`f`. If a class has no synthetic images, all its drawn
    images are real. If a class has no real images, all its drawn images are synthetic, even with ``real_last``.

    The argument ``balance``, called :math:`b` here, is 1 by default. In general, step 1 draws class :math:`c` with a
    frequency proportional to :math:`n_c^{1 - b}`. The value :math:`b = 0.5` is square-root sampling. If :math:`b < 1`,
    the batches remain imbalanced, and the loss should correct the imbalance: add :attr:`log_frequencies` to the logits
    in training (balanced softmax, logit adjustment). If :math:`b = 0`, indices are not drawn independently: an epoch
    goes through all real images once, in random order, and replaces each by a synthetic image of its class with the
    probability of step 2.

    The indices depend only on the seed and the epoch. Each pass over the sampler advances the epoch by one;
    :meth:`set_epoch` sets the epoch explicitly.

    In a distributed training, all ranks draw the same plan of an epoch, and each rank iterates over its own share.
    The first indices of the plan are repeated at its end if the shares would differ in length. The length of the
    sampler is that of the share, and :meth:`draw` returns the whole plan. All ranks must be in the same epoch.

    Lightning does not split the shares again. Pass ``num_replicas=1, rank=0`` if something else splits the batches, as
    Accelerate does, or if all ranks need the same batches.

    Args:
        data: The training set: an :class:`gae_augment.AugmentedDataset`, or another object whose ``targets`` and
            ``is_synthetic`` have one entry per image. All images of any other map-style dataset are real.
        synthetic_fraction: The fraction :math:`f`, in [0, 1]. 0 draws real images only.
        epochs: The number of training epochs. With ``None``, all epochs mix real and synthetic images, and
            ``real_last`` has no effect.
        real_last: The fraction of ``epochs``, in [0, 1], that draw real images only, at the end of training. If it is
            above 0 and there are several epochs, at least the last epoch draws real images only.
        balance: The balance :math:`b`, in [0, 1]. At 1 all classes are equally frequent. At 0 their frequencies are
            proportional to their numbers of real images.
        num_samples: The number of indices in an epoch, of all ranks together; by default the number of real images.
        num_classes: The number of the classifier's logits, for :attr:`log_frequencies`. By default the largest label
            plus 1.
        seed: The seed of all draws; the same in all ranks.
        num_replicas: The number of ranks that share the indices. By default the world size of ``torch.distributed``, or
            1 without an initialised process group.
        rank: The rank of this process, from 0 to ``num_replicas`` - 1. By default the rank in ``torch.distributed``, or
            0 without an initialised process group.

    Raises:
        TypeError: If ``data`` is no map-style dataset, wraps a dataset with synthetic images, or a number is of another
            type.
        ValueError: If a number is out of range, ``data`` is empty, ``targets`` and ``is_synthetic`` differ in length,
            ``balance`` is below 1 without any real image, or only one of ``num_replicas`` and ``rank`` is given.

    Example:
        >>> from types import SimpleNamespace
        >>> data = SimpleNamespace(targets=[0, 0, 0, 1, 1], is_synthetic=[False, False, False, False, True])
        >>> sorted(set(MixedSampler(data, synthetic_fraction=0.5, num_samples=100)))
        [0, 1, 2, 3, 4]
        >>> sorted(set(MixedSampler(data, synthetic_fraction=0.0, num_samples=100)))
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        data: LabelledImages | Any,
        synthetic_fraction: float = 0.5,
        *,
        epochs: int | None = None,
        real_last: float = 0.15,
        balance: float = 1.0,
        num_samples: int | None = None,
        num_classes: int | None = None,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        if isinstance(synthetic_fraction, str):
            raise TypeError(
                f"'synthetic_fraction' is {synthetic_fraction!r}, but must be a number between 0 and 1. "
                f"gae_augment.evaluation.choose_synthetic_fraction finds a good one on held-out images; only "
                f"GAEDataModule accepts 'auto'."
            )
        check_number(synthetic_fraction, "synthetic_fraction", 0, 1)
        check_number(real_last, "real_last", 0, 1)
        for name, value in {"epochs": epochs, "num_samples": num_samples, "num_classes": num_classes}.items():
            if value is not None:
                check_integer(value, name, 1)
        check_integer(seed, "seed")
        # mypy does not count bool, int, float or NumPy's numbers as Real.
        untyped_balance: Any = balance
        if not isinstance(untyped_balance, Real) or not 0 <= balance <= 1:
            raise ValueError(
                f"'balance' is {balance!r}, but must be a number between 0 and 1: 0 draws classes in proportion to "
                f"their real images, 1 draws all classes equally often."
            )

        targets, is_synthetic = _labels_and_kinds(data)
        if targets.shape != is_synthetic.shape or targets.ndim != 1:
            raise ValueError(
                f"'targets' and 'is_synthetic' have the shapes {targets.shape} and {is_synthetic.shape}, but must be "
                f"one-dimensional, with one entry per image."
            )
        if not len(targets):
            raise ValueError("The training set is empty. Pass one with at least one image.")

        if num_classes is not None and not (
            targets.dtype.kind in "iu" and 0 <= targets.min() <= targets.max() < num_classes
        ):
            raise ValueError(
                f"'num_classes' is {num_classes}, but the labels run from {targets.min()} to {targets.max()}. A "
                f"classifier of C classes needs labels from 0 to C - 1."
            )
        num_samples = int((~is_synthetic).sum() or len(targets)) if num_samples is None else num_samples
        super().__init__(num_samples, num_replicas=num_replicas, rank=rank)

        present, class_of = np.unique(targets, return_inverse=True)
        real_counts = torch.from_numpy(np.bincount(class_of[~is_synthetic], minlength=class_of.max() + 1))
        synthetic_counts = torch.from_numpy(np.bincount(class_of[is_synthetic], minlength=class_of.max() + 1))
        probability = synthetic_fraction * (1 - real_counts / real_counts.max().clamp(min=1))
        self.synthetic_probability = torch.where(synthetic_counts == 0, 0.0, probability.double())
        self._without_real = real_counts == 0

        # Sorted by class, real images before synthetic ones: every draw picks from one contiguous run.
        self._order = torch.from_numpy(np.lexsort((is_synthetic, class_of)))
        self._counts = torch.stack([real_counts, synthetic_counts], dim=1)
        self._starts = (self._counts.flatten().cumsum(0) - self._counts.flatten()).view_as(self._counts)

        self._class_of, self._real = torch.from_numpy(class_of), torch.from_numpy(np.flatnonzero(~is_synthetic))
        if balance < 1 and not len(self._real):
            raise ValueError(
                f"There is no real image, but balance={balance} draws classes by their numbers of real images. "
                f"Leave 'balance' at 1."
            )
        # 0 ** 0 is 1: with balance=1 a class without real images is as frequent as any other.
        weights = real_counts.double() ** (1 - float(balance))
        self._frequencies = weights / weights.sum()
        self._labels = present
        self.num_classes = num_classes

        self.synthetic_fraction = synthetic_fraction
        self.balance = float(balance)
        self.epochs = epochs
        self.real_last = real_last
        self.seed = seed

    @property
    def log_frequencies(self) -> Tensor:
        r"""The logarithm of each class's frequency in the batches, in the order of logits, with shape :math:`(C,)`.

        Here :math:`C` is ``num_classes``, or by default the largest label plus 1: entry :math:`c` belongs to label
        :math:`c`. A label without images has the lowest frequency of the others. If labels are text or negative, there
        is one entry per class, in ascending order.

        If ``balance`` is below 1, add the logarithms to the logits in
        training, but not in evaluation, to correct the imbalance of the batches.

        References:
            | Balanced meta-softmax (Ren et al., 2020), https://arxiv.org/abs/2007.10740
            | Long-tail learning via logit adjustment (Menon et al., 2021), https://arxiv.org/abs/2007.07314
        """
        present = self._frequencies.log().float()
        if self._labels.dtype.kind not in "iu" or self._labels[0] < 0:
            return present
        size = int(self._labels[-1]) + 1 if self.num_classes is None else self.num_classes
        # Infinity would turn soft labels of 0 into NaN.
        lowest = present[present.isfinite()].min()
        frequencies = lowest.repeat(size)
        frequencies[torch.from_numpy(self._labels.astype(np.int64))] = present
        return frequencies

    def draws_real_only(self, epoch: int) -> bool:
        r"""Returns whether an epoch, counted from 0, is one of the last epochs, which draw real images only."""
        if self.epochs is None or not self.real_last:
            return False
        # At least one of several epochs is real; the only epoch of a one-epoch run stays mixed.
        real_epochs = max(round(self.epochs * self.real_last), min(1, self.epochs - 1))
        return epoch >= self.epochs - real_epochs

    def draw(self, epoch: int) -> Tensor:
        r"""Returns an epoch's indices, of all ranks together, with shape ``(num_samples,)``; epochs count from 0."""
        generator = make_generator(self.seed, "mixed sampler", epoch)
        real_indices = None
        if self.balance == 1:
            classes = torch.randint(len(self._counts), (self.num_samples,), generator=generator)
        elif self.balance:
            classes = self._frequencies.multinomial(self.num_samples, replacement=True, generator=generator)
        else:
            passes = -(-self.num_samples // len(self._real))
            order = [self._real[torch.randperm(len(self._real), generator=generator)] for _ in range(passes)]
            real_indices = torch.cat(order)[: self.num_samples]
            classes = self._class_of[real_indices]
        kind_draw, image_draw = torch.rand(2, self.num_samples, dtype=torch.float64, generator=generator)
        probability = torch.zeros_like(self.synthetic_probability)
        if not self.draws_real_only(epoch):
            probability = self.synthetic_probability
        probability = torch.where(self._without_real, 1.0, probability)
        synthetic = (kind_draw < probability[classes]).long()
        offsets = (image_draw * self._counts[classes, synthetic]).long()
        indices = self._order[self._starts[classes, synthetic] + offsets]
        return indices if real_indices is None else torch.where(synthetic.bool(), indices, real_indices)


def _labels_and_kinds(data: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Returns the label of each image, and whether it is synthetic."""
    if hasattr(data, "targets") and hasattr(data, "is_synthetic"):
        return np.asarray(data.targets), np.asarray(data.is_synthetic, dtype=bool)
    if _wraps_synthetic(data):
        raise TypeError(
            f"'data' is a {type(data).__name__} of a dataset with synthetic images, and does not tell which of its "
            f"images these are. Pass the AugmentedDataset itself. To use a Subset, take it before augmenting."
        )
    labels = DatasetView(data).labels
    return labels, np.zeros(len(labels), dtype=bool)


def _wraps_synthetic(data: Any) -> bool:
    return any(hasattr(inner, "is_synthetic") or _wraps_synthetic(inner) for inner in source_datasets(data))
