r"""The picture that ``gae-augment balance --preview`` writes."""

__all__ = ["check_preview", "save_preview"]

from pathlib import Path

from PIL import ExifTags, Image

from .._utils.files import check_file_place
from ..data import check_output

MARK = "gae-augment balance --preview"
"""The software that the metadata of a preview name."""


def check_preview(path: Path, force: bool) -> None:
    r"""Checks that a preview can be written to a path. It may replace an earlier preview.

    Args:
        path: The path of the picture.
        force: Whether it may replace any other file.

    Raises:
        ValueError: If the ending is not that of an image, or another file exists.
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"The preview {str(path)!r} has no ending of an image that can be written. Name it such as preview.png."
        )
    if path.is_file() and not force and not _is_preview(path):
        raise ValueError(
            f"The file {str(path)!r} exists already, and is no preview. Pass --force to overwrite it, or another name."
        )
    check_file_place(path)
    check_output(path.parent, force=True)


def _is_preview(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return bool(image.getexif().get(ExifTags.Base.Software) == MARK)
    except OSError:
        return False


def save_preview(picture: Image.Image, path: Path) -> None:
    r"""Saves a preview, with a mark that tells it from other pictures in formats with metadata."""
    metadata = Image.Exif()
    metadata[ExifTags.Base.Software] = MARK
    picture.save(path, exif=metadata)
