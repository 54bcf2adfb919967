r"""Folders of images: class by class in, synthetic files out."""

__all__ = ["as_pictures", "check_output", "open_folder"]

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from .formats import ItemFormat

KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
"""The modes in which images are read as they are, where all have the same."""

CONVERTED_MODES = ("P", "PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""The modes that become RGB, as do several together."""

MODES = {torch.bool: "1", torch.uint16: "I;16", 1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


NOT_BLENDED = ("1", "I;16")
"""The modes of :data:`KEPT_MODES` that are resized without mixing pixels, which Pillow does of 8 bits alone."""


NAMED = 10
"""So many of the files that are left out are named."""


def _load(path: str, mode: str, size: tuple[int, int] | None) -> Image.Image:
    with _reading(path), Image.open(path) as image:
        # Of a palette with transparency Pillow converts only this way without a warning.
        opened = image.convert("RGBA") if image.mode != mode and "transparency" in image.info else image
        own = opened.convert(mode) if opened.mode != mode else opened.copy()
    if size is None or own.size == size[::-1]:
        return own
    how = Image.Resampling.NEAREST if mode in NOT_BLENDED else Image.Resampling.BILINEAR
    return own.resize(size[::-1], how)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    r"""Names the file that cannot be read as an image."""
    try:
        yield
    # Of a damaged file Pillow's decoders raise whatever they stumble on.
    except Exception as error:
        raise ValueError(
            f"The files of a class folder are images, and {path!r} cannot be read as one ({error}). Mend or remove it, "
            f"or leave out all such files: --skip-unreadable, in Python open_folder(…, skip_unreadable=True)."
        ) from error


def open_folder(
    folder: str | os.PathLike[str], *, size: tuple[int, int] | None = None, skip_unreadable: bool = False
) -> ImageFolder:
    r"""Returns a folder with one sub-folder of images per class as a dataset of PIL images.

    Grey images stay grey, and images with transparency or 16 bits stay so: torchvision's own loader makes all RGB.

    Args:
        folder: The folder.
        size: The height and width that images are brought to, whatever their own. Without it they have one.
        skip_unreadable: Whether files that cannot be read are left out. All files are read for that; without it their
            heads are, and one whose pixels are damaged shows when it is used.

    Raises:
        ValueError: If it is no such folder, a file in it is not an image, or images have several sizes.

    Warns:
        UserWarning: If files are left out; it names them.
    """
    folder = Path(folder)
    try:
        dataset = ImageFolder(str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"A folder of images has one sub-folder per class, each with image files, as torchvision's ImageFolder "
            f"reads them, and {str(folder)!r} has not: {str(error).splitlines()[0]}."
        ) from error
    modes, sizes, readable, skipped = set(), set(), [], []
    for path, label in dataset.samples:
        try:
            with _reading(path), Image.open(path) as image:
                if skip_unreadable:
                    image.load()
                modes.add(image.mode)
                sizes.add(image.size)
            readable.append((path, label))
        except ValueError:
            if not skip_unreadable:
                raise
            skipped.append(path)
    if skipped:
        _leave_out(dataset, readable, skipped)
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


def _leave_out(dataset: ImageFolder, readable: list[tuple[str, int]], skipped: list[str]) -> None:
    r"""Keeps the readable files of a folder, and says which the others are."""
    empty = set(range(len(dataset.classes))) - {label for _, label in readable}
    if empty:
        raise ValueError(
            f"Every class has images, and no file of {', '.join(dataset.classes[label] for label in sorted(empty))} in "
            f"{str(dataset.root)!r} can be read, as {skipped[0]!r}. Mend them, or remove the folder."
        )
    dataset.samples = dataset.imgs = readable
    dataset.targets = [label for _, label in readable]
    more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    warnings.warn(
        f"{len(skipped)} of {len(readable) + len(skipped)} files cannot be read as images, and are left out: "
        f"{', '.join(skipped[:NAMED])}{more}.",
        stacklevel=3,
    )


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
