r"""A dataset's raw images, its transforms and its labels, without changes to the dataset."""

__all__ = ["DatasetView"]

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from .items import ItemReader, check_dataset
from .labels import read_labels
from .observation import Observation, observe
from .transforms import (
    DIFFERENT_TRANSFORMS,
    Skip,
    copy_with_transforms,
    different,
    is_trusted,
    known_transforms,
)

Transform = Callable[[Any, Any], Any]
"""A function that transforms an image, given the image and its label."""


class DatasetView:
    r"""The raw images of a dataset, the transforms that turn them into the images of items, and the labels of items.

    For classes of torch and torchvision the transforms are known. For any other class they are found by an
    :class:`Observation` of items of each class. If it finds none, raw images are the images of the items.

    Args:
        dataset: A map-style dataset, which does not change.

    Attributes:
        dataset: The dataset.
        trusted: Whether the class of the dataset is known.

    Raises:
        TypeError: If the dataset is not map-style.
        ValueError: If the dataset is empty.
    """

    def __init__(self, dataset: Any) -> None:
        check_dataset(dataset)
        self.dataset = dataset
        self.trusted = is_trusted(dataset)

    @cached_property
    def labels(self) -> np.ndarray:
        r"""The labels of the items, as :func:`read_labels` returns them."""
        return read_labels(self.dataset)

    @cached_property
    def _observation(self) -> Observation:
        return observe(self.dataset, self.labels)

    @cached_property
    def _raw_items(self) -> ItemReader:
        return ItemReader(copy_with_transforms(self.dataset, Skip))

    @property
    def transforms(self) -> list[Transform]:
        r"""The transforms, in the order in which they are applied.

        A transform that the user assigns to the dataset later takes the place of the earlier one.

        Raises:
            ValueError: If the datasets in a ConcatDataset have different transforms.
        """
        if self.trusted:
            return list(known_transforms(self.dataset))
        if different(self._observation.chains):
            raise ValueError(DIFFERENT_TRANSFORMS)
        return list(self._observation.chains[0])

    def loaded_with(self, load_with: Callable[[Any], Any]) -> "DatasetView":
        r"""Returns a view of the same dataset, in which folders load their files in another way.

        If the class of the dataset is not known, or nothing is replaced, it is this view.

        Args:
            load_with: A function that maps the loader of a folder's files to its replacement.
        """
        if not self.trusted:
            return self
        copied = copy_with_transforms(self.dataset, lambda slot: None, load_with=load_with)
        return self if copied is self.dataset else DatasetView(copied)

    @property
    def repeats(self) -> bool:
        r"""Whether a raw image is the same whenever it is read, as far as the first item shows.

        Otherwise, a dataset of an unknown class changes images at random itself.
        """
        return self.trusted or self._observation.repeats(0)

    def raw_image(self, index: int, *, seeded: bool = True) -> Any:
        r"""Returns the raw image of an item.

        If the class of the dataset is not known, the item is read whole.

        Args:
            index: The index of the item.
            seeded: Whether the index is the seed of random numbers that a dataset of an unknown class draws. Otherwise,
                they come from the global random generators.

        Raises:
            ValueError: If the item cannot be read, or is not transformed like the observed items.
        """
        if self.trusted:
            return self._raw_items[index][0]
        item = self._observation.read(index, seeded=seeded)
        if self._observation.chains == [[]]:
            return item.image
        if not self._observation.fits(item):
            raise ValueError(
                f"Item {index} of the dataset is not transformed like other items, so that its raw image is unknown. "
                f"Pass images, labels and transform separately: "
                f"gae_augment.data.ImageDataset(raw, labels=…, transform=…)."
            )
        return item.raw_image
