r"""Moves the image in a file, and keeps the format and the quality of the file."""

__all__ = ["moved_bytes"]

from pathlib import Path

from PIL import Image
from torch import Tensor

from ..data import encode, saving_options, upright
from ..motion import move


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
            options = saving_options(image, path)
            moved = move(upright(image), v)
        # Pillow would write other entries too, such as the comment of a JPEG file.
        moved.info = {name: value for name, value in moved.info.items() if name == "transparency"}
        return encode(moved, options)
    # Pillow's decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be moved: {type(error).__name__}: {error}. Repair or remove it, and run the command "
            f"again."
        ) from error
