r"""Motions that generative models have learned: smooth invertible maps that move an image as its class varies."""

from .bank import MotionBank, learn_motions
from .transform import Motion

__all__ = ["Motion", "MotionBank", "learn_motions"]
