r"""Reads image folders with one sub-folder per class, and converts tensors to images that can be saved as PNG files."""

__all__ = ["as_pictures", "check_output", "open_folder", "upright_bytes"]

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from .encoding import encode, saving_options
from .file_loaders import FolderLoader, is_turned, naming_file
from .formats import ItemFormat

NATIVE_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
"""The Pillow modes that are read without conversion if all images of a folder have the same mode."""

CONVERTED_MODES = ("P", "PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""The Pillow modes that are always converted to RGB, even if all images of a folder have the same mode."""

PNG_MODES = {torch.bool: "1", torch.uint16: "I;16", 1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""The Pillow mode of a PNG file, by the data type of the image, or by its number of channels if the type is uint8."""

OTHER_ENDINGS = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jxl", ".jp2", ".raw", ".dng", ".cr2", ".nef", ".arw")
"""Endings of image files, beside those that Pillow knows, that torchvision's ImageFolder does not read."""

JPEG_QUALITY = 95
"""The quality of JPEG files that are turned."""

MAX_LISTED = 10
"""The maximum number of skipped files that a warning lists."""


def open_folder(
    folder: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    skip_unreadable: bool = False,
    headers: int | None = None,
    mode: str | None = None,
) -> ImageFolder:
    r"""Returns a dataset of the PIL images in a folder with one sub-folder per class.

    The images keep their Pillow mode if they all have the same mode, and this mode is ``1``, ``L``, ``LA``, ``RGB``,
    ``RGBA`` or ``I;16`` (16-bit greyscale). Otherwise, all images are converted to RGB.

    Args:
        folder: The path of the folder.
        size: The height and width to which all images are resized; ``None`` keeps the size of each image.
        skip_unreadable: Whether unreadable files are skipped. If true, every file is decoded once as a check. If false,
            only headers are checked, and a file with damaged pixels raises a ValueError when its image is loaded.
        headers: The maximum number of headers that are checked, of files evenly spread over the folder. ``None`` checks
            the headers of all files, as it takes to find the mode of all images. Skipping ignores this number.
        mode: The Pillow mode of all images, such as that of another folder of the same images,
            ``other.loader.mode``. ``None`` chooses it as above.

    Raises:
        ValueError: If there are no sub-folders, a sub-folder has no image files, a Pillow mode is not supported, or
            only some images have 16 bits. Also if a file is not an image and ``skip_unreadable`` is false, or if all
            files of a class are unreadable.

    Warns:
        UserWarning: If files are skipped. The warning lists up to 10 skipped files.
    """
    folder = Path(folder)
    left_out: list[str] = []
    try:
        dataset = _VisibleFolder(str(folder), left_out)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{str(folder)!r} is not a folder of images by class: {str(error).splitlines()[0]}. It must contain one "
            f"sub-folder per class, each with image files, as for torchvision's ImageFolder."
        ) from error
    modes, readable, skipped = set(), [], []
    every = 1 if headers is None or skip_unreadable else max(1, math.ceil(len(dataset) / headers))
    for path, label in dataset.samples[::every]:
        try:
            with naming_file(path), Image.open(path) as image:
                if skip_unreadable:
                    image.load()
                modes.add("I;16" if image.mode == "I;16B" else image.mode)
            readable.append((path, label))
        except ValueError:
            if not skip_unreadable:
                raise
            skipped.append(path)
    if left_out:
        _warn_of_left_out(left_out)
    if skipped:
        _drop_skipped(dataset, readable, skipped)
    modes |= {mode} if mode else set()
    if modes - {*NATIVE_MODES, *CONVERTED_MODES} or ("I;16" in modes and len(modes) > 1):
        raise ValueError(
            f"{str(folder)!r} contains images of the modes {sorted(modes)}, which turn black or white when converted. "
            f"Convert all of them to 8 bits, or all of them to 16."
        )
    if mode is None and len(modes) == 1:
        (mode,) = modes
    dataset.loader = FolderLoader(mode if mode in NATIVE_MODES else "RGB", size)
    return dataset


class _VisibleFolder(ImageFolder):
    r"""A folder of images by class, without hidden files and folders such as ``.ipynb_checkpoints``.

    Args:
        root: The path of the folder.
        left_out: A list that receives the paths of images whose endings torchvision does not read.
    """

    def __init__(self, root: str, left_out: list[str]) -> None:
        def is_read(path: str) -> bool:
            # Text, because paths of pathlib take five times longer.
            if any(map(_is_hidden, path[len(root) :].split(os.sep))):
                return False
            if path.lower().endswith(IMG_EXTENSIONS):
                return True
            if _looks_like_an_image(path):
                left_out.append(path)
            return False

        super().__init__(root, is_valid_file=is_read)
        # The function cannot be pickled for workers, and is not needed any more.
        self.is_valid_file = None

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        r"""Returns the names of the visible sub-folders, and the label of each."""
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and not _is_hidden(entry.name))
        if not names:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        return names, {name: label for label, name in enumerate(names)}


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _looks_like_an_image(path: str) -> bool:
    r"""Returns whether a file that torchvision does not read has the ending of an image, or no ending and its bytes."""
    ending = os.path.splitext(path)[1].lower()
    if ending:
        return ending in OTHER_ENDINGS or ending in Image.registered_extensions()
    try:
        with Image.open(path):
            return True
    except OSError:
        return False


