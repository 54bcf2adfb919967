r"""Moves the image in a file, and keeps the format and the quality of the file."""

__all__ = ["moved_bytes"]

import io
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin
from torch import Tensor

from ..data import upright
from ..motion import move

WEBP_QUALITY = 95
"""The quality of WebP files, which do not tell their own."""


def moved_bytes(path: Path, v: Tensor) -> bytes:
    r"""Returns the bytes of an image file whose image is moved.

    The image keeps its size, mode, bit depth and colour profile, and stands as viewers show it. Of a file with several
    images, the first one is moved. Other metadata, such as the place of the photograph, are left out.

    Args:
        path: The path of the file.
        v: The velocity field, with shape :math:`(1, 2, 8, 8)`.

    Raises:
        ValueError: If the file cannot be read or written as an image. The error names the file.
    """
    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            # Photographs of some cameras are JPEG files with a second image.
            image_format = "JPEG" if image.format == "MPO" else image.format
            options = _quality(image)
            moved = move(upright(image), v)
        # Pillow would write other entries too, such as the comment of a JPEG file.
        moved.info = {name: value for name, value in moved.info.items() if name == "transparency"}
        moved.save(file, image_format, **options)
    # Pillow's decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be moved: {type(error).__name__}: {error}. Repair or remove it, and run the command "
            f"again."
        ) from error
    return file.getvalue()


def _quality(image: Image.Image) -> dict[str, Any]:
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
        options["quality"] = WEBP_QUALITY
    elif image.format == "TIFF" and "compression" in image.info:
        options["compression"] = image.info["compression"]
    return options
