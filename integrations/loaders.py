r"""Training loaders that are built again with another dataset and sampler."""

__all__ = ["RefreshingSampler", "ShuffledSampler", "check_loader", "rebuild_loader"]

import inspect
from collections.abc import Iterator
from typing import Any

import torch
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


class ShuffledSampler(Sampler[int]):
    r"""Draws all items in an order that depends on the seed and the epoch alone, on every rank the same."""

    def __init__(self, items: int, seed: int) -> None:
        self.items = items
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        r"""Names the epoch that the next pass draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.items, generator=make_generator(self.seed, "shuffled sampler", self.epoch))
        self.epoch += 1
        return iter(order.tolist())

    def __len__(self) -> int:
        return self.items


class RefreshingSampler(Sampler[int]):
    r"""Draws as another sampler does, and has the dataset draw fresh synthetic images every so many epochs.

    They are drawn when a pass begins: then no worker reads images of the one before. For a pass of real images alone
    there are none drawn.
    """

    def __init__(self, sampler: MixedSampler | ShuffledSampler, augmented: AugmentedDataset, every: int) -> None:
        self.sampler = sampler
        self.augmented = augmented
        self.every = every

    def set_epoch(self, epoch: int) -> None:
        r"""Names the epoch that the next pass draws."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        epoch = self.sampler.epoch
        if not (isinstance(self.sampler, MixedSampler) and self.sampler.draws_real_only(epoch)):
            self.augmented.set_epoch(epoch // self.every)
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def check_loader(loader: Any) -> DataLoader:
    r"""Returns a training loader, or raises an error if its dataset and sampler cannot be replaced."""
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"The wrapped data module has one DataLoader for training, and its train_dataloader returned a "
            f"{type(loader).__name__}. Join several sets into one: ConcatDataset([…])."
        )
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        raise ValueError(
            f"The sampler of the wrapped training loader is replaced, and its batch_sampler is a "
            f"{type(loader.batch_sampler).__name__}. Give the loader a 'batch_size' in its place."
        )
    if not isinstance(loader.sampler, SequentialSampler | RandomSampler | WeightedRandomSampler):
        # A SubsetRandomSampler, for one, says which images are trained on; replaced, it would let in all others.
        raise ValueError(
            f"The sampler of the wrapped training loader is replaced, and a {type(loader.sampler).__name__} may do "
            f"more than shuffle. Use shuffle=True; choose images with Subset(dataset, indices), and leave "
            f"distributed sampling to Lightning."
        )
    return loader


def rebuild_loader(loader: DataLoader, dataset: Dataset, sampler: Sampler[int]) -> DataLoader:
    r"""Returns a loader like another one but for its dataset and sampler."""
    names = set(inspect.signature(type(loader)).parameters) - {"args", "kwargs"}
    names |= set(inspect.signature(DataLoader).parameters)
    names -= {"dataset", "sampler", "shuffle", "batch_sampler"}
    try:
        settings = {name: getattr(loader, name) for name in names}
        return type(loader)(dataset, sampler=sampler, **settings)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"The wrapped training loader is built again with another dataset and sampler, and this failed for a "
            f"{type(loader).__name__}: {error}. Use a torch DataLoader."
        ) from error
