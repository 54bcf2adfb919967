r"""Folders of images: class by class in, synthetic files out."""

__all__ = ["as_pictures", "check_output", "open_folder"]

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets import ImageFolder

from .reading import ItemFormat

KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
"""The modes in which images are read as they are, where all have the same."""

CONVERTED_MODES = ("P", "PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""The modes that become RGB, as do several together."""

MODES = {torch.bool: "1", torch.uint16: "I;16", 1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


NOT_BLENDED = ("1", "I;16")
"""The modes of :data:`KEPT_MODES` that are resized without mixing pixels, which Pillow does of 8 bits alone."""


def _load(path: str, mode: str, size: tuple[int, int] | None) -> Image.Image:
    with Image.open(path) as image:
        # Of a palette with transparency Pillow converts only this way without a warning.
        opened = image.convert("RGBA") if image.mode != mode and "transparency" in image.info else image
        own = opened.convert(mode) if opened.mode != mode else opened.copy()
    if size is None or own.size == size[::-1]:
        return own
    how = Image.Resampling.NEAREST if mode in NOT_BLENDED else Image.Resampling.BILINEAR
    return own.resize(size[::-1], how)


def open_folder(folder: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> ImageFolder:
    r"""Returns a folder with one sub-folder of images per class as a dataset of PIL images.

    Grey images stay grey, and images with transparency or 16 bits stay so: torchvision's own loader makes all RGB.

    Args:
        folder: The folder.
        size: The height and width that images are brought to, whatever their own. Without it they have one.

    Raises:
        ValueError: If it is no such folder, a file in it is not an image, or images have several sizes.
    """
    folder = Path(folder)
    try:
        dataset = ImageFolder(str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"A folder of images has one sub-folder per class, each with image files, as torchvision's ImageFolder "
            f"reads them, and {str(folder)!r} has not: {str(error).splitlines()[0]}."
        ) from error
    modes, sizes = set(), set()
    for path, _ in dataset.samples:
        try:
            with Image.open(path) as image:
                modes.add(image.mode)
                sizes.add(image.size)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"The files of a class folder are images, and {path!r} cannot be read as one. Mend or remove it."
            ) from error
    if modes - {*KEPT_MODES, *CONVERTED_MODES} or ("I;16" in modes and len(modes) > 1):
        raise ValueError(
            f"Images have 8 bits, or all of them 16, and in {str(folder)!r} there are the modes {sorted(modes)}, which "
            f"become black or white as colours. Convert them to 8 bits."
        )
    if size is None and len(sizes) > 1:
        areas = [width * height for width, height in sizes]
        raise ValueError(
            f"Images have one size, and in {str(folder)!r} there are {len(sizes)}, of {min(areas)} to {max(areas)} "
            f"pixels. Have them brought to one: --size 64, in Python open_folder(folder, size=(64, 64))."
        )
    mode = next(iter(modes)) if len(modes) == 1 else "RGB"
    dataset.loader = partial(_load, mode=mode if mode in KEPT_MODES else "RGB", size=size)
    return dataset


def check_output(folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    r"""Makes an output folder, and returns it.

    Raises:
        ValueError: If it is a file, cannot be written to, or already holds files and is not to be written over.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.scandir(folder) as entries:
            occupied = any(True for _ in entries)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise ValueError(
            f"The output is a folder that can be written to, and {str(folder)!r} is not: {error.strerror}. "
            f"Choose another with --output."
        ) from error
    if not writable:
        raise ValueError(
            f"The output is a folder that can be written to, and {str(folder)!r} is not. Choose another with --output."
        )
    if occupied and not force:
        raise ValueError(
            f"The output folder is empty or new, and {str(folder)!r} holds files. Pass --force, in Python force=True, "
            f"to add to it."
        )
    return folder


def as_pictures(images: Tensor) -> Iterator[Image.Image]:
    r"""Returns images, with shape :math:`(N, C, H, W)`, as pictures that a PNG file can hold.

    Raises:
        ValueError: If their type or number of channels cannot be had in one.
    """
    channels = images.shape[1] if images.ndim == 4 else None
    mode = MODES.get(images.dtype) if images.dtype != torch.uint8 else MODES.get(channels)
    if mode is None or channels is None or (images.dtype != torch.uint8 and channels != 1):
        raise ValueError(
            f"PNG files hold images of 1 to 4 channels of 8 bits, or one of 16, and these have shape "
            f"{tuple(images.shape)} of {images.dtype}. Save them from Python: torch.save(augmenter.sample(…), path)."
        )
    return map(ItemFormat("PIL image", tuple(images.shape[1:]), images.dtype, mode=mode).from_tensor, images)
