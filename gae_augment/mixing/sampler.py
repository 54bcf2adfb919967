r"""Which real and which synthetic images a training batch is made of."""

__all__ = ["LabelledImages", "MixedSampler"]

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from .._utils.seeding import make_generator


class LabelledImages(Protocol):
    r"""What the sampler needs to know of a training set, as :class:`gae_augment.AugmentedDataset` offers it."""

    @property
    def targets(self) -> Sequence[int]:
        r"""The label of each image."""

    @property
    def is_synthetic(self) -> Sequence[bool] | np.ndarray:
        r"""Whether each image is synthetic."""


class MixedSampler(Sampler[int]):
    r"""Draws balanced batches in which scarce classes are partly synthetic.

    Each index is drawn on its own: first a class, all classes alike if ``balance`` is 1; then real or synthetic, where
    an image of class :math:`c` is synthetic with probability :math:`f \cdot (1 - n_c / n_{\max})`; then an image, all
    alike. Here :math:`f` is the synthetic fraction, :math:`n_c` the number of real images of the class, and
    :math:`n_{\max}` that of the largest class, so that the largest class stays real and the scarcest is synthetic in
    about :math:`f` of its draws. A class without synthetic images stays real, and one without real images is always
    synthetic.

    In general the frequency of a class is :math:`\pi_c \propto n_c^{1 - b}` with the balance :math:`b`; 0.5 is
    square-root sampling. Below 1 the loss is to make up for what imbalance is left, which adding
    :attr:`log_frequencies` to the logits in training does (balanced softmax, logit adjustment). With ``balance=0``
    every real image comes once, in random order, and is replaced by a synthetic one of its class with the same
    probability.

    The draw depends on the seed and the epoch alone, so all ranks of a distributed run see the same one. Every pass
    over the sampler moves to the next epoch by itself; :meth:`set_epoch` names it instead.

    Args:
        data: The training set, with ``targets`` and ``is_synthetic``, both of length :math:`N`.
        synthetic_fraction: The fraction :math:`f`, in [0, 1]. Zero is plain class-balanced sampling.
        epochs: How many epochs the training will have. If given, the last of them are drawn from real images only.
        real_last: The part of ``epochs`` at the end that is drawn from real images only, in [0, 1]; above 0 it is one
            epoch at least, if there are two.
        balance: The balance :math:`b`, in [0, 1]: at 1 all classes are drawn alike, at 0 as often as they have real
            images.
        num_samples: The indices in one epoch. By default as many as there are real images.
        seed: The seed of all draws.

    Raises:
        TypeError: If ``data`` has no ``targets`` or ``is_synthetic``, or the fraction is no number.
        ValueError: If a number is out of its range, or ``data`` has no image, or ``targets`` and ``is_synthetic``
            differ in length.

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
        data: LabelledImages,
        synthetic_fraction: float = 0.5,
        *,
        epochs: int | None = None,
        real_last: float = 0.15,
        balance: float = 1.0,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(synthetic_fraction, str):
            raise TypeError(
                f"'synthetic_fraction' is a number between 0 and 1, and it is {synthetic_fraction!r}. "
                f"gae_augment.evaluation.choose_synthetic_fraction finds one on held-out images, and GAEDataModule "
                f"takes 'auto'."
            )
        if not 0 <= synthetic_fraction <= 1:
            raise ValueError(
                f"'synthetic_fraction' is a part between 0 and 1, and it is {synthetic_fraction}. "
                f"Half, 0.5, is a good first choice."
            )
        if not 0 <= real_last <= 1:
            raise ValueError(f"'real_last' is a part of the epochs between 0 and 1, and it is {real_last}.")
        if epochs is not None and epochs < 1:
            raise ValueError(f"'epochs' is at least 1, and it is {epochs}. Leave it out to mix in every epoch.")
        # bool, int, float and NumPy's, of which mypy takes none for a Real.
        given: Any = balance
        if not isinstance(given, Real) or not 0 <= balance <= 1:
            raise ValueError(
                f"'balance' is a number between 0, classes as frequent as their images, and 1, all alike, and it is "
                f"{balance!r}."
            )
        if num_samples is not None and num_samples < 1:
            raise ValueError(
                f"'num_samples' is at least 1, and it is {num_samples}. Leave it out for one per real image."
            )

        if not hasattr(data, "targets") or not hasattr(data, "is_synthetic"):
            raise TypeError(
                f"'data' lists 'targets' and 'is_synthetic', as an AugmentedDataset does, and {type(data).__name__} "
                f"does not. Pass what GAEAugmenter.augment returned; take a Subset before it."
            )
        targets = np.asarray(data.targets)
        is_synthetic = np.asarray(data.is_synthetic, dtype=bool)
        if targets.shape != is_synthetic.shape or targets.ndim != 1:
            raise ValueError(
                f"'targets' and 'is_synthetic' hold one entry per image, and their shapes are "
                f"{targets.shape} and {is_synthetic.shape}."
            )
        if not len(targets):
            raise ValueError("The training set has no image to draw from.")

        _, class_of = np.unique(targets, return_inverse=True)
        real_counts = torch.from_numpy(np.bincount(class_of[~is_synthetic], minlength=class_of.max() + 1))
        synthetic_counts = torch.from_numpy(np.bincount(class_of[is_synthetic], minlength=class_of.max() + 1))
        probability = synthetic_fraction * (1 - real_counts / real_counts.max().clamp(min=1))
        self.synthetic_probability = torch.where(synthetic_counts == 0, 0.0, probability.double())
        self._without_real = real_counts == 0

        # The indices of a class's real images stand in one run of this order, then those of its synthetic ones.
        self._order = torch.from_numpy(np.lexsort((is_synthetic, class_of)))
        self._counts = torch.stack([real_counts, synthetic_counts], dim=1)
        self._starts = (self._counts.flatten().cumsum(0) - self._counts.flatten()).view_as(self._counts)

        self._class_of, self._real = torch.from_numpy(class_of), torch.from_numpy(np.flatnonzero(~is_synthetic))
        if balance < 1 and not len(self._real):
            raise ValueError(
                f"With balance={balance} the frequency of a class depends on its number of real images, and there is "
                f"no real image. Leave it at 1."
            )
        # 0 to the power 0 is 1, so that a class of synthetic images alone is drawn where all classes are alike.
        weights = real_counts.double() ** (1 - float(balance))
        self._frequencies = weights / weights.sum()

        self.synthetic_fraction = synthetic_fraction
        self.balance = float(balance)
        self.epochs = epochs
        self.real_last = real_last
        self.num_samples = int((~is_synthetic).sum() or len(targets)) if num_samples is None else num_samples
        self.seed = seed
        self.epoch = 0

    @property
    def log_frequencies(self) -> Tensor:
        r"""The logarithm of the classes' frequencies, by ascending label, with shape :math:`(C,)`.

        Added to the logits in training, and not after it, they make up for what imbalance the draw leaves.

        References:
            | Balanced meta-softmax (Ren et al., 2020), https://arxiv.org/abs/2007.10740
            | Long-tail learning via logit adjustment (Menon et al., 2021), https://arxiv.org/abs/2007.07314
        """
        return self._frequencies.log().float()

    def set_epoch(self, epoch: int) -> None:
        r"""Names the epoch that the next pass draws."""
        self.epoch = epoch

    def draws_real_only(self, epoch: int) -> bool:
        r"""Returns whether an epoch is one of the last, real ones."""
        if self.epochs is None or not self.real_last:
            return False
        # Of two epochs and more, one at least, and of one none.
        last = max(round(self.epochs * self.real_last), min(1, self.epochs - 1))
        return epoch >= self.epochs - last

    def draw(self, epoch: int) -> Tensor:
        r"""Returns the indices of an epoch, with shape (num_samples,)."""
        generator = make_generator(self.seed, "mixed sampler", epoch)
        drawn = None
        if self.balance == 1:
            classes = torch.randint(len(self._counts), (self.num_samples,), generator=generator)
        elif self.balance:
            classes = self._frequencies.multinomial(self.num_samples, replacement=True, generator=generator)
        else:
            passes = -(-self.num_samples // len(self._real))
            order = [self._real[torch.randperm(len(self._real), generator=generator)] for _ in range(passes)]
            drawn = torch.cat(order)[: self.num_samples]
            classes = self._class_of[drawn]
        chance, place = torch.rand(2, self.num_samples, dtype=torch.float64, generator=generator)
        probability = torch.zeros_like(self.synthetic_probability)
        if not self.draws_real_only(epoch):
            probability = self.synthetic_probability
        probability = torch.where(self._without_real, 1.0, probability)
        synthetic = (chance < probability[classes]).long()
        places = (place * self._counts[classes, synthetic]).long()
        indices = self._order[self._starts[classes, synthetic] + places]
        return indices if drawn is None else torch.where(synthetic.bool(), indices, drawn)

    def __iter__(self) -> Iterator[int]:
        indices = self.draw(self.epoch)
        self.epoch += 1
        return iter(indices.tolist())

    def __len__(self) -> int:
        return self.num_samples
