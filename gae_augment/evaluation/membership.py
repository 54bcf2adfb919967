r"""Whether synthetic images tell which real images a generator was trained on."""

__all__ = ["Membership", "membership"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .images import checked_images, to_unit
from .memorisation import Distance, check_distance, nearest_by


@dataclass(frozen=True)
class Membership:
    r"""How well an attacker guesses who was trained on.

    Attributes:
        advantage: The part of the members that is found less the part of the others that is taken for members, with
            the threshold that is best for the attacker, on images that it was not chosen on: 0 for a coin, 1 for
            certainty. By chance it lies a little to both sides of 0.
        area: The probability that a member is closer to the synthetic images than another image, 0.5 for a coin.
        distance_ratio: The median distance of members to their nearest synthetic image, over that of the others: 1
            where they are alike, 0 where members are copied.
    """

    advantage: float
    area: float
    distance_ratio: float

    def as_dict(self) -> dict[str, Any]:
        r"""Returns plain values for JSON."""
        return {"advantage": self.advantage, "area": self.area, "distance ratio": self.distance_ratio}


def membership(members: Tensor, others: Tensor, synthetic: Tensor, *, distance: Distance = "pixels") -> Membership:
    r"""Returns how well the distance to the nearest synthetic image tells training images from others.

    The attacker has the synthetic images and takes for a member what lies close to one of them. The threshold is chosen
    on every other image, and its advantage measured on the rest, and the other way round; the mean of both is given.

    Args:
        members: Images that the generator was trained on, uint8 or in [0, 1], with shape :math:`(N, C, H, W)`,
            :math:`N \geq 4`.
        others: Images of the same kind that it was not trained on, at least four.
        synthetic: The synthetic images. The more of them get out, the better the attacker is.
        distance: As in :func:`gae_augment.evaluation.memorisation`.

    Raises:
        ValueError: If images are not as above or differ in shape.

    References:
        | GAN-Leaks: a taxonomy of membership inference attacks against generative models (Chen et al., 2020)
        | https://arxiv.org/abs/1909.03935
    """
    check_distance(distance)
    members = checked_images(members, "members", at_least=4)
    others = checked_images(others, "others", like=members, at_least=4)
    synthetic = checked_images(synthetic, "synthetic", like=members)
    points = to_unit(synthetic).cpu()

    def away(images: Tensor) -> Tensor:
        return nearest_by(distance, to_unit(images).cpu(), points)[0].double()

    inside, outside = away(members), away(others)
    halves = [(inside[start::2], outside[start::2]) for start in (0, 1)]
    advantages = [_advantage(*tested, _best_threshold(*chosen)) for chosen, tested in (halves, (halves[1], halves[0]))]
    closer = (inside[:, None] < outside).double() + 0.5 * (inside[:, None] == outside)
    # Where all distances are 0 they are alike.
    median, other = inside.median().item(), outside.median().item()
    return Membership(
        advantage=sum(advantages) / 2,
        area=closer.mean().item(),
        distance_ratio=median / other if other else 1.0,
    )


def _advantage(inside: Tensor, outside: Tensor, threshold: float) -> float:
    return (inside <= threshold).double().mean().item() - (outside <= threshold).double().mean().item()


def _best_threshold(inside: Tensor, outside: Tensor) -> float:
    candidates = torch.cat([inside, outside]).unique()
    found = (inside <= candidates[:, None]).double().mean(dim=1) - (outside <= candidates[:, None]).double().mean(dim=1)
    best = int(found.argmax())
    # In the midst of the gap, so that rounding does not decide.
    return candidates[best : best + 2].mean().item()
