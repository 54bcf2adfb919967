r"""Samples new images from a fitted model."""

__all__ = ["check_out", "draw_codes", "sample", "to_nchw"]

import numpy as np
import torch
from torch import Tensor

from .._utils.checks import check_tensor
from .._utils.chunks import VALUES_PER_CHUNK, chunk_size, map_chunks
from .._utils.devices import to_device
from .._utils.seeding import make_generator
from .._utils.storage import index_images
from .._utils.threads import use_threads
from ..fitting import FittedModel
from .similarity import aligned_nearest

MAX_REDRAWS = 20
"""The maximum number of redraws of codes out of range, and of images too similar to a training image."""

IMAGES_PER_CHUNK = 500
"""The maximum number of images that are decoded together."""

CPU = torch.device("cpu")


def sample(fitted: FittedModel, n: int, *, seed: int, out: Tensor | None = None) -> Tensor:
    r"""Returns ``n`` new images, with shape :math:`(n, *)`, in the data type and value range of the training images.

    Let :math:`z` be a new code and :math:`f_d` the decoder. If ``fitted.plan.synthesis`` is ``"residual"``, the new
    image is :math:`x_i + f_d(z_i + t (z - z_i)) - f_d(z_i)`. Here :math:`x_i` is the training image whose code
    :math:`z_i` is nearest to :math:`z`, and :math:`t` is ``fitted.plan.step``. Otherwise, it is :math:`f_d(z)`.

    Args:
        fitted: The fitted model.
        n: The number of images.
        seed: The seed of all random numbers. The same model, ``n`` and ``seed`` give the same images.
        out: A CPU tensor that receives the images and is returned. ``None`` creates a new tensor.

    Raises:
        ValueError: If ``n`` is not a positive integer, or ``out`` has a wrong shape, type or device.
        RuntimeError: If the similarity of an image to a training image exceeds ``fitted.plan.max_similarity`` even
            after 20 redraws.
    """
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ValueError(f"'n' is {n!r}, but must be an integer of at least 1: the number of images.")
    images = fitted.empty_images(int(n)) if out is None else out
    check_out(images, fitted, n)
    generator = make_generator(seed, "sample")
    _draw(fitted, images, generator)
    limit = fitted.plan.max_similarity
    if limit is None:
        return images
    too_similar = _similarity(fitted, images) > limit
    for _ in range(MAX_REDRAWS):
        if not too_similar.any():
            return images
        indices = too_similar.nonzero().flatten()
        redrawn = _draw(fitted, fitted.empty_images(len(indices)), generator)
        # NumPy can index every type, and torch cannot.
        images.numpy()[indices.numpy()] = redrawn.numpy()
        too_similar[indices] = _similarity(fitted, redrawn) > limit
    if too_similar.any():
        raise RuntimeError(
            f"{int(too_similar.sum())} of {n} new images have a similarity above {limit:g} to a training image, after "
            f"{MAX_REDRAWS} more draws. Raise 'max_similarity', or 'step', which moves images away from their "
            f"originals, or give the class no new images."
        )
    return images


def check_out(out: Tensor, fitted: FittedModel, n: int) -> None:
    r"""Raises a ValueError if the tensor ``out`` cannot hold ``n`` images of a model."""
    check_tensor(out, "out")
    shape = tuple(out.shape[1:])
    alike = len(shape) == len(fitted.shape) > 1 and shape[:-2] == fitted.shape[:-2] and out.dtype == fitted.values.dtype
    if alike and shape != fitted.shape:
        raise ValueError(
            f"Decoded and residual images have the working size, {fitted.shape[-2]}x{fitted.shape[-1]}, but images of "
            f"{shape[-2]}x{shape[-1]} are needed. Resize the images of the dataset, fit with working_size="
            f"{shape[-2:]}, or fit with synthesis='deformed' and max_similarity=None, which keeps sizes."
        )
    if shape != fitted.shape or out.dtype != fitted.values.dtype:
        raise ValueError(
            f"The model was fitted to images of shape {fitted.shape} of {fitted.values.dtype}, but images of shape "
            f"{shape} of {out.dtype} are needed. Fit the augmenter to such images."
        )
    if len(out) != n or out.device.type != "cpu":
        raise ValueError(f"'out' holds {len(out)} images on {out.device}, but must hold {n} on the CPU.")


