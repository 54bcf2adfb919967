r"""Motions that generative models have learned: smooth invertible maps that move an image as its class varies."""

from .bank import MotionBank, learn_bank, learn_motions
from .deformed import sample_deformed
from .transform import Motion, move

__all__ = ["Motion", "MotionBank", "learn_bank", "learn_motions", "move", "sample_deformed"]
