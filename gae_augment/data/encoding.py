r"""Encodes images in the format and the quality of the files that they come from."""

__all__ = ["encode", "saving_options"]

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin

WEBP_QUALITY = 95
"""The quality of lossy WebP files, which do not tell their own."""

TIFF_FALLBACK = "tiff_adobe_deflate"
"""The lossless compression in place of those that Pillow reads, but cannot write."""


def saving_options(image: Image.Image, path: Path) -> dict[str, Any]:
    r"""Returns the options with which Pillow saves an image as its file was saved.

    Args:
        image: The image, as ``Image.open`` returns it.
        path: The path of its file.
    """
    # Photographs of some cameras are JPEG files with a second image.
    options: dict[str, Any] = {"format": "JPEG" if image.format == "MPO" else image.format}
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


def encode(image: Image.Image, options: dict[str, Any]) -> bytes:
    r"""Returns the bytes of a file of an image, with the options of :func:`saving_options`.

    Pillow may be unable to write the compression of a TIFF file. The file then gets a lossless one.
    """
    file = io.BytesIO()
    try:
        image.save(file, **options)
    except OSError:
        if "compression" not in options:
            raise
        file = io.BytesIO()
        image.save(file, **{**options, "compression": TIFF_FALLBACK})
    return file.getvalue()


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
