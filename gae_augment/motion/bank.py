r"""Learns how the images of a class move, and keeps these motions in a bank that all classes share."""

__all__ = ["MotionBank", "learn_motions"]

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from .._utils.chunks import map_chunks
from .._utils.seeding import make_generator
from .._utils.threads import use_threads
from ..fitting import FittedModel
from ..synthesis import draw_codes
from .fields import invertible
from .registration import SMOOTHNESS, register

PAIRS_PER_CHUNK = 50
"""The number of pairs of images that are registered together."""

MAX_SIDE = 32
"""Decoded images are reduced to this longest side, the largest that registration compares."""

MAX_STRENGTH = 3.0
"""The largest factor of a motion."""


def learn_motions(
    fitted: FittedModel, n: int, *, seed: int, smoothness: float = SMOOTHNESS, nearest: bool = True
) -> Tensor:
    r"""Returns ``n`` velocity fields that move images of a class as the class varies.

    Each field is found by registration. A new code :math:`z` is drawn, and the training image with the nearest code
    :math:`z_i`. The field moves the decoded image :math:`f_d(z_i)` onto :math:`f_d(z_i + t (z - z_i))`, with the step
    :math:`t` of ``fitted.plan``. The field is then multiplied by ``fitted.explained``, the fraction of the images'
    variance that the autoencoder explains: a model that knows little of the images must not move them far.

    Args:
        fitted: The fitted model of the class.
        n: The number of fields.
        seed: The seed of all random numbers.
        smoothness: As in :func:`.registration.register`.
        nearest: Whether :math:`z_i` is the nearest code of a training image, or that of a random training image.

    Returns:
        The fields, of float16, with shape :math:`(n, 2, 8, 8)`.
    """
    with use_threads(1):
        start, target = draw_pairs(fitted, n, seed=seed, nearest=nearest)
        with fitted.on_device() as device:

            def fields_of(chunk: slice) -> Tensor:
                pair = torch.cat([start[chunk], target[chunk]]).to(device)
                with torch.no_grad():
                    decoded = _as_maps(fitted.likelihood.mean(fitted.network.decode(pair)))
                return register(*decoded.chunk(2), smoothness=smoothness).cpu()

            fields = torch.cat([field for _, field in map_chunks(fields_of, n, PAIRS_PER_CHUNK, device)])
    return (fitted.explained * fields).half()


def draw_pairs(fitted: FittedModel, n: int, *, seed: int, nearest: bool = True) -> tuple[Tensor, Tensor]:
    r"""Returns the pairs of codes :math:`z_i` and :math:`z_i + t (z - z_i)` of :func:`learn_motions`.

    Both have the shape :math:`(n, d)`, where :math:`d` is the latent dimension.
    """
    generator = make_generator(seed, "motions")
    z = draw_codes(fitted, n, generator).float()
    assert fitted.codes is not None
    codes = fitted.codes.float()
    if nearest:
        start = codes[torch.cdist(z, codes).argmin(dim=1)]
    else:
        start = codes[torch.randint(len(codes), (n,), generator=generator)]
    return start, start + fitted.plan.step * (z - start)


def _as_maps(images: Tensor) -> Tensor:
    r"""Returns images as :math:`(B, C, H, W)`, reduced to the size that registration needs."""
    images = images if images.ndim == 4 else images.unsqueeze(1)
    height, width = images.shape[-2:]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


class MotionBank:
    r"""Motions of all classes. What one image does, an image of any class can do.

    Args:
        fields: The velocity fields of each class, of float16, with shape :math:`(n, 2, 8, 8)`, by label.
    """

    def __init__(self, fields: Mapping[object, Tensor]) -> None:
        self.labels = list(fields)
        self.fields = torch.cat(list(fields.values()))
        self.counts = [len(field) for field in fields.values()]

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
