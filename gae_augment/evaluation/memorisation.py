r"""How original synthetic images are: whether they lie closer to the training images than unseen real ones do."""

__all__ = ["Memorisation", "memorisation"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..synthesis import aligned_nearest
from .images import checked_images, to_unit

Distance = Literal["pixels", "aligned"]
"""The distances of images."""

AT_ONCE = 2000
"""The images on each side of a matrix of distances."""


@dataclass(frozen=True, eq=False)
class Memorisation:
    r"""How close synthetic images are to the training images.

    Attributes:
        flagged: The synthetic images at a distance of at most ``threshold`` from their nearest training image.
        fraction: ``flagged`` over the synthetic images.
        expected_fraction: What ``fraction`` is in expectation where synthetic images are as close to the training
            images as held-out ones are. A fraction well above it means copying.
        threshold: The low quantile of the held-out images' distances to their nearest training images.
        nearest_index: The index of the nearest training image of each synthetic one, with shape :math:`(M,)`.
        nearest_distance: The distance to it, with shape :math:`(M,)`.
        worst: The synthetic images that are nearest to a training image, as (synthetic index, training index,
            distance), nearest first.
    """

    flagged: int
    fraction: float
    expected_fraction: float
    threshold: float
    nearest_index: Tensor
    nearest_distance: Tensor
    worst: tuple[tuple[int, int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        r"""Returns all but the two tensors, as plain values for JSON."""
        return {
            "flagged": self.flagged,
            "fraction": self.fraction,
            "expected fraction": self.expected_fraction,
            "threshold": self.threshold,
            "worst": [list(pair) for pair in self.worst],
        }


def nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance to the nearest point, and its index, of each query.

    The distance is the root of the mean squared difference per dimension, :math:`\sqrt{\|a - b\|^2 / D}`.

    Args:
        queries: With shape :math:`(M, D)`.
        points: With shape :math:`(N, D)`.

    Returns:
        The distances and the indices, each with shape :math:`(M,)`.
    """
    distances, indices = [], []
    for some in queries.double().split(AT_ONCE):
        best = torch.full((len(some),), torch.inf, dtype=some.dtype)
        index = torch.zeros(len(some), dtype=torch.long)
        for start in range(0, len(points), AT_ONCE):
            distance, place = torch.cdist(some, points[start : start + AT_ONCE].double()).min(dim=1)
            index = torch.where(distance < best, place + start, index)
            best = torch.minimum(distance, best)
        # The matrix of distances comes of products, whose rounding leaves an exact copy above 0.
        distances.append((some - points[index].double()).square().mean(dim=1).sqrt())
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def nearest_by(distance: Distance, queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the distance to the nearest point, and its index, of each query, by one of the distances.

    Args:
        distance: Which one it is.
        queries: Images in [0, 1], with shape :math:`(M, C, H, W)`, or features, with shape :math:`(M, *)`.
        points: Likewise, with shape :math:`(N, *)`.
    """
    if distance == "aligned":
        return aligned_nearest(queries, points)
    return nearest(queries.flatten(1), points.flatten(1))


def check_distance(distance: str) -> None:
    r"""Raises a ValueError unless a distance is one of those that there are."""
    if distance not in get_args(Distance):
        raise ValueError(f"'distance' is 'pixels' or 'aligned', and it is {distance!r}.")


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
    r"""Returns how many synthetic images are suspiciously close to a training image.

    Each held-out image has a distance to its nearest training image. Let ``threshold`` be the low quantile of these
    :math:`H` distances: the :math:`r`-th smallest of them, with :math:`r = \lfloor q (H - 1) \rfloor + 1`. A synthetic
    image is flagged if its own nearest training image is at most that far. If synthetic images were drawn like the
    held-out ones, a fraction of :math:`r / (H + 1)` of them, about :math:`q`, would be flagged by chance.

    The distance of two images is the root of the mean squared difference of their pixels in [0, 1], or of their
    features. It finds copies and noisy ones. A copy that is moved by a pixel or brightened is far from its original by
    that; ``distance="aligned"`` finds it.

    Args:
        train: The images that the generator was trained on, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`.
        held_out: Real images of the same kind that it was not trained on, at best as many as :math:`1 / q` and more.
        synthetic: The synthetic images.
        worst: How many of the closest pairs to list.
        quantile: The quantile :math:`q`, above 0 and below 1.
        distance: ``"pixels"``, or ``"aligned"`` for :func:`gae_augment.synthesis.similarity.aligned_nearest`, one less
            the correlation of images that are brought to cover, which takes some seconds for thousands of images.
        features: What maps images to vectors, with shape :math:`(N, D)`, such as
            :class:`gae_augment.evaluation.ClassifierFeatures`; without it, their pixels.

    Raises:
        ValueError: If images are not as above or differ in shape, or a number is out of its range.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"'quantile' is above 0 and below 1, and it is {quantile}. 0.01 is a good first choice.")
    if worst < 0:
        raise ValueError(f"'worst' is at least 0, and it is {worst}. 0 lists no pairs.")
    check_distance(distance)
    if distance == "aligned" and features is not None:
        raise ValueError("Images are aligned by their pixels, and 'features' are given. Leave one of them out.")
    train = checked_images(train, "train")
    held_out = checked_images(held_out, "held_out", like=train)
    synthetic = checked_images(synthetic, "synthetic", like=train)

    def seen(images: Tensor) -> Tensor:
        return (to_unit(images) if features is None else features(images)).cpu()

    points = seen(train)
    held_out_distance, _ = nearest_by(distance, seen(held_out), points)
    distances, index = nearest_by(distance, seen(synthetic), points)
    rank = int(quantile * (len(held_out) - 1)) + 1
    threshold = held_out_distance.kthvalue(rank).values.item()
    flagged = int((distances <= threshold).sum())
    first = distances.argsort(stable=True)[:worst]
    return Memorisation(
        flagged=flagged,
        fraction=flagged / len(synthetic),
        expected_fraction=rank / (len(held_out) + 1),
        threshold=threshold,
        nearest_index=index,
        nearest_distance=distances,
        worst=tuple(zip(first.tolist(), index[first].tolist(), distances[first].tolist(), strict=True)),
    )
