r"""The views of images that classifiers train on: as they are, with standard transforms, and moved."""

__all__ = ["LONGEST_SIDE", "Pictures", "View", "standard_views", "whole_view"]

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ..._utils.seeding import derive_seed, global_seed
from ..._utils.threads import use_threads
from ...data import DatasetView, ItemFormat, upright
from .backbones import Backbone

LONGEST_SIDE = 320
"""By default, larger images are kept at this size in pixels."""

IMAGES_PER_CHUNK = 32

View = Callable[[Tensor], Tensor]
"""A function from images to changed images, both uint8 with shape (3, H, W), or (N, C, H, W) with C of 1 or 3."""


@dataclass(frozen=True)
class Pictures:
    r"""Images in memory, of different sizes.

    Attributes:
        images: The images, uint8 with shape :math:`(3, H, W)`, in any size.
    """

    images: Sequence[Tensor]

    @classmethod
    def read(cls, dataset: Any, rows: Iterable[int], longest_side: int = LONGEST_SIDE) -> "Pictures":
        r"""Reads images of a dataset, before its transforms. Larger images are shrunk to the longest side."""
        view = DatasetView(dataset)
        return cls(_to_uint8([_shrunk(view.raw_image(int(row)), longest_side) for row in rows]))

    def features(self, rows: Iterable[int], backbone: Backbone, *, moves: View | None, then: View, seed: int) -> Tensor:
        r"""Returns the features of one view of images, with shape :math:`(n, F)`.

        The random numbers of an image depend on the seed and the image alone. With one seed, moved images have the same
        standard transforms as images that are not moved, so that only the motions differ.

        Args:
            rows: The indices of the images.
            backbone: The network.
            moves: What moves images before other transforms, with torch's global random numbers; ``None`` for nothing.
            then: The transform that follows. Its images have the size that the network needs.
            seed: The seed.
        """

        # Several threads would wait for each other at each small step.
        @use_threads(1)
        def view(row: int) -> Tensor:
            image = self.images[row]
            if moves is not None:
                with global_seed(derive_seed(seed, "motion", row)):
                    image = moves(image)
            with global_seed(derive_seed(seed, "standard", row)):
                return then(image)

        numbers = [int(row) for row in rows]
        chunks = [numbers[start : start + IMAGES_PER_CHUNK] for start in range(0, len(numbers), IMAGES_PER_CHUNK)]
        return torch.cat([backbone(torch.stack([view(row) for row in chunk])) for chunk in chunks])


def standard_views(size: int, transform: View | None = None) -> View:
    r"""Returns a random transform of images to a size.

    Args:
        size: The height and width in pixels.
        transform: The transform; by default crops, mirror images and colours.
    """
    if transform is not None:
        return v2.Compose([transform, whole_view(size)])
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.6, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )


def whole_view(size: int) -> View:
    r"""Returns a transform that resizes images to a height and width."""
    # A centre crop would lose what lies near the border, such as a defect.
    return v2.Resize((size, size), antialias=True)


def _shrunk(image: Any, longest_side: int) -> Tensor:
    r"""Returns an image with one or three channels and a limited size, uint8 if its values are 8 bits."""
    if isinstance(image, Image.Image):
        image = upright(image)
        is_deep = image.mode.startswith(("I", "F"))
        image = functional.pil_to_tensor(image if is_deep else image.convert("RGB"))
    x = image if isinstance(image, Tensor) else ItemFormat.of(image).to_tensor(image)
    x = x if x.ndim == 3 else x[None]
    x = x if x.dtype == torch.uint8 else x.float()
    x = x[:3] if len(x) >= 3 else x[:1]
    longest = max(x.shape[-2:])
    if longest > longest_side:
        sides = [max(1, round(side * longest_side / longest)) for side in x.shape[-2:]]
        x = functional.resize(x, sides, antialias=True)
    return x.contiguous()


def _to_uint8(images: list[Tensor]) -> list[Tensor]:
    r"""Returns images as uint8, with three channels. The least and the greatest value of all become 0 and 255."""
    if not all(image.dtype == torch.uint8 for image in images):
        low = min(float(image.min()) for image in images)
        span = max(float(image.max()) for image in images) - low or 1.0
        images = [((image.float() - low) / span * 255).round().to(torch.uint8) for image in images]
    return [image.expand(3, -1, -1) for image in images]
