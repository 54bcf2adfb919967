r"""Whole data sets with a test set, by name or by folder."""

__all__ = ["LEAST_TEST", "LabelledSet", "load_data"]

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

TEST_PER_DIGIT = 70
"""Of scikit-learn's digits, which come without a test set, so many of each class are the test set."""

LEAST_TEST = 6
"""The fewest test images of a class: fidelity looks at five neighbours of each."""


@dataclass(frozen=True)
class LabelledSet:
    r"""A whole data set.

    Attributes:
        name: Its name.
        train: The training images, with shape :math:`(N, C, H, W)`, and their labels.
        test: The test images and their labels.
        classes: The names of the labels 0, 1, ...
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]


def _read(dataset: Any) -> Labelled:
    labels, read = load_source(dataset)
    images = read(range(len(labels)))
    # Black and white is 0 and 255.
    return (images.to(torch.uint8) * 255 if images.dtype == torch.bool else images), torch.from_numpy(labels)


def _split(images: Tensor, labels: Tensor, per_class: dict[int, int]) -> tuple[Labelled, Labelled]:
    test = choose_images(labels.numpy(), per_class, seed=0)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    return (index_images(images, rest), labels[rest]), (index_images(images, test), labels[test])


def load_data(
    dataset: str, data_root: str | os.PathLike[str] | None = None, *, size: tuple[int, int] | None = None
) -> LabelledSet:
    r"""Returns a data set by its name, or the images of a folder.

    Args:
        dataset: ``"digits"``, which scikit-learn brings along; ``"mnist"``, ``"fashion_mnist"`` or ``"cifar10"``, as
            torchvision keeps them under the data root; or the path of a folder with one sub-folder per class, or with
            such folders ``train`` and ``test`` in it. Without a test folder a quarter of each class, and
            six images at least, is the test set.
        data_root: Where torchvision's data sets lie. By default the environment variable ``GAE_DATA_ROOT``, or
            ``data``.
        size: The height and width that the images of a folder are brought to; without it they have one.

    Raises:
        ValueError: If there is no such data set or folder.
    """
    if dataset == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Sixteen grey levels become the 256 that other images have.
        images = torch.from_numpy(np.minimum(digits.images * 16, 255).astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target)
        train, test = _split(images, labels, dict.fromkeys(range(10), TEST_PER_DIGIT))
        return LabelledSet(dataset, train, test, tuple("0123456789"))
    if dataset in TORCHVISION:
        root = Path(data_root or os.environ.get("GAE_DATA_ROOT", "data"))
        try:
            sets = [TORCHVISION[dataset](str(root), train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            kind = TORCHVISION[dataset].__name__
            raise ValueError(
                f"'--data-root' is the folder that torchvision keeps {dataset!r} in, and {str(root)!r} does not hold "
                f"it. Download it in Python: torchvision.datasets.{kind}({str(root)!r}, download=True)."
            ) from error
        names = class_names(sets[0]) or {}
        return LabelledSet(dataset, _read(sets[0]), _read(sets[1]), tuple(names.values()))
    folder = Path(dataset)
    if not folder.is_dir():
        raise ValueError(
            f"A data set is 'digits', {', '.join(map(repr, TORCHVISION))} or a folder, and there is no {dataset!r}."
        )
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        parts = [open_folder(folder / part, size=size) for part in ("train", "test")]
        if parts[0].classes != parts[1].classes:
            raise ValueError(
                f"The folders 'train' and 'test' have the same classes, and they have {parts[0].classes} and "
                f"{parts[1].classes}. Give images of the missing ones, or take the others out."
            )
        return LabelledSet(folder.resolve().name, _read(parts[0]), _read(parts[1]), tuple(parts[0].classes))
    whole = open_folder(folder, size=size)
    images, labels = _read(whole)
    quarter = {label: max(LEAST_TEST, math.ceil(count / 4)) for label, count in enumerate(labels.bincount().tolist())}
    train, test = _split(images, labels, quarter)
    return LabelledSet(folder.resolve().name, train, test, tuple(whole.classes))
