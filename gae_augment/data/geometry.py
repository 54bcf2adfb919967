r"""Tells whether transforms move the pixels of an image at random."""

__all__ = ["geometric_transform"]

from collections.abc import Iterable
from typing import Any

from torch import nn

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
        elif not type(function).__module__.startswith("torchvision.transforms"):
            found = getattr(function, "__name__", name)
        elif name in CONTAINERS:
            found = geometric_transform(function.transforms)
        else:
            found = None if name in STILL else name
        if found is not None:
            return found
    return None
