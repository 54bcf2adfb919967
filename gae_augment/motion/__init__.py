r"""Motions that generative models have learned: smooth invertible maps that move an image as its class varies.

Workers of a DataLoader move images without the libraries that fit models, so what needs a model is imported at its
first use.
"""

from typing import TYPE_CHECKING

from .._utils.lazy import lazy_names
from .adaptive import AdaptiveMotion, adapted_strength
from .bank import MAX_STRENGTH, MotionBank
from .transform import VALUES_TOGETHER, Motion, move

if TYPE_CHECKING:
    from .deformed import sample_deformed
    from .learning import learn_bank, learn_motions, motions_per_class

__all__ = [
    "MAX_STRENGTH",
    "VALUES_TOGETHER",
    "AdaptiveMotion",
    "Motion",
    "MotionBank",
    "adapted_strength",
    "learn_bank",
    "learn_motions",
    "motions_per_class",
    "move",
    "sample_deformed",
]

_HOMES = {
    "learn_bank": "learning",
    "learn_motions": "learning",
    "motions_per_class": "learning",
    "sample_deformed": "deformed",
}


if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)
