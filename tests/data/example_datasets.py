r"""Small data sets for the tests of reading."""

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

LABELS = [2, 0, 1, 1, 0, 2, 2]


def pixels(*shape, dtype=np.uint8):
    r"""Returns random values from 0 to 255."""
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


class Items(Dataset):
    r"""A dataset of given items, with transforms and further attributes by keyword."""

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, label = self.items[index]
        if getattr(self, "transforms", None):
            return self.transforms(image, label)
        if getattr(self, "transform", None):
            image = self.transform(image)
        if getattr(self, "target_transform", None):
            label = self.target_transform(label)
        return image, label


class Wrapper(Items):
    r"""A dataset around another, which is its attribute ``dataset``, with further transforms."""

    def __init__(self, dataset, **attributes):
        super().__init__(dataset, dataset=dataset, **attributes)

    @property
    def items(self):
        return self.dataset

    @items.setter
    def items(self, dataset):
        pass


def grey(n=7):
    r"""Returns pairs of a grey PIL image, 5 pixels high and 4 wide, and its label."""
    return [(Image.fromarray(image), label) for image, label in zip(pixels(n, 5, 4), LABELS, strict=False)]


def fail(*_):
    r"""A transform that must not be applied."""
    raise AssertionError("a transform was applied")
