r"""Learns how the images of a class move, from its generative model."""

__all__ = ["draw_pairs", "learn_bank", "learn_motions", "motions_per_class"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._utils.chunks import map_chunks
from .._utils.seeding import derive_seed, make_generator
from .._utils.threads import use_threads
from ..fitting import FittedModel
from ..synthesis import draw_codes, to_nchw
from .bank import MotionBank
from .registration import LEVELS, SMOOTHNESS, reduced, register

PAIRS_PER_CHUNK = 50
"""The number of pairs of images that are registered together."""

MOTIONS_PER_CLASS, MAX_MOTIONS = 100, 4000
"""The number of motions of a class, and of all classes together. A motion takes 256 bytes."""


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
    start, target = draw_pairs(fitted, n, seed=seed, nearest=nearest)
    with fitted.on_device() as device:

        def fields_of(chunk: slice) -> Tensor:
            pair = torch.cat([start[chunk], target[chunk]]).to(device)
            with torch.no_grad():
                decoded = to_nchw(fitted.likelihood.mean(fitted.network.decode(pair)))
            return register(*reduced(decoded, LEVELS[-1]).chunk(2), smoothness=smoothness).cpu()

        fields = torch.cat([field for _, field in map_chunks(fields_of, n, PAIRS_PER_CHUNK, device)])
    return (fitted.explained * fields).half()


@use_threads(1)
def draw_pairs(fitted: FittedModel, n: int, *, seed: int, nearest: bool = True) -> tuple[Tensor, Tensor]:
    r"""Returns the pairs of codes :math:`z_i` and :math:`z_i + t (z - z_i)` of :func:`learn_motions`.

    Both have the shape :math:`(n, d)`, where :math:`d` is the latent dimension.
    """
    codes = fitted.training_codes()
    generator = make_generator(seed, "motions")
    z = draw_codes(fitted, n, generator).float()
    if nearest:
        start = codes[torch.cdist(z, codes).argmin(dim=1)]
    else:
        start = codes[torch.randint(len(codes), (n,), generator=generator)]
    return start, start + fitted.plan.step * (z - start)


def motions_per_class(n_classes: int) -> int:
    r"""Returns the number of motions that :func:`learn_bank` learns of each of ``n_classes`` classes."""
    return max(1, min(MOTIONS_PER_CLASS, MAX_MOTIONS // max(1, n_classes)))


def learn_bank(models: Mapping[Any, FittedModel], *, seed: int) -> MotionBank:
    r"""Returns the motions of all classes whose models have codes of images, or the images.

    Args:
        models: The fitted models, by label.
        seed: The seed of all random numbers.
    """
    n = motions_per_class(len(models))
    return MotionBank(
        {
            label: learn_motions(fitted, n, seed=derive_seed(seed, label))
            for label, fitted in models.items()
            if len(fitted.shape) > 1 and (fitted.codes is not None or fitted.anchors is not None)
        }
    )
