r"""Loads data sets with training and test images, by name or from a folder."""

__all__ = ["MIN_TEST_IMAGES", "LabelledSet", "load_data"]

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from .._utils.storage import index_images
from ..data import choose_images, class_names, load_source, open_folder
from ..evaluation import Labelled

TORCHVISION = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
}

TEST_IMAGES_PER_DIGIT = 70
"""scikit-learn's digits have no test set, so this number of images of each class becomes the test set."""

MIN_TEST_IMAGES = 6
"""The minimum number of test images of a class: fidelity compares each image with five others."""


@dataclass(frozen=True)
class LabelledSet:
    r"""A data set with training and test images.

    Attributes:
        name: The name of the data set.
        train: The training images, with shape :math:`(N, C, H, W)`, and their labels, with shape :math:`(N,)`.
        test: The test images, with shape :math:`(M, C, H, W)`, and their labels, with shape :math:`(M,)`.
        classes: The names of the classes, ordered by label from 0.
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]


def _read(dataset: Any) -> Labelled:
    labels, read = load_source(dataset, own_size=True)
    images = read(range(len(labels)))
    # Black and white images become 0 and 255.
    return (images.to(torch.uint8) * 255 if images.dtype == torch.bool else images), torch.from_numpy(labels)


def _split(images: Tensor, labels: Tensor, test_counts: dict[int, int]) -> tuple[Labelled, Labelled]:
    test = choose_images(labels.numpy(), test_counts, seed=0)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return (index_images(images, train), labels[train]), (index_images(images, test), labels[test])


def load_data(
    dataset: str, data_root: str | os.PathLike[str] | None = None, *, size: tuple[int, int] | None = None
) -> LabelledSet:
    r"""Loads a data set by name, or from a folder.

    Args:
        dataset: ``"digits"``, ``"mnist"``, ``"fashion_mnist"``, ``"cifar10"``, or the path of a folder. A folder holds
            one sub-folder per class, or the folders ``train`` and ``test`` with one sub-folder per class. Without
            ``train`` and ``test``, a random quarter of each class, but at least six images, becomes the test set.
        data_root: The folder of torchvision's data sets. The default is the value of the environment variable
            ``GAE_DATA_ROOT``, or ``data`` if the variable is not set.
        size: The new height and width of a folder's images. By default images are not resized, and must have the same
            size.

    Raises:
        ValueError: If the data set or folder does not exist, or the folder is not a valid data set.
    """
    if dataset == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Scales the grey levels from 0..16 to 0..255.
        images = torch.from_numpy(np.minimum(digits.images * 16, 255).astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target)
        train, test = _split(images, labels, dict.fromkeys(range(10), TEST_IMAGES_PER_DIGIT))
        return LabelledSet(dataset, train, test, tuple("0123456789"))
    if dataset in TORCHVISION:
        root = Path(data_root or os.environ.get("GAE_DATA_ROOT", "data"))
        try:
            sets = [TORCHVISION[dataset](str(root), train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            kind = TORCHVISION[dataset].__name__
            raise ValueError(
                f"'--data-root' is {str(root)!r}, which does not hold torchvision's files of {dataset!r}. Pass another "
                f"folder, or download them: torchvision.datasets.{kind}({str(root)!r}, download=True)."
            ) from error
        names = class_names(sets[0]) or {}
        return LabelledSet(dataset, _read(sets[0]), _read(sets[1]), tuple(names.values()))
    folder = Path(dataset)
    if not folder.is_dir():
        raise ValueError(
            f"There is no data set or folder {dataset!r}. "
            f"Use 'digits', {', '.join(map(repr, TORCHVISION))} or the path of a folder."
        )
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train_folder, test_folder = (open_folder(folder / name, size=size) for name in ("train", "test"))
        if train_folder.classes != test_folder.classes:
            raise ValueError(
                f"The folder 'train' has the classes {train_folder.classes}, and 'test' has {test_folder.classes}. "
                f"Both must have the same classes. Add images of the missing classes, or remove the others."
            )
        name, classes = folder.resolve().name, tuple(train_folder.classes)
        return LabelledSet(name, _read(train_folder), _read(test_folder), classes)
    image_folder = open_folder(folder, size=size)
    images, labels = _read(image_folder)
    counts = labels.bincount().tolist()
    test_counts = {label: max(MIN_TEST_IMAGES, math.ceil(count / 4)) for label, count in enumerate(counts)}
    train, test = _split(images, labels, test_counts)
    return LabelledSet(folder.resolve().name, train, test, tuple(image_folder.classes))
