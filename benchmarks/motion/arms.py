r"""The arms of the experiment: what is done with the training images before the user's transform."""

__all__ = ["BASE", "SYNTHESES", "Arm", "moved_probability", "parse_arm"]

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gae_augment._utils.checks import check_number
from gae_augment.motion.bank import MAX_STRENGTH
from gae_augment.motion.registration import SMOOTHNESS

MOVING = ("motion", "elastic")
"""The kinds of arms that move real images."""

SYNTHESES = ("decoded", "residual")
"""The kinds of arms that add synthetic images."""

REAL_LAST = 0.15
"""The fraction of the training steps, at the end, with unchanged real images in arms that treat scarce classes."""

CHOICES: dict[str, tuple[object, ...]] = {
    "kind": ("base", *SYNTHESES, *MOVING),
    "classes": ("all", "scarce", "rich"),
    "bank": ("shared", "own"),
    "pairs": ("nearest", "random"),
    **dict.fromkeys(("compose", "sign", "single", "gae", "noaffine", "even", "adaptive"), (0, 1)),
}
"""The values of each option that is not a number."""

RANGES = {"strength": (0, MAX_STRENGTH), "p": (0, 1), "real_last": (0, 1), "smoothness": (0, 100), "rho": (0, 3)}


@dataclass(frozen=True)
class Arm:
    r"""What is done with the training images. All classes are equally frequent in the batches of every arm.

    Attributes:
        kind: ``"base"`` uses real images alone. ``"decoded"`` and ``"residual"`` add synthetic images of scarce
            classes. ``"motion"`` moves real images by learned motions, and ``"elastic"`` by random smooth maps that
            match the learned motions in strength and roughness.
        classes: Which images are moved, see :func:`moved_probability`.
        bank: Whether an image is moved as the images of any class are, or only as those of its own class.
        strength: The factor of every motion.
        p: The probability of a motion or of a synthetic image, or its largest value among the classes.
        compose: Whether two random fields are summed, with the weights cos and sin of a random angle up to 90 degrees.
        sign: Whether a field's sign is random.
        single: Whether fields are those of the bank. By default they are drawn from the normal distribution with the
            mean and the covariance of the bank, as in :class:`gae_augment.motion.MotionBank`.
        gae: Whether fields are drawn from a generative autoencoder that is fitted to the bank's fields as vectors.
        noaffine: Whether the affine part of every field is removed.
        even: Whether all fields are brought to the same root mean square, that of the bank.
        smoothness: The smoothness of registration.
        rho: The factor of the colour difference that registration leaves over, reduced to 4 x 4 values, which is added.
        pairs: Whether a new code is paired with the nearest training code, or with a random one.
        adaptive: Whether the strength adapts to the classifier, as in :class:`gae_augment.motion.AdaptiveMotion`, from
            0 to 1.5 times ``strength``.
        real_last: The fraction of the steps, at the end of training, with unchanged real images alone. By default 0.15,
            but 0 if images of all or of rich classes are moved.
    """

    kind: str = "base"
    classes: str = "all"
    bank: str = "shared"
    strength: float = 1.0
    p: float = 0.5
    compose: int = 0
    sign: int = 0
    single: int = 0
    gae: int = 0
    noaffine: int = 0
    even: int = 0
    smoothness: float = SMOOTHNESS
    pairs: str = "nearest"
    rho: float = 0.0
    adaptive: int = 0
    real_last: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name!r} is {getattr(self, name)!r}, but must be one of {allowed}.")
        for name, (low, high) in RANGES.items():
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name, low, high)
        if self.single + self.gae + (self.kind == "elastic") > 1:
            raise ValueError("'single', 'gae' and elastic maps exclude each other. Choose one of them.")
        if self.rho and (self.compose or self.sign or not self.single):
            raise ValueError("'rho' needs the bank's own fields. Set single=1, and leave out compose and sign.")
        ignored = {option for option in OPTIONS if getattr(self, option) != getattr(Arm, option)}
        if self.kind == "base" and ignored:
            raise ValueError(f"'base' has no option {min(ignored)!r}. Use 'base' alone.")
        if self.kind in SYNTHESES and ignored - {"p", "real_last"}:
            raise ValueError(
                f"{self.kind!r} has no option {min(ignored - {'p', 'real_last'})!r}, only p and real_last."
            )

    def __str__(self) -> str:
        changed = {option: getattr(self, option) for option in OPTIONS}
        text = ",".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                        for name, value in changed.items() if value != getattr(Arm, name))  # fmt: skip
        return f"{self.kind}:{text}" if text else self.kind

    @property
    def moves(self) -> bool:
        r"""Whether the arm moves real images."""
        return self.kind in MOVING

    @property
    def synthesises(self) -> bool:
        r"""Whether the arm adds synthetic images."""
        return self.kind in SYNTHESES

    @property
    def last_steps_real(self) -> float:
        r"""The fraction of the steps, at the end of training, with unchanged real images alone."""
        if self.real_last is not None:
            return self.real_last
        return REAL_LAST if self.synthesises or self.classes == "scarce" else 0.0


OPTIONS = tuple(field.name for field in fields(Arm))[1:]

BASE = Arm()


def parse_arm(text: str) -> Arm:
    r"""Returns the arm of a text such as ``"motion:classes=scarce,strength=0.5"``.

    ``str`` of the arm is its shortest text, without the options that have their default values.

    Raises:
        ValueError: If the arm, an option or a value does not exist.
    """
    kind, _, options = text.partition(":")
    values: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name not in OPTIONS or not value:
            raise ValueError(f"The arm is {text!r}, but its options must be among {', '.join(OPTIONS)}, as in p=0.5.")
        try:
            values[name] = float(value) if name in RANGES else int(value) if CHOICES[name] == (0, 1) else value
        except ValueError as error:
            raise ValueError(f"The arm is {text!r}, but {name!r} must be a number.") from error
    return Arm(kind, **values)


def moved_probability(arm: Arm, counts: Tensor) -> Tensor:
    r"""Returns the probability that a drawn image is moved, for each class.

    Let :math:`n_c` be the number of images of class :math:`c`. An image is moved with probability :math:`p` if the
    images of all classes are moved, :math:`p (1 - n_c / n_{\max})` for scarce classes, as
    :class:`gae_augment.MixedSampler` draws synthetic images, and :math:`p \, n_c / n_{\max}` for rich classes.
    """
    richness = counts / counts.max()
    return arm.p * {"all": torch.ones_like(richness), "scarce": 1 - richness, "rich": richness}[arm.classes]