def _warn_of_left_out(paths: list[str]) -> None:
    r"""Warns of images with endings that torchvision's ImageFolder does not read."""
    endings = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in paths)
    warnings.warn(
        f"{len(paths)} images are left out, because torchvision's ImageFolder does not read files with their endings "
        f"({', '.join(f'{ending}: {count}' for ending, count in sorted(endings.items()))}): "
        f"{_some(paths)}. Convert them to .png or .jpg to use them.",
        stacklevel=3,
    )


def _some(paths: list[str]) -> str:
    r"""Returns the first paths of a list, and the number of the others."""
    more = f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else ""
    return ", ".join(paths[:MAX_LISTED]) + more


def upright_bytes(path: Path) -> bytes | None:
    r"""Returns the bytes of an image file that is turned as its EXIF tag says, or ``None`` if it needs no turn.

    Readers differ in whether they obey the tag. Without it, all of them show real and synthetic images alike. The
    format stays that of the file, and a lossless file stays lossless.

    Raises:
        ValueError: If the file cannot be read or written as an image. The error names the file.
    """
    with naming_file(str(path)), Image.open(path) as image:
        if not is_turned(image):
            return None
        options = saving_options(image, path)
        turned = ImageOps.exif_transpose(image)
    if "qtables" in options:
        # The quality of the file would lose detail a second time.
        del options["qtables"]
        options["quality"] = JPEG_QUALITY
    try:
        return encode(turned, {**options, "exif": turned.getexif()})
    # Pillow's encoders raise many kinds of exceptions.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} stands on its side and cannot be saved upright: {type(error).__name__}: {error}. Save it "
            f"upright with another program, or remove it."
        ) from error


def _drop_skipped(dataset: ImageFolder, readable: list[tuple[str, int]], skipped: list[str]) -> None:
    r"""Removes unreadable files from a dataset in place, with a warning; raises a ValueError if a class becomes empty.

    ``readable`` lists the readable files as pairs of path and label, and ``skipped`` lists the paths of the others.
    """
    empty_classes = set(range(len(dataset.classes))) - {label for _, label in readable}
    if empty_classes:
        names = ", ".join(dataset.classes[label] for label in sorted(empty_classes))
        raise ValueError(
            f"{str(dataset.root)!r} contains no readable image of {names}. Unreadable files include {skipped[0]!r}. "
            f"Repair them, or remove the sub-folder."
        )
    dataset.samples = dataset.imgs = readable
    dataset.targets = [label for _, label in readable]
    warnings.warn(
        f"{len(skipped)} of {len(readable) + len(skipped)} files cannot be read as images and are skipped: "
        f"{_some(skipped)}.",
        stacklevel=3,
    )


def check_output(folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    r"""Creates an output folder if it does not exist, and returns its path.

    Args:
        folder: The path of the folder.
        force: Whether the folder may already contain files. If false, it must be empty.

    Raises:
        ValueError: If the path is not a writable folder, or the folder is not empty and ``force`` is false.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.scandir(folder) as entries:
            occupied = any(True for _ in entries)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise ValueError(
            f"The output folder {str(folder)!r} cannot be written to: {error.strerror}. Choose another with --output."
        ) from error
    if not writable:
        raise ValueError(
            f"The output folder {str(folder)!r} cannot be written to: no permission. Choose another with --output."
        )
    if occupied and not force:
        raise ValueError(
            f"The output folder {str(folder)!r} already contains files. To add to them pass --force, in Python "
            f"force=True."
        )
    return folder


def as_pictures(images: Tensor) -> Iterator[Image.Image]:
    r"""Converts images to PIL images that can be saved as PNG files, and returns an iterator over the PIL images.

    Args:
        images: The images, with shape :math:`(N, C, H, W)`. The data type is uint8 with 1 to 4 channels, or bool or
            uint16 with 1 channel.

    Raises:
        ValueError: If the images have another shape or data type.
    """
    channels = images.shape[1] if images.ndim == 4 else None
    mode = PNG_MODES.get(images.dtype) if images.dtype != torch.uint8 else PNG_MODES.get(channels)
    if mode is None or channels is None or (images.dtype != torch.uint8 and channels != 1):
        raise ValueError(
            f"Images of shape {tuple(images.shape)} and type {images.dtype} cannot be saved as PNG. PNG files hold "
            f"1 to 4 channels of 8 bits, or one of 1 or 16 bits. Save them from Python: "
            f"torch.save(augmenter.sample(…), path)."
        )
    return map(ItemFormat("PIL image", tuple(images.shape[1:]), images.dtype, mode=mode).from_tensor, images)
