r"""Measures how well synthetic images reveal the training images of their generative model."""

__all__ = ["Membership", "membership"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .images import checked_images, to_unit
from .memorisation import Distance, check_distance, nearest_by


@dataclass(frozen=True)
class Membership:
    r"""The success of an attack that guesses which images are members of a generative model's training set.

    Attributes:
        advantage: The true positive rate minus the false positive rate of the attack. 0 means a random guess, and 1
            means a perfect attack. Small negative values are noise.
        area: The area under the ROC curve of the attack, in [0, 1]. 0.5 means a random guess, and 1 means a perfect
            attack.
        distance_ratio: The median distance from members to their nearest synthetic images, divided by the median
            distance from non-members. 1 means no difference. Values below 1 mean that members are closer.
    """

    advantage: float
    area: float
    distance_ratio: float

    def as_dict(self) -> dict[str, Any]:
        r"""Returns the attributes as a dictionary that the ``json`` module can write."""
        return {"advantage": self.advantage, "area": self.area, "distance ratio": self.distance_ratio}


def membership(members: Tensor, others: Tensor, synthetic: Tensor, *, distance: Distance = "pixels") -> Membership:
    r"""Simulates an attack that recognises the training images of a generative model from its synthetic images.

    The attack guesses that an image is a member of the training set if its distance to the nearest synthetic image is
    at most a threshold. Two-fold cross-validation chooses and tests the threshold.

    Args:
        members: The training images of the model, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`,
            :math:`N \geq 4`.
        others: At least four real images outside the training set, from the same distribution.
        synthetic: The synthetic images. More synthetic images make a stronger attack.
        distance: ``"pixels"`` is the root mean squared difference of pixels in [0, 1]. ``"aligned"`` is the distance of
            :func:`gae_augment.synthesis.aligned_nearest`, which tolerates small shifts.

    Raises:
        ValueError: If images are invalid or differ in shape, or ``distance`` is unknown.

    References:
        | GAN-Leaks: a taxonomy of membership inference attacks against generative models (Chen et al., 2020)
        | https://arxiv.org/abs/1909.03935
    """
    check_distance(distance)
    members = checked_images(members, "members", at_least=4)
    others = checked_images(others, "others", like=members, at_least=4)
    synthetic = checked_images(synthetic, "synthetic", like=members)
    points = to_unit(synthetic).cpu()

    def distances(images: Tensor) -> Tensor:
        return nearest_by(distance, to_unit(images).cpu(), points)[0].double()

    member_distances, other_distances = distances(members), distances(others)
    first, second = ((member_distances[start::2], other_distances[start::2]) for start in (0, 1))
    folds = ((first, second), (second, first))
    advantages = [_advantage(*tested, _best_threshold(*chosen)) for chosen, tested in folds]
    is_closer = (member_distances[:, None] < other_distances).double()
    is_tie = member_distances[:, None] == other_distances
    member_median, other_median = member_distances.median().item(), other_distances.median().item()
    return Membership(
        advantage=sum(advantages) / 2,
        area=(is_closer + 0.5 * is_tie).mean().item(),
        distance_ratio=_ratio(member_median, other_median),
    )


def _ratio(members: float, others: float) -> float:
    if others:
        return members / others
    # Medians of 0 on both sides do not differ.
    return math.inf if members else 1.0


def _advantage(members: Tensor, others: Tensor, threshold: float) -> float:
    return (members <= threshold).double().mean().item() - (others <= threshold).double().mean().item()


def _best_threshold(members: Tensor, others: Tensor) -> float:
    candidates = torch.cat([members, others]).unique()
    true_positives = (members <= candidates[:, None]).double().mean(dim=1)
    false_positives = (others <= candidates[:, None]).double().mean(dim=1)
    best = int((true_positives - false_positives).argmax())
    # The middle of the gap to the next distance is robust to rounding.
    return candidates[best : best + 2].mean().item()