def draw_codes(fitted: FittedModel, n: int, generator: torch.Generator) -> Tensor:
    r"""Returns ``n`` new codes, with shape :math:`(n, d)`, where :math:`d` is the latent dimension.

    Codes outside ``fitted.limits`` are redrawn up to 20 times. ``None`` sets no limits.
    """
    z = fitted.density.sample(n, generator)
    if fitted.limits is None:
        return z
    low, high = fitted.limits
    for _ in range(MAX_REDRAWS):
        outside = ((z < low) | (z > high)).any(dim=1)
        if not outside.any():
            break
        z[outside] = fitted.density.sample(int(outside.sum()), generator)
    return z


def _draw(fitted: FittedModel, images: Tensor, generator: torch.Generator) -> Tensor:
    r"""Writes new images to the tensor ``images``, and returns this tensor."""
    with use_threads(1):
        z = draw_codes(fitted, len(images), generator)
    if fitted.plan.synthesis != "residual" or fitted.anchors is None:
        return fitted.decode(z, images)
    return _decode_residual(fitted, z, fitted.anchors, fitted.plan.step, images)


def _similarity(fitted: FittedModel, images: Tensor) -> Tensor:
    r"""Returns the similarity of each image to its most similar training image."""
    assert fitted.anchors is not None
    training = to_nchw(fitted.values.to_network(to_device(fitted.anchors, CPU)))

    def of_chunk(chunk: slice) -> Tensor:
        samples = fitted.values.to_network(to_device(images[chunk], CPU))
        return 1 - aligned_nearest(to_nchw(samples), training)[0]

    size = chunk_size(IMAGES_PER_CHUNK, fitted.shape)
    return torch.cat([similarity for _, similarity in map_chunks(of_chunk, len(images), size, CPU)])


def to_nchw(images: Tensor) -> Tensor:
    r"""Returns images with shape :math:`(N, C, H, W)`. A matrix is a grey image with one channel."""
    return images if images.ndim == 4 else images.unsqueeze(1)


def _decode_residual(fitted: FittedModel, z: Tensor, anchors: Tensor, step: float, images: Tensor) -> Tensor:
    values, likelihood = fitted.values, fitted.likelihood
    with fitted.on_device() as device:
        codes, z = fitted.training_codes().to(device), z.float().to(device)
        squares = codes.square().sum(dim=1)

        @torch.no_grad()
        def nearest_of(chunk: slice) -> Tensor:
            # Squared distances without the new codes' own squares, which are the same for all anchors.
            return torch.addmm(squares, z[chunk], codes.T, alpha=-2).argmin(dim=1)

        chunks = map_chunks(nearest_of, len(z), IMAGES_PER_CHUNK, device)
        nearest = torch.cat([indices for _, indices in chunks])
        # Sorted, so that each training image is decoded once and not for each of its neighbours.
        order = nearest.argsort(stable=True)

        @torch.no_grad()
        def decode_chunk(chunk: slice) -> Tensor:
            rows = order[chunk]
            anchor, anchor_of_row = nearest[rows].unique_consecutive(return_inverse=True)
            start = codes[nearest[rows]]
            target = start + step * (z[rows] - start)
            decoded = likelihood.mean(fitted.network.decode(torch.cat([target, codes[anchor]])))
            # The detail of a training image is the difference between the image and its reconstruction.
            originals = values.to_network(to_device(index_images(anchors, anchor.cpu().numpy()), device))
            detail = originals - decoded[len(target) :]
            return values.from_network(decoded[: len(target)] + detail[anchor_of_row]).cpu()

        rows = order.cpu().numpy()
        # Half the usual size, because for each new image the code of a training image may be decoded too.
        size = chunk_size(IMAGES_PER_CHUNK, fitted.shape, VALUES_PER_CHUNK // 2)
        for chunk, samples in map_chunks(decode_chunk, len(z), size, device):
            # NumPy can index every type, and torch cannot.
            images.numpy()[rows[chunk]] = samples.numpy()
    return images
