r"""Tells whether transforms move the pixels of an image at random, and which of them map images to images."""

__all__ = ["geometric_transform", "image_views"]

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from .._utils.seeding import global_seed

CONTAINERS = ("Compose", "RandomApply", "RandomChoice", "RandomOrder")
"""torchvision's transforms that call other transforms, which they hold in ``transforms``."""

STILL = {
    *("CenterCrop", "ClampBoundingBoxes", "ClampKeyPoints", "ColorJitter", "ConvertBoundingBoxFormat"),
    *("ConvertImageDtype", "FiveCrop", "GaussianBlur", "GaussianNoise", "Grayscale", "Identity", "ImageClassification"),
    *("JPEG", "LinearTransformation", "Normalize", "PILToTensor", "Pad", "RGB", "RandomAdjustSharpness"),
    *("RandomAutocontrast", "RandomChannelPermutation", "RandomEqualize", "RandomErasing", "RandomGrayscale"),
    *("RandomInvert", "RandomPhotometricDistort", "RandomPosterize", "RandomSolarize", "Resize"),
    *("SanitizeBoundingBoxes", "SanitizeKeyPoints", "SetClampingMode", "TenCrop", "ToDtype", "ToImage", "ToPILImage"),
    *("ToPureTensor", "ToTensor", "UniformTemporalSubsample"),
}
"""torchvision's transforms that leave shapes as they are, or change all images alike. The others may move pixels."""


CONVERSIONS = {
    *("ConvertImageDtype", "Identity", "Normalize", "PILToTensor", "ToDtype", "ToImage", "ToPILImage", "ToPureTensor"),
    "ToTensor",
}
"""torchvision's transforms that change how an image is stored, and not what it shows."""


def geometric_transform(functions: Iterable[Any]) -> str | None:
    r"""Returns the name of the first transform that may move pixels at random, or ``None`` if there is none.

    Functions that are not torchvision's may move pixels. ``Lambda`` calls such a function.

    Args:
        functions: The transforms of a dataset. ``None`` stands for no transform.
    """
    for function in functions:
        if function is None:
            continue
        name = type(function).__name__
        if isinstance(function, nn.Sequential):
            found = geometric_transform(function)
        elif not _is_torchvision(function):
            found = getattr(function, "__name__", name)
        elif name in CONTAINERS:
            found = geometric_transform(function.transforms)
        else:
            found = None if name in STILL else name
        if found is not None:
            return found
    return None


def image_views(functions: Iterable[Any]) -> Callable[[Tensor], Tensor] | None:
    r"""Returns torchvision's transforms without conversions, as a function of uint8 images.

    The function maps images with shape :math:`(3, H, W)` or :math:`(N, C, H, W)` to such images. ``None`` if there is
    nothing but conversions, or a transform is not torchvision's or cannot work on such images.

    Args:
        functions: The transforms of a dataset. ``None`` stands for no transform.
    """
    parts = [part for part in _parts(functions) if type(part).__name__ not in CONVERSIONS]
    if not parts or not all(map(_is_torchvision, parts)):
        return None
    views = v2.Compose(parts)
    for shape in ((3, 64, 64), (2, 1, 64, 64)):
        image = torch.zeros(shape, dtype=torch.uint8)
        try:
            with global_seed(0):
                shown = views(image)
        # What transforms raise is not documented.
        except Exception:
            return None
        if not isinstance(shown, Tensor) or (shown.dtype, shown.shape[:-2]) != (torch.uint8, image.shape[:-2]):
            return None
    return views


def _parts(functions: Iterable[Any]) -> Iterator[Any]:
    for function in functions:
        if isinstance(function, nn.Sequential):
            yield from _parts(function)
        elif _is_torchvision(function) and type(function).__name__ == "Compose":
            yield from _parts(function.transforms)
        elif function is not None:
            yield function


def _is_torchvision(function: Any) -> bool:
    return type(function).__module__.startswith("torchvision.transforms")
