r"""Moves the image in a file, and keeps the format and the quality of the file."""

__all__ = ["moved_bytes"]

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin
from torch import Tensor

from ..data import upright
from ..motion import move

WEBP_QUALITY = 95
"""The quality of lossy WebP files, which do not tell their own."""

TIFF_FALLBACK = "tiff_adobe_deflate"
"""The lossless compression in place of those that Pillow reads, but cannot write."""


def moved_bytes(path: Path, v: Tensor) -> bytes:
    r"""Returns the bytes of an image file whose image is moved.

    The image keeps its size, mode, bit depth and colour profile, and stands as viewers show it. A lossless WebP file
    stays lossless, and a TIFF file whose compression cannot be written gets a lossless one. Of a file with several
    images, the first one is moved. Other metadata, such as the place of the photograph, are left out.

    Args:
        path: The path of the file.
        v: The velocity field, with shape :math:`(1, 2, 8, 8)`.

    Raises:
        ValueError: If the file cannot be read or written as an image. The error names the file.
    """
    try:
        with Image.open(path) as image:
            # Photographs of some cameras are JPEG files with a second image.
            image_format = "JPEG" if image.format == "MPO" else image.format
            options = _quality(image, path)
            moved = move(upright(image), v)
        # Pillow would write other entries too, such as the comment of a JPEG file.
        moved.info = {name: value for name, value in moved.info.items() if name == "transparency"}
        try:
            return _encode(moved, image_format, options)
        except OSError:
            if "compression" not in options:
                raise
            return _encode(moved, image_format, {**options, "compression": TIFF_FALLBACK})
    # Pillow's decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be moved: {type(error).__name__}: {error}. Repair or remove it, and run the command "
            f"again."
        ) from error


def _encode(image: Image.Image, image_format: str | None, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _quality(image: Image.Image, path: Path) -> dict[str, Any]:
    r"""Returns the options with which Pillow saves an image as its file was saved."""
    options: dict[str, Any] = {}
    if "icc_profile" in image.info:
        options["icc_profile"] = image.info["icc_profile"]
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        options["qtables"] = image.quantization
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling != -1:
            options["subsampling"] = sampling
    elif image.format == "WEBP":
        # Without "exact", Pillow may change the colours of transparent pixels.
        options |= {"lossless": True, "exact": True} if _is_lossless_webp(path) else {"quality": WEBP_QUALITY}
    elif image.format == "TIFF" and "compression" in image.info:
        options["compression"] = image.info["compression"]
    return options


def _is_lossless_webp(path: Path) -> bool:
    r"""Returns whether the first image of a WebP file is in the lossless format, whose chunk is named VP8L."""
    with path.open("rb") as file:
        # The header of a WebP file has 12 bytes, and that of each chunk 8: its name and its size.
        file.seek(12)
        while len(header := file.read(8)) == 8:
            if header[:4] in (b"VP8L", b"VP8 "):
                return header[:4] == b"VP8L"
            size = int.from_bytes(header[4:], "little")
            # A frame of an animation holds chunks, after 16 bytes of its own. Other chunks have an even length.
            file.seek(16 if header[:4] == b"ANMF" else size + size % 2, os.SEEK_CUR)
    return False
