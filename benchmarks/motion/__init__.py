r"""Motions that generative models have learned: what a classifier gains if they move its real training images."""
