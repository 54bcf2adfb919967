r"""The arms: what the additional training views of an image show."""

__all__ = ["ADDED_VIEWS", "ARMS", "REGIMES", "STANDARD_VIEWS", "Arm", "make_view", "parse_arm"]

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torchvision.transforms import v2

STANDARD_VIEWS = 3
"""The number of standard views of each training image, in all arms."""

ADDED_VIEWS = 2
"""The number of views that each arm except ``plain`` adds to each image of the classes that it augments."""

KINDS = ("plain", "more_views", "motion", "elastic", "affine", "trivial", "residual")

OPTIONS = {
    "classes": ("scarce", "all"),
    "bank": ("shared", "own"),
    "interpolation": ("bilinear", "bicubic"),
    "weighting": ("explained", "evidence"),
}
"""The options of arms besides the strength, with the default first."""

REGIMES = ("standard", "centre")
"""What follows in every arm: the standard views, or the centre of the image only."""

CROP_SHARE = 7 / 8
"""The side of what the network sees, as a share of the side of a photograph."""

COLOUR = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)

BEFORE = {
    "affine": v2.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5),
    "trivial": v2.TrivialAugmentWide(),
}


@dataclass(frozen=True)
class Arm:
    r"""What the additional views show.

    Attributes:
        kind: One of ``KINDS``.
        classes: ``"scarce"`` or ``"all"``, the classes whose images get additional views.
        bank: ``"shared"`` or ``"own"``, the motions of all classes or of the image's own class.
        strength: The factor of the motions.
        interpolation: ``"bilinear"`` or ``"bicubic"``, between the pixels of a moved image.
        weighting: ``"explained"``, or ``"evidence"`` to weaken the motions of each class by its evidence of motion.
    """

    kind: str
    classes: str = "scarce"
    bank: str = "shared"
    strength: float = 1.0
    interpolation: str = "bicubic"
    weighting: str = "explained"

    def __str__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return ":".join([self.kind, *([",".join(changed)] if changed else [])])


def parse_arm(text: str) -> Arm:
    r"""Returns the arm of a text such as ``motion:bank=own,strength=0.5``.

    Raises:
        ValueError: If the text names no arm.
    """
    kind, _, options = text.partition(":")
    values = dict(option.split("=", 1) for option in options.split(",") if "=" in option)
    wrong = [name for name, value in values.items() if name != "strength" and value not in OPTIONS.get(name, ())]
    if kind not in KINDS or wrong or len(values) != len(options.split(",")) * bool(options):
        choices = "; ".join(f"{name}={'|'.join(allowed)}" for name, allowed in OPTIONS.items())
        raise ValueError(
            f"{text!r} is no arm. Name one of {', '.join(KINDS)}, with options after a colon: {choices}; "
            f"strength=NUMBER."
        )
    strength = float(values.pop("strength", 1.0))
    return Arm(kind, **values, strength=strength)


ARMS = (
    ("standard", "plain"),
    ("standard", "more_views"),
    ("standard", "motion"),
    ("standard", "elastic"),
    ("standard", "affine"),
    ("standard", "trivial"),
    ("standard", "residual"),
    ("standard", "motion:interpolation=bilinear"),
    ("standard", "motion:weighting=evidence"),
    ("standard", "motion:strength=1.5"),
    ("standard", "motion:strength=0.5"),
    ("standard", "motion:bank=own"),
    ("centre", "plain"),
    ("centre", "motion"),
    ("centre", "elastic"),
    ("centre", "residual"),
    ("standard", "motion:classes=all"),
    ("standard", "more_views:classes=all"),
)
"""The regimes and arms that are measured if none are named, in this order."""


def make_view(images: Tensor, kind: str, regime: str) -> Tensor:
    r"""Returns one view of each image, uint8 with seven eighths of its height and width.

    Random numbers come from torch's global generator.

    Args:
        images: The images, moved already if the arm moves them, with shape :math:`(B, 3, S, S)`.
        kind: The kind of the arm.
        regime: The name of what follows.
    """
    crop = round(CROP_SHARE * images.shape[-1])
    crop_and_flip = (v2.RandomResizedCrop(crop, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip())
    # TrivialAugment changes colours itself.
    standard = v2.Compose(crop_and_flip if kind == "trivial" else [*crop_and_flip, COLOUR])
    last = standard if regime == "standard" else v2.CenterCrop(crop)
    before = BEFORE.get(kind)
    return torch.stack([last(before(image) if before else image) for image in images])
