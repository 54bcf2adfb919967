r"""Samplers, and functions that copy a training loader with another dataset and sampler."""

__all__ = ["RefreshingSampler", "ShuffledSampler", "check_loader", "draws_per_epoch", "rebuild_loader"]

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from gae_augment import AugmentedDataset, MixedSampler
from gae_augment._utils.seeding import make_generator
from gae_augment.mixing import SharedSampler


class ShuffledSampler(SharedSampler):
    r"""Draws every index once, in a random order that depends only on the seed and the epoch.

    Args:
        items: The number of items in the dataset.
        seed: The seed of the random orders.
        **ranks: ``num_replicas`` and ``rank``, as in :class:`gae_augment.MixedSampler`.
    """

    def __init__(self, items: int, seed: int, **ranks: int) -> None:
        super().__init__(items, **ranks)
        self.seed = seed

    def draw(self, epoch: int) -> Tensor:
        r"""Returns the order of all indices in an epoch, counted from 0."""
        return torch.randperm(self.num_samples, generator=make_generator(self.seed, "shuffled sampler", epoch))


class RefreshingSampler(SharedSampler):
    r"""Yields the indices of another sampler, and draws fresh synthetic images every ``refresh`` epochs.

    Args:
        sampler: The sampler that draws the indices of all ranks.
        augmented: The dataset with the synthetic images.
        refresh: The number of epochs that use the same synthetic images, at least 1.
        **ranks: ``num_replicas`` and ``rank``, as in :class:`gae_augment.MixedSampler`.
    """

    def __init__(
        self, sampler: MixedSampler | ShuffledSampler, augmented: AugmentedDataset, refresh: int, **ranks: int
    ) -> None:
        super().__init__(sampler.num_samples, **ranks)
        self.sampler = sampler
        self.augmented = augmented
        self.refresh = refresh

    def draw(self, epoch: int) -> Tensor:
        r"""Returns the indices of the other sampler in an epoch, counted from 0."""
        return self.sampler.draw(epoch)

    def __iter__(self) -> Iterator[int]:
        if not (isinstance(self.sampler, MixedSampler) and self.sampler.draws_real_only(self.epoch)):
            self.augmented.set_epoch(self.epoch // self.refresh)
        return super().__iter__()


def check_loader(loader: Any) -> DataLoader:
    r"""Returns a training loader after checking that its dataset and sampler can be replaced.

    Raises:
        TypeError: If ``loader`` is not a DataLoader.
        ValueError: If the loader has a custom batch sampler, or a sampler other than ``SequentialSampler``,
            ``RandomSampler`` and ``WeightedRandomSampler``.
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"train_dataloader of the wrapped data module returned a {type(loader).__name__}, but must return one "
            f"DataLoader. Join several training sets into one: ConcatDataset([…])."
        )
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        raise ValueError(
            f"The batch_sampler of the wrapped training loader is a {type(loader.batch_sampler).__name__}, which would "
            f"be lost when its sampler is replaced. Give the loader a 'batch_size' instead."
        )
    if isinstance(loader.sampler, BatchSampler):
        raise ValueError(
            "The sampler of the wrapped training loader draws whole batches, which would be lost when it is replaced. "
            "Give the loader a 'batch_size' instead, with shuffle=True."
        )
    sampler = _sampler_of(loader)
    if not isinstance(sampler, SequentialSampler | RandomSampler | WeightedRandomSampler):
        # For example, a SubsetRandomSampler selects images. If it were replaced, training would use all images.
        raise ValueError(
            f"The sampler of the wrapped training loader is a {type(sampler).__name__}, which may do more than "
            f"shuffle and would be replaced. Use shuffle=True; select images with Subset(dataset, indices), and leave "
            f"distributed sampling to Lightning."
        )
    return loader


def _sampler_of(loader: DataLoader) -> Any:
    r"""Returns the sampler that draws the indices; a loader that got a batch_sampler has an idle one of its own."""
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler.sampler  # type: ignore[attr-defined]


def draws_per_epoch(loader: DataLoader) -> int:
    r"""Returns the number of indices that a loader's sampler draws in an epoch."""
    return len(_sampler_of(loader))


def rebuild_loader(loader: DataLoader, dataset: Dataset, sampler: Sampler[int]) -> DataLoader:
    r"""Returns a copy of a DataLoader with another dataset and sampler.

    Raises:
        TypeError: If the class of the loader cannot be constructed from the loader's attributes.
    """
    names = set(inspect.signature(type(loader)).parameters) - {"args", "kwargs"}
    names |= set(inspect.signature(DataLoader).parameters)
    names -= {"dataset", "sampler", "shuffle", "batch_sampler"}
    try:
        settings = {name: getattr(loader, name) for name in names}
        if loader.batch_sampler is not None:
            # A loader that got a batch_sampler has no batch size of its own.
            batches: Any = loader.batch_sampler
            settings |= {"batch_size": batches.batch_size, "drop_last": batches.drop_last}
        return type(loader)(dataset, sampler=sampler, **settings)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"The wrapped training loader, a {type(loader).__name__}, could not be copied with another dataset and "
            f"sampler: {error}. Use a torch DataLoader."
        ) from error
