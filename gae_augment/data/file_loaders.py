r"""Loaders of image files: whole, at reduced size for the networks, or the header alone."""

__all__ = ["FolderLoader", "header_loader", "is_turned", "naming_file", "reduced_loader", "upright"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin
from torchvision import get_image_backend
from torchvision.datasets.folder import default_loader

Loader = Callable[[str], Any]
"""A function from the path of a file to its image."""

NEAREST_MODES = ("1", "I;16")
"""The modes whose images are resized by nearest-neighbour sampling, since Pillow interpolates only 8-bit pixels."""

LYING = range(5, 9)
"""The EXIF orientations of files that hold rows as columns."""

OVERSAMPLING = 1.5
"""JPEG files are decoded with at least this number of pixels along each side, per pixel of the working size.

Beside a whole decoding, the values of tiles, leaves and photographs of 224 pixels then change by 0.4 of 255 on average,
and correlate by 0.999. With 1 in place of 1.5, they change by up to 1.4.
"""


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    r"""Context manager: converts any exception from reading an image file to a ValueError that names the file."""
    try:
        yield
    # Pillow's decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise ValueError(
            f"{path!r} cannot be read as an image ({error}). Repair or remove it, or skip all unreadable files with "
            f"--skip-unreadable, in Python open_folder(…, skip_unreadable=True)."
        ) from error


def upright(image: Image.Image) -> Image.Image:
    r"""Returns an image as a viewer shows it, turned as its EXIF tag says, in a Pillow mode that can be converted."""
    if image.mode == "I;16B":
        # 16-bit TIFF in the other byte order.
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    return ImageOps.exif_transpose(image)


def is_turned(image: Image.Image) -> bool:
    r"""Returns whether an image's EXIF tag turns or mirrors it."""
    return _orientation(image) in range(2, 9)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        # Pillow would decode the whole file to look for a tag behind the pixels.
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


@dataclass(frozen=True)
class FolderLoader:
    r"""Loads the upright image of a file in one Pillow mode.

    Attributes:
        mode: The Pillow mode of all images.
        size: The height and width to which images are resized; ``None`` keeps the size of each image.
    """

    mode: str
    size: tuple[int, int] | None = None

    def __call__(self, path: str) -> Image.Image:
        r"""Returns the image of a file."""
        with naming_file(path), Image.open(path) as stored:
            return self.converted(stored)

    def converted(self, stored: Image.Image) -> Image.Image:
        r"""Returns the image of an open file."""
        image = upright(stored)
        # Pillow warns about a palette with transparency unless the image is converted to RGBA first.
        source = image.convert("RGBA") if image.mode != self.mode and "transparency" in image.info else image
        converted = source.convert(self.mode) if source.mode != self.mode else source.copy()
        if self.size is None or converted.size == self.size[::-1]:
            return converted
        resampling = Image.Resampling.NEAREST if self.mode in NEAREST_MODES else Image.Resampling.BILINEAR
        return converted.resize(self.size[::-1], resampling)


def header_loader(loader: Loader) -> Loader:
    r"""Returns a loader of black images with the modes and sizes of another loader's images.

    It reads the headers of files alone. A loader of an unknown kind is returned itself.
    """
    folder_loader = _known(loader)
    return loader if folder_loader is None else _HeaderLoader(folder_loader, turns=loader is folder_loader)


def reduced_loader(loader: Loader, size: tuple[int, int]) -> Loader:
    r"""Returns a loader of the same images, whose JPEG files are decoded at reduced size.

    The images are at least 1.5 times as high and wide as ``size``, or as large as those of ``loader``. A loader of an
    unknown kind is returned itself.

    Args:
        loader: The loader.
        size: The height and width to which the images will be resized.
    """
    folder_loader = _known(loader)
    # The pixels of an image that is resized twice would change by more.
    if folder_loader is None or folder_loader.size is not None:
        return loader
    height, width = (round(OVERSAMPLING * side) for side in size)
    return _ReducedLoader(loader, (height, width))


def _known(loader: Loader) -> FolderLoader | None:
    r"""Returns a loader of the same modes and sizes, or ``None`` if the loader is of an unknown kind."""
    if loader is default_loader and get_image_backend() == "PIL":
        return FolderLoader("RGB")
    return loader if isinstance(loader, FolderLoader) else None


def _shown_size(stored: Image.Image, *, turned: bool) -> tuple[int, int]:
    r"""Returns the height and width of an image, turned as its EXIF tag says or not."""
    width, height = stored.size
    if isinstance(stored, TiffImagePlugin.TiffImageFile):
        # Newer versions of Pillow swap the sides of turned TIFF files themselves.
        tags = TiffImagePlugin
        width, height = stored.tag_v2[tags.IMAGEWIDTH], stored.tag_v2[tags.IMAGELENGTH]
    return (width, height) if turned and _orientation(stored) in LYING else (height, width)


@dataclass(frozen=True)
class _HeaderLoader:
    loader: FolderLoader
    turns: bool

    def __call__(self, path: str) -> Image.Image:
        # Torchvision's own loader names no file either.
        with naming_file(path) if self.turns else nullcontext(), Image.open(path) as stored:
            height, width = self.loader.size or _shown_size(stored, turned=self.turns)
        return Image.new(self.loader.mode, (width, height))


@dataclass(frozen=True)
class _ReducedLoader:
    loader: Loader
    least: tuple[int, int]

    def __call__(self, path: str) -> Image.Image:
        convert = self.loader.converted if isinstance(self.loader, FolderLoader) else None
        with naming_file(path) if convert else nullcontext(), Image.open(path) as stored:
            # Many phones write MPO, which is JPEG with more images behind the first.
            if stored.format in ("JPEG", "MPO"):
                lies = convert is not None and _orientation(stored) in LYING
                stored.draft(None, self.least if lies else self.least[::-1])
            # Torchvision's own loader does nothing else.
            return convert(stored) if convert else stored.convert("RGB")
