r"""What a decoder's outputs are the parameters of."""

__all__ = ["Likelihood", "expectation"]

from typing import Literal

from torch import Tensor

Likelihood = Literal["bernoulli", "gaussian"]
"""The distribution of a pixel given a code: Bernoulli for values in [0, 1], Gaussian for standardised ones."""


def expectation(outputs: Tensor, likelihood: Likelihood) -> Tensor:
    r"""Returns the images that a decoder's outputs stand for, of any shape: outputs are logits of pixels, or means."""
    return outputs.sigmoid() if likelihood == "bernoulli" else outputs
