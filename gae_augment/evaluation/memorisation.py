r"""Measures whether synthetic images copy training images."""

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
    r"""How close :math:`M` synthetic images are to the training images of their generative model.

    Attributes:
        flagged: The number of synthetic images whose distance to the nearest training image is at most ``threshold``.
        fraction: ``flagged`` divided by :math:`M`.
        expected_fraction: The expected ``fraction`` if synthetic images have the same distribution as held-out real
            images. A much larger ``fraction`` means that the model copies training images.
        threshold: A low quantile of the distances from held-out real images to their nearest training images.
        nearest_index: The index of each synthetic image's nearest training image, with shape :math:`(M,)`.
        nearest_distance: The distance from each synthetic image to its nearest training image, with shape :math:`(M,)`.
        worst: The closest pairs, as tuples (synthetic index, training index, distance), by ascending distance.
    """

    flagged: int
    fraction: float
    expected_fraction: float
    threshold: float
    nearest_index: Tensor
    nearest_distance: Tensor
    worst: tuple[tuple[int, int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        r"""Returns the attributes except the two tensors, as a dictionary that the ``json`` module can write."""
        return {
            "flagged": self.flagged,
            "fraction": self.fraction,
            "expected fraction": self.expected_fraction,
            "threshold": self.threshold,
            "worst": [list(pair) for pair in self.worst],
        }


def nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Finds the nearest point to each query vector, by the root mean squared difference.

    Args:
        queries: The query vectors, with shape :math:`(M, D)`.
        points: The points, with shape :math:`(N, D)`.

    Returns:
        The distance and the index of each query's nearest point, both with shape :math:`(M,)`.
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
    r"""Finds the nearest point to each query, with a choice of distance.

    Args:
        distance: ``"pixels"`` is the root mean squared difference. ``"aligned"``, only for images, is the distance of
            :func:`gae_augment.synthesis.aligned_nearest`.
        queries: Images in [0, 1], with shape :math:`(M, C, H, W)`, or features, with shape :math:`(M, D)`.
        points: Images, with shape :math:`(N, C, H, W)`, or features, with shape :math:`(N, D)`.

    Returns:
        The distance and the index of each query's nearest point, both with shape :math:`(M,)`.
    """
    if distance == "aligned":
        return aligned_nearest(queries, points)
    return nearest(queries.flatten(1), points.flatten(1))


def check_distance(distance: str) -> None:
    r"""Raises a ValueError if ``distance`` is neither ``"pixels"`` nor ``"aligned"``."""
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

    A synthetic image is flagged if its distance to the nearest training image is at most a threshold. The threshold is
    a quantile of the distances from held-out real images to their nearest training images.

    Args:
        train: The training images of the generative model, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.
        held_out: Real images outside the training set, from the same distribution, with shape :math:`(n, C, H, W)`. At
            least ``1 / quantile`` images are recommended.
        synthetic: The synthetic images, with shape :math:`(M, C, H, W)`.
        worst: The maximum number of pairs in the attribute ``worst`` of the result.
        quantile: The quantile that sets the threshold, above 0 and below 1.
        distance: ``"pixels"`` is the root mean squared difference of pixels in [0, 1], or of ``features`` if given.
            ``"aligned"`` is the distance of :func:`gae_augment.synthesis.aligned_nearest`. It takes longer, but finds
            shifted and brightened copies.
        features: A function from images to feature vectors, with shape :math:`(N, D)`. By default pixels are compared.

    Raises:
        ValueError: If an argument is invalid, or ``features`` are given with ``distance="aligned"``.
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
        return (to_unit(images) if features is None else features(images)).detach().cpu()

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
