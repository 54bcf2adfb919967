r"""Learns how the images of a class move, and keeps these motions in a bank that all classes share."""

__all__ = ["MAX_STRENGTH", "MotionBank", "learn_bank", "learn_motions"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .._utils.chunks import map_chunks
from .._utils.seeding import derive_seed, make_generator
from .._utils.threads import use_threads
from ..fitting import FittedModel
from ..synthesis import draw_codes
from .fields import NODES, invertible
from .registration import register

PAIRS_PER_CHUNK = 50
"""The number of pairs of images that are registered together."""

MAX_SIDE = 32
"""Decoded images are reduced to this longest side, the largest that registration compares."""

MOTIONS_PER_CLASS, MAX_MOTIONS = 100, 4000
"""The number of motions of a class, and of all classes together. A motion takes 256 bytes."""

MAX_STRENGTH = 3.0
"""The largest factor of a motion."""


def learn_motions(fitted: FittedModel, n: int, *, seed: int) -> Tensor:
    r"""Returns ``n`` velocity fields that move images of a class as the class varies.

    Each field is found by registration. A new code :math:`z` is drawn, and the training image with the nearest code
    :math:`z_i`. The field moves the decoded image :math:`f_d(z_i)` onto :math:`f_d(z_i + t (z - z_i))`, with the step
    :math:`t` of ``fitted.plan``. The field is then multiplied by ``fitted.explained``, the fraction of the images'
    variance that the autoencoder explains: a model that knows little of the images must not move them far.

    Args:
        fitted: The fitted model of the class.
        n: The number of fields.
        seed: The seed of all random numbers.

    Returns:
        The fields, of float16, with shape :math:`(n, 2, 8, 8)`.
    """
    assert fitted.codes is not None
    generator = make_generator(seed, "motions")
    with use_threads(1):
        z = draw_codes(fitted, n, generator).float()
        codes = fitted.codes.float()
        start = codes[torch.cdist(z, codes).argmin(dim=1)]
        target = start + fitted.plan.step * (z - start)
        with fitted.on_device() as device:

            def fields_of(chunk: slice) -> Tensor:
                pair = torch.cat([start[chunk], target[chunk]]).to(device)
                with torch.no_grad():
                    decoded = _as_maps(fitted.likelihood.mean(fitted.network.decode(pair)))
                return register(*decoded.chunk(2)).cpu()

            fields = torch.cat([field for _, field in map_chunks(fields_of, n, PAIRS_PER_CHUNK, device)])
    return (fitted.explained * fields).half()


def _as_maps(images: Tensor) -> Tensor:
    r"""Returns images as :math:`(B, C, H, W)`, reduced to the size that registration needs."""
    images = images if images.ndim == 4 else images.unsqueeze(1)
    height, width = images.shape[-2:]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def learn_bank(models: Mapping[Any, FittedModel], *, seed: int) -> "MotionBank":
    r"""Returns the motions of all classes that have a model of images with codes.

    Args:
        models: The fitted models, by label.
        seed: The seed of all random numbers.
    """
    n = max(1, min(MOTIONS_PER_CLASS, MAX_MOTIONS // max(1, len(models))))
    able = {label: fitted for label, fitted in models.items() if fitted.codes is not None}
    return MotionBank(
        {label: learn_motions(fitted, n, seed=derive_seed(seed, label)) for label, fitted in able.items()}
    )


class MotionBank:
    r"""Motions of all classes. What one image does, an image of any class can do.

    Args:
        fields: The velocity fields of each class, of float16, with shape :math:`(n, 2, 8, 8)`, by label.

    Attributes:
        fields: The velocity fields of all classes, with shape :math:`(N, 2, 8, 8)`.
        counts: The number of velocity fields of each class, by label.
    """

    def __init__(self, fields: Mapping[Any, Tensor]) -> None:
        self.counts = {label: len(class_fields) for label, class_fields in fields.items()}
        self.fields = torch.cat([*fields.values(), torch.empty(0, 2, NODES, NODES, dtype=torch.float16)])

    def __len__(self) -> int:
        return len(self.fields)

    def draw(
        self,
        n: int,
        *,
        strength: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Returns ``n`` velocity fields, with shape :math:`(n, 2, 8, 8)`, whose maps are invertible.

        Args:
            n: The number of fields.
            strength: The factor of all fields.
            generator: The random number generator. ``None`` uses torch's global one.
        """
        index = torch.randint(len(self.fields), (n,), generator=generator)
        return invertible(strength * self.fields[index].float())
