r"""Memorisation: whether synthetic images lie closer to the training images than held-out real images do."""

__all__ = ["Distance", "Memorisation", "check_distance", "memorisation", "nearest", "nearest_by"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..synthesis import aligned_nearest
from .images import checked_images, to_unit

Distance = Literal["pixels", "aligned"]
"""The names of the distances between images."""

CHUNK_SIZE = 2000
"""The maximum number of rows, and of columns, of a distance matrix in memory at a time."""


@dataclass(frozen=True, eq=False)
class Memorisation:
    r"""How close synthetic images are to the training images.

    Attributes:
        flagged: The number of synthetic images whose distance to the nearest training image is at most ``threshold``.
        fraction: ``flagged`` divided by the number :math:`M` of synthetic images.
        expected_fraction: The expected ``fraction`` if synthetic images follow the distribution of held-out images. If
            ``fraction`` is well above this value, the model copies training images.
        threshold: The given quantile, usually 1 %, of the distances from held-out images to their nearest training
            images.
        nearest_index: The index of each synthetic image's nearest training image, with shape :math:`(M,)`.
        nearest_distance: The distance of each synthetic image to that training image, with shape :math:`(M,)`.
        worst: The closest pairs of a synthetic image and its nearest training image, as (synthetic index, training
            index, distance), closest pair first.
    """

    flagged: int
    fraction: float
    expected_fraction: float
    threshold: float
    nearest_index: Tensor
    nearest_distance: Tensor
    worst: tuple[tuple[int, int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        r"""Returns everything except the two tensors, as plain values for JSON."""
        return {
            "flagged": self.flagged,
            "fraction": self.fraction,
            "expected fraction": self.expected_fraction,
            "threshold": self.threshold,
            "worst": [list(pair) for pair in self.worst],
        }


def nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance and the index of the nearest point of each query.

    The distance of a query :math:`a` and a point :math:`b` with :math:`D` dimensions is the root mean squared
    difference, :math:`\sqrt{\|a - b\|^2 / D}`.

    Args:
        queries: The queries, with shape :math:`(M, D)`.
        points: The points, with shape :math:`(N, D)`.

    Returns:
        The distances and the indices of the nearest points, each with shape :math:`(M,)`.
    """
    distances, indices = [], []
    for chunk in queries.double().split(CHUNK_SIZE):
        best = torch.full((len(chunk),), torch.inf, dtype=chunk.dtype)
        index = torch.zeros(len(chunk), dtype=torch.long)
        for start in range(0, len(points), CHUNK_SIZE):
            distance, position = torch.cdist(chunk, points[start : start + CHUNK_SIZE].double()).min(dim=1)
            index = torch.where(distance < best, position + start, index)
            best = torch.minimum(distance, best)
        # cdist computes distances from products, whose rounding gives exact copies a distance above 0.
        distances.append((chunk - points[index].double()).square().mean(dim=1).sqrt())
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def nearest_by(distance: Distance, queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance and the index of the nearest point of each query, by the named distance.

    Args:
        distance: ``"pixels"`` for :func:`nearest`, or ``"aligned"`` for images and
            :func:`gae_augment.synthesis.aligned_nearest`.
        queries: Images in [0, 1], with shape :math:`(M, C, H, W)`, or features, with shape :math:`(M, *)`.
        points: Images or features like those of ``queries``, with shape :math:`(N, *)`.
    """
    if distance == "aligned":
        return aligned_nearest(queries, points)
    return nearest(queries.flatten(1), points.flatten(1))


def check_distance(distance: str) -> None:
    r"""Raises a ValueError unless ``distance`` is the name of a distance."""
    if distance not in get_args(Distance):
        raise ValueError(f"'distance' is {distance!r}, but must be 'pixels' or 'aligned'.")


def memorisation(
    train: Tensor,
    held_out: Tensor,
    synthetic: Tensor,
    *,
    worst: int = 10,
    quantile: float = 0.01,
    distance: Distance = "pixels",
    features: Callable[[Tensor], Tensor] | None = None,
) -> Memorisation:
    r"""Finds synthetic images that are suspiciously close to a training image.

    The ``threshold`` comes from :math:`H` held-out images. It is the :math:`r`-th smallest of their distances to their
    nearest training images, with :math:`r = \lfloor q (H - 1) \rfloor + 1`. A synthetic image is flagged if the
    distance to its nearest training image is at most ``threshold``. If synthetic images had the distribution of
    held-out images, the expected flagged fraction would be :math:`r / (H + 1)`, about :math:`q`.

    The default distance is the root mean squared difference of pixels in [0, 1], or of ``features`` if they are given.
    This distance finds exact and noisy copies. ``distance="aligned"`` also finds copies that are shifted by a pixel or
    brightened.

    Args:
        train: The training images of the model, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.
        held_out: Real images of the same kind outside the training set, preferably at least :math:`1 / q` images.
        synthetic: The synthetic images, with shape :math:`(M, C, H, W)`.
        worst: The number of closest pairs to list.
        quantile: The quantile :math:`q`, above 0 and below 1.
        distance: ``"pixels"`` is the root mean squared difference. ``"aligned"`` is 1 minus the correlation of aligned
            images, by :func:`gae_augment.synthesis.aligned_nearest`, and takes a few seconds for thousands of images.
        features: A function from images to vectors, with shape :math:`(N, D)`, such as
            :class:`gae_augment.evaluation.ClassifierFeatures`. By default pixels are compared.

    Raises:
        ValueError: If images are invalid or differ in shape, an option is invalid, or ``features`` are given with
            ``distance="aligned"``.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"'quantile' is {quantile}, but must be above 0 and below 1. 0.01 is a good first choice.")
    if worst < 0:
        raise ValueError(f"'worst' is {worst}, but must be at least 0. 0 lists no pairs.")
    check_distance(distance)
    if distance == "aligned" and features is not None:
        raise ValueError("'features' are given, but distance='aligned' compares pixels. Leave one of them out.")
    train = checked_images(train, "train")
    held_out = checked_images(held_out, "held_out", like=train)
    synthetic = checked_images(synthetic, "synthetic", like=train)

    def representation(images: Tensor) -> Tensor:
        return (to_unit(images) if features is None else features(images)).cpu()

    points = representation(train)
    held_out_distances, _ = nearest_by(distance, representation(held_out), points)
    distances, index = nearest_by(distance, representation(synthetic), points)
    rank = int(quantile * (len(held_out) - 1)) + 1
    threshold = held_out_distances.kthvalue(rank).values.item()
    flagged = int((distances <= threshold).sum())
    closest = distances.argsort(stable=True)[:worst]
    return Memorisation(
        flagged=flagged,
        fraction=flagged / len(synthetic),
        expected_fraction=rank / (len(held_out) + 1),
        threshold=threshold,
        nearest_index=index,
        nearest_distance=distances,
        worst=tuple(zip(closest.tolist(), index[closest].tolist(), distances[closest].tolist(), strict=True)),
    )
