r"""Samples deformed images: training images, moved."""

__all__ = ["sample_deformed"]

import torch
from torch import Tensor

from .._utils.checks import check_integer
from .._utils.seeding import make_generator
from .._utils.storage import index_images
from .._utils.threads import use_threads
from ..fitting import FittedModel
from ..synthesis import check_out, to_nchw
from .bank import MotionBank
from .transform import move

IMAGES_PER_CHUNK = 100
"""The maximum number of images that are moved together."""


@use_threads(1)
def sample_deformed(fitted: FittedModel, bank: MotionBank, n: int, *, seed: int, out: Tensor | None = None) -> Tensor:
    r"""Returns ``n`` training images of a class, each moved by a motion of the bank, with shape :math:`(n, *)`.

    The images have the size that the networks see.

    Args:
        fitted: The fitted model of the class, with its training images.
        bank: The motions.
        n: The number of images.
        seed: The seed of all random numbers.
        out: A CPU tensor that receives the images and is returned. ``None`` creates a new tensor.

    Raises:
        ValueError: If ``n`` is not a positive integer, or ``out`` has a wrong shape, type or device.
    """
    check_integer(n, "n", 1)
    images = fitted.empty_images(int(n)) if out is None else out
    check_out(images, fitted, n)
    assert fitted.anchors is not None
    generator = make_generator(seed, "deformed")
    sources = torch.randint(len(fitted.anchors), (n,), generator=generator)
    v = bank.draw(n, generator=generator)
    for rows in torch.arange(n).split(IMAGES_PER_CHUNK):
        anchors = index_images(fitted.anchors, sources[rows].numpy())
        images.numpy()[rows.numpy()] = move(to_nchw(anchors), v[rows]).reshape(anchors.shape).numpy()
    return images
