r"""A comparison of an augmented dataset with the dataset that it augments, item by item."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gae_augment import AugmentedDataset
from gae_augment.data import DatasetView, ItemFormat


class Copies:
    r"""A source of "synthetic" images: the raw images of a class, in the order of the items."""

    seed_ = 0
    sampling_strategy = "auto"

    def __init__(self, dataset):
        view = DatasetView(dataset)
        labels = view.labels
        item_format = ItemFormat.of(view.raw_image(0))
        self.indices = {label: np.flatnonzero(labels == label).tolist() for label in np.unique(labels).tolist()}
        self._images = {
            label: torch.stack([item_format.to_tensor(view.raw_image(index)) for index in indices])
            for label, indices in self.indices.items()
        }

    def sample(self, label, n, *, seed=None, out=None):
        return self._images[label][:n]


def equal(first, second):
    if isinstance(first, Image.Image):
        return isinstance(second, Image.Image) and first.mode == second.mode and first.tobytes() == second.tobytes()
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    return type(first) is type(second) and np.array_equal(first, second)


def assert_augments_as_it_should(dataset, indices=None):
    r"""Checks all items of ``augment(dataset)`` against the dataset's own.

    A synthetic image that equals the raw image of a real item must become the very image of that item. The transforms
    must not be random.
    """
    before = [dataset[index] for index in range(len(dataset))]
    source = Copies(dataset)
    augmented = AugmentedDataset(
        dataset, source, images_to_add={label: len(indices) for label, indices in source.indices.items()}
    )
    real = [augmented[index] for index in range(len(dataset))]
    for index, ((image, label), (expected, expected_label)) in enumerate(zip(real, before, strict=True)):
        assert equal(image, expected), f"real image {index}"
        assert label == int(expected_label) == augmented.targets[index], f"label of real image {index}"
    position = len(dataset)
    for label, originals in source.indices.items():
        for original in originals:
            image, synthetic_label = augmented[position]
            assert synthetic_label == label == int(before[original][1])
            assert equal(image, before[original][0]), f"synthetic image {position}, a copy of item {original}"
            position += 1
    assert position == len(augmented)
    batch = augmented.__getitems__(list(range(len(augmented))))
    for index, (image, label) in enumerate(batch):
        assert equal(image, augmented[index][0])
        assert label == augmented.targets[index]
    for index, (image, label) in enumerate(before):
        again, label_again = dataset[index]
        assert equal(again, image), "the dataset has changed"
        assert int(label_again) == int(label)
    return augmented
