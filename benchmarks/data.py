r"""The data sets of the benchmarks."""

__all__ = ["load_images"]

import tarfile
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor
from torchvision.datasets import SVHN

from gae_augment.demo import LabelledSet, load_data

JPEG_ARCHIVE = "cifar10-jpeg.tar.gz"
"""CIFAR-10 as JPEG files, ``{train,test}/<class>/*.jpg``. It is lossy: figures compare only with each other."""


# Many runs in a row are of one data set, and one of single files takes a while to decode.
@lru_cache(maxsize=1)
def load_images(name: str, data_root: Path, cache: Path) -> LabelledSet:
    r"""Returns a data set, its training images in an order that is mixed and always the same.

    Args:
        name: ``"mnist"``, ``"fashion_mnist"``, ``"cifar10"``, ``"svhn"``, ``"bccd"`` or ``"digits"``.
        data_root: Where torchvision's data sets lie, and the folder ``bccd``.
        cache: Where an archive is unpacked.

    Raises:
        ValueError: If the data set is not there.
    """
    if name == "svhn":
        data = _svhn(data_root)
    elif (
        name == "cifar10" and not (data_root / "cifar-10-batches-py").is_dir() and (data_root / JPEG_ARCHIVE).is_file()
    ):
        folder = cache / "cifar10-jpeg"
        _unpack(data_root / JPEG_ARCHIVE, folder)
        # The archive may hold one folder around the two.
        inner = folder if (folder / "train").is_dir() else next(path for path in folder.iterdir() if path.is_dir())
        data = load_data(str(inner))
    else:
        data = load_data(str(data_root / name) if name == "bccd" else name, data_root)
    order = torch.randperm(len(data.train[0]), generator=torch.Generator().manual_seed(0))
    return LabelledSet(name, (data.train[0][order], data.train[1][order]), data.test, data.classes)


def _unpack(path: Path, folder: Path) -> None:
    r"""Unpacks an archive into a folder, unless it is there; runs beside each other do it once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if folder.is_dir():
            return
        partial = folder.with_suffix(".partial")
        with tarfile.open(path) as archive:
            archive.extractall(partial, filter="data")
        partial.replace(folder)


def _svhn(data_root: Path) -> LabelledSet:
    def read(split: str) -> tuple[Tensor, Tensor]:
        dataset = SVHN(str(data_root), split=split)
        return torch.from_numpy(dataset.data), torch.from_numpy(dataset.labels).long()

    try:
        return LabelledSet("svhn", read("train"), read("test"), tuple("0123456789"))
    except RuntimeError as error:
        raise ValueError(
            f"'--data-root' is the folder that torchvision keeps SVHN in, and {str(data_root)!r} does not hold it. "
            f"Download it in Python: torchvision.datasets.SVHN({str(data_root)!r}, split='train', download=True), and "
            f"split='test'."
        ) from error
