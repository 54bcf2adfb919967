r"""Plain figures of one image: how bright, how sharp and how large it is."""

__all__ = ["ImageStatistics", "image_statistics"]

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ImageStatistics:
    r"""Figures of one image.

    Attributes:
        brightness: The mean of the grey values, from 0 (black) to 1 (white).
        sharpness: The mean absolute Laplacian of the grey values, at the size of the image.
        resolution: The square root of the number of pixels, in pixels.
    """

    brightness: float
    sharpness: float
    resolution: float


def image_statistics(image: Image.Image) -> ImageStatistics:
    r"""Returns the figures of an image. Opacity has no effect on them.

    The Laplacian of a pixel is the sum of its four neighbours, minus four times the pixel. Pixels beyond the border
    have the values of the border.
    """
    # Pillow would clip 16-bit pixels to 255.
    deep = image.mode.startswith("I;16")
    grey = np.asarray(image if deep else image.convert("L"), dtype=np.float32) / (65535 if deep else 255)
    padded = np.pad(grey, 1, mode="edge")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return ImageStatistics(float(grey.mean()), float(np.abs(neighbours - 4 * grey).mean()), float(grey.size**0.5))
