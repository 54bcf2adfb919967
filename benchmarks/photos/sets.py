r"""The photographs, and their splits into training and validation."""

__all__ = ["COUNTS", "SIDE", "PhotoSet", "folder_of", "load_photos", "training_rows"]

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from gae_augment._utils.seeding import make_generator

SIDE = 256
"""The side in pixels to which photographs are resized. Tiles of other shapes become squares."""

SIDES = {"bccd": 146}
"""This replaces ``SIDE``, by folder. The network then sees 128 pixels of blood cells, which are stored with 32."""

FOLDERS = {"bccd": "bccd"}
"""Where a folder lies below the data root, if it is not below ``photos``."""

COUNTS = {
    "leaves": {"healthy": 600, "Apple_scab": 60, "Black_rot": 30, "Cedar_apple_rust": 12},
    "leaves-few": {"healthy": 600, "Apple_scab": 20, "Black_rot": 10, "Cedar_apple_rust": 5},
    "leaves-many": {"healthy": 600, "Apple_scab": 120, "Black_rot": 90, "Cedar_apple_rust": 60},
    "tiles": {},
    "bccd": {"RBC": 600, "WBC": 60, "Platelets": 30},
}
"""The maximum number of training images of classes that are made scarce, by the name of the set.

What precedes a hyphen is the folder. Sets of one folder differ in these numbers alone.
"""

GROUP = re.compile(r"[^/]+/tile\d+|slide\d+")
"""The part of a path that names a photographed tile or a slide of blood. Its images stay together."""

SHARES = {"leaves": 2 / 3, "tiles": 1 / 2, "bccd": 1 / 2}
"""The largest share of a class's images that is used for training if the rest is used for validation, by folder."""


@dataclass(frozen=True)
class PhotoSet:
    r"""Photographs of one folder.

    Attributes:
        name: The name of the set.
        images: The images, uint8 with shape :math:`(N, 3, S, S)`.
        labels: The labels, with shape :math:`(N,)`.
        groups: The group of each image; images of a group show the same thing.
        classes: The names of the classes.
    """

    name: str
    images: Tensor
    labels: Tensor
    groups: tuple[str, ...]
    classes: tuple[str, ...]


def folder_of(name: str) -> str:
    r"""Returns the folder of a set."""
    return name.partition("-")[0]


def load_photos(name: str, part: str, data_root: Path) -> PhotoSet:
    r"""Returns the photographs of ``part``, ``"train"`` or ``"test"``, in the folder of a set; one folder per class.

    Raises:
        FileNotFoundError: If the folder is missing.
    """
    folder = data_root / FOLDERS.get(folder_of(name), f"photos/{folder_of(name)}") / part
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r}. Name its data root: --data-root FOLDER.")
    paths = sorted(folder.glob("*/*"))
    classes = tuple(sorted({path.parent.name for path in paths}))
    images = [functional.pil_to_tensor(Image.open(path).convert("RGB")) for path in paths]
    side = SIDES.get(folder_of(name), SIDE)
    relative = [f"{path.parent.name}/{path.name}" for path in paths]
    return PhotoSet(
        name,
        torch.stack([functional.resize(image, [side, side], antialias=True) for image in images]),
        torch.tensor([classes.index(path.parent.name) for path in paths]),
        tuple(match[0] if (match := GROUP.search(path)) else path for path in relative),
        classes,
    )


def training_rows(photos: PhotoSet, seed: int, *, validated: bool) -> Tensor:
    r"""Returns the sorted indices of the training images of one split.

    Of each class, groups in random order are used, up to its number in ``COUNTS``, and with validation up to a share of
    its images. The last group may exceed the share, but one group is left for validation. Seeds 2k and 2k + 1 use the
    same order from its two ends, so that halves validate each other.

    Args:
        photos: The photographs.
        seed: The seed of the split.
        validated: Whether the other images are used for validation.
    """
    share = SHARES[folder_of(photos.name)] if validated else 1.0
    rows: list[int] = []
    for label, name in enumerate(photos.classes):
        members: dict[str, list[int]] = {}
        for row in (photos.labels == label).nonzero().flatten().tolist():
            members.setdefault(photos.groups[row], []).append(row)
        groups = list(members)
        order = torch.randperm(len(groups), generator=make_generator(seed // 2, "split", name)).tolist()
        if seed % 2:
            order.reverse()
        wanted = min(share * int((photos.labels == label).sum()), COUNTS.get(photos.name, {}).get(name, torch.inf))
        chosen: list[int] = []
        for position in order[:-1] if validated else order:
            if len(chosen) >= wanted:
                break
            chosen += members[groups[position]]
        rows += chosen
    return torch.tensor(sorted(rows))
