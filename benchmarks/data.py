r"""The data sets of the benchmarks."""

__all__ = ["load_images"]

import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import SVHN

from gae_augment.demo import LabelledSet, load_data

from .kept import Content, kept

JPEG_ARCHIVE = "cifar10-jpeg.tar.gz"
"""CIFAR-10 as JPEG files, ``{train,test}/<class>/*.jpg``. JPEG is lossy: compare figures only with each other."""


# Consecutive runs mostly use the same data set.
@lru_cache(maxsize=1)
def load_images(name: str, data_root: Path, cache: Path) -> LabelledSet:
    r"""Returns a data set with its training images in a random order, which is always the same.

    Args:
        name: ``"mnist"``, ``"fashion_mnist"``, ``"cifar10"``, ``"svhn"``, ``"bccd"`` or ``"digits"``.
        data_root: The folder of torchvision's data sets and of ``bccd``.
        cache: The folder of the decoded images of an archive.

    Raises:
        ValueError: If the data set is missing.
    """
    if name == "svhn":
        data = _svhn(data_root)
    elif (
        name == "cifar10" and not (data_root / "cifar-10-batches-py").is_dir() and (data_root / JPEG_ARCHIVE).is_file()
    ):
        data = _decoded(data_root / JPEG_ARCHIVE, cache)
    else:
        data = load_data(str(data_root / name) if name == "bccd" else name, data_root)
    order = torch.randperm(len(data.train[0]), generator=torch.Generator().manual_seed(0))
    return LabelledSet(name, (data.train[0][order], data.train[1][order]), data.test, data.classes)


def _decoded(archive: Path, cache: Path) -> LabelledSet:
    r"""Returns the images of an archive, which is unpacked and decoded only once."""

    def make() -> Content:
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
            # The archive may hold one folder around the two.
            inner = next(path for path in (Path(folder), *Path(folder).iterdir()) if (path / "train").is_dir())
            data = load_data(str(inner))
        parts = {"train": data.train, "test": data.test}
        images = {f"{part} images": pair[0] for part, pair in parts.items()}
        return {"classes": data.classes}, images | {f"{part} labels": pair[1] for part, pair in parts.items()}

    header, tensors = kept(cache / "cifar10-jpeg.safetensors", make)
    train, test = ((tensors[f"{part} images"], tensors[f"{part} labels"]) for part in ("train", "test"))
    return LabelledSet("cifar10", train, test, tuple(header["classes"]))


def _svhn(data_root: Path) -> LabelledSet:
    def read(split: str) -> tuple[Tensor, Tensor]:
        dataset = SVHN(str(data_root), split=split)
        return torch.from_numpy(dataset.data), torch.from_numpy(dataset.labels).long()

    try:
        return LabelledSet("svhn", read("train"), read("test"), tuple("0123456789"))
    except RuntimeError as error:
        raise ValueError(
            f"'--data-root' is {str(data_root)!r}, but this folder does not hold torchvision's SVHN. Download it in "
            f"Python: torchvision.datasets.SVHN({str(data_root)!r}, split='train', download=True), and "
            f"split='test'."
        ) from error
