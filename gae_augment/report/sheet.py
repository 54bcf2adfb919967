r"""Draws real and synthetic images side by side."""

__all__ = ["contact_sheet"]

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from .._utils.seeding import derive_seed, global_seed
from .._utils.text import printable
from ..augmenter import GAEAugmenter
from ..data import ItemFormat
from ..mixing import AugmentedDataset
from ..motion import move

MARGIN, TEXT_HEIGHT, LINES = 4, 16, 8
"""The space between images and the height of a line of text, in pixels, and the number of lines of a drawn grid."""


def contact_sheet(
    augmenter: GAEAugmenter, dataset: Any, *, columns: int = 8, side: int = 128, seed: int = 0
) -> Image.Image:
    r"""Returns one picture of the synthetic images of each class that needs images.

    Each class has a row of real images and a row of synthetic ones below. A deformed image stands below the real image
    that it was made from, and above its motion, drawn as a bent grid.

    Args:
        augmenter: The fitted augmenter.
        dataset: The dataset of the fit. Its transforms have no effect.
        columns: The number of synthetic images of each class.
        side: The longest side of each drawn image, in pixels.
        seed: The seed of the synthetic images.

    Raises:
        ValueError: If no class needs images.
    """
    images_to_add = {label: columns for label, number in augmenter.sampling_strategy_.items() if number}
    if not images_to_add:
        raise ValueError("No class needs images, so there are none to draw. Change 'sampling_strategy'.")
    raw = AugmentedDataset(dataset, augmenter, transform=None, images_to_add=images_to_add, seed=seed)
    targets = np.array(raw.targets)
    strips = []
    for label in images_to_add:
        name = printable(augmenter.class_names_[label])
        real = np.flatnonzero((targets == label) & ~raw.is_synthetic)
        chosen = np.flatnonzero((targets == label) & raw.is_synthetic).tolist()
        sources = [raw.source_of(index) for index in chosen]
        shown = [int(real[k % len(real)]) if source is None else source for k, source in enumerate(sources)]
        strips.append(_text(f"{name}: {len(real)} real images", columns, side))
        # A dataset may draw random numbers when it reads an image.
        with global_seed(derive_seed(seed, "contact sheet", str(label))):
            strips.append(_row([_picture(raw.raw_image(index)) for index in shown], columns, side))
            pictures = [_picture(raw.raw_image(index)) for index in chosen]
        strips.append(_row(pictures, columns, side))
        motions = [raw.motion_of(index) for index in chosen]
        grids = [_grid(picture.size, v) for picture, v in zip(pictures, motions, strict=True) if v is not None]
        strips += [_row(grids, columns, side)] if grids else []
    sheet = Image.new("RGB", (columns * (side + MARGIN), sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _text(line: str, columns: int, side: int) -> Image.Image:
    strip = Image.new("RGB", (columns * (side + MARGIN), TEXT_HEIGHT), "white")
    ImageDraw.Draw(strip).text((2, 2), line, fill="black")
    return strip


def _row(images: list[Image.Image], columns: int, side: int) -> Image.Image:
    strip = Image.new("RGB", (columns * (side + MARGIN), side + MARGIN), "white")
    for column, image in enumerate(images):
        fitted = ImageOps.contain(image, (side, side), Image.Resampling.BILINEAR)
        strip.paste(fitted, (column * (side + MARGIN), 0))
    return strip


def _picture(image: Any) -> Image.Image:
    r"""Returns an image of any format as an RGB image; values other than 8 bits are scaled to their range."""
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    tensor = ItemFormat.of(image).to_tensor(image)
    maps = tensor[None] if tensor.ndim == 2 else tensor
    if maps.dtype != torch.uint8:
        values = maps.double()
        low, high = float(values.min()), float(values.max())
        if maps.is_floating_point() and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        maps = ((values - low) / max(high - low, 1e-12) * 255).round().to(torch.uint8)
    # Grey, or the first three channels.
    array = maps[:3].permute(1, 2, 0).numpy() if len(maps) >= 3 else maps[0].numpy()
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _grid(size: tuple[int, int], v: Tensor) -> Image.Image:
    r"""Returns a grid of lines, of a width and height, that a velocity field moves."""
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    width = max(1, min(size) // 100)
    for k in range(LINES + 1):
        x, y = (round(k / LINES * (pixels - 1)) for pixels in size)
        draw.line([(x, 0), (x, grid.height)], fill="black", width=width)
        draw.line([(0, y), (grid.width, y)], fill="black", width=width)
    moved: Image.Image = move(grid, v)
    return moved
