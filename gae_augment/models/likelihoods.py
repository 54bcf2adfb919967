r"""Likelihoods: the distribution of an image given the outputs of a decoder."""

__all__ = ["Bernoulli", "Gaussian", "Likelihood"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional


class Likelihood(ABC):
    r"""The distribution of each pixel given a code; a decoder's outputs are the parameters of the distribution.

    Attributes:
        name: The name of the distribution.
    """

    name: ClassVar[str]

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the mean image of the distribution, with the shape of the outputs."""

    @abstractmethod
    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the decoder outputs that represent a given mean image, the inverse of :meth:`mean`."""

    @abstractmethod
    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the reconstruction error of each image, summed over its pixels, in nats.

        Args:
            outputs: The outputs of the decoder, with shape :math:`(B, *)`.
            x: The images, with shape :math:`(B, *)`.

        Returns:
            One error per image, with shape :math:`(B,)`.
        """

    @abstractmethod
    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the reconstruction error of a perfect reconstruction of each image, in nats, with shape (B,)."""

    @abstractmethod
    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the offset and the scale of a decoder's outputs, so that training begins at the mean image.

        Args:
            mean: The mean image, with shape :math:`(*)`.
            deviation: The standard deviation of all pixels from the mean image, a scalar.

        Returns:
            The offset, which is the outputs that represent the mean image, with shape :math:`(*)`, and the scale, which
            is the change of outputs per standard deviation, a scalar.
        """

    @abstractmethod
    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns images whose values are limited to the range of values that the distribution allows."""


@final
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    r"""Pixels in [0, 1]; outputs are logits, and the error is the binary cross-entropy.

    The entropy of an image with pixels :math:`x_j` is :math:`-\sum_j [x_j \log x_j + (1 - x_j) \log (1 - x_j)]`. It is
    0 for images of black and white pixels, and more than half a nat per pixel for photographs.
    """

    name: ClassVar[str] = "bernoulli"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the probability of each pixel, the sigmoid of the outputs."""
        return outputs.sigmoid()

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the logits of a mean image, after limiting its values to [1e-6, 1 - 1e-6]."""
        return mean.logit(eps=1e-6)

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the binary cross-entropy of each image, in nats, with shape (B,)."""
        outputs = _as_precise_as(x, outputs)
        if outputs.is_cuda:
            error = functional.binary_cross_entropy_with_logits(outputs, x, reduction="none")
        else:
            # This is the formula of PyTorch's function, which computes logarithms without vector instructions.
            size = outputs.abs()
            error = (0.5 - x) * outputs + (0.5 * size + (1 + (-size).exp()).log())
        return error.flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the entropy of each image, in nats, with shape (B,)."""
        return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(dim=1)

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the logits of the mean image, and the change of logits per standard deviation, at most 1."""
        # A logit of minus infinity would keep pixels black that are black in all training images.
        mean = mean.clamp(0.001, 0.999)
        # The derivative of a probability p by its logit is p(1 - p). It vanishes for black and white pixels.
        return mean.logit(), (deviation / (mean * (1 - mean)).mean()).clamp(max=1.0)

    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns images with their values limited to [0, 1]."""
        return x.clamp(0, 1)


@final
@dataclass(frozen=True)
class Gaussian(Likelihood):
    r"""Standardised values with unit variance; outputs are means, and the error is half the squared error.

    The constant :math:`\frac12 \log 2 \pi` per pixel is left out, so that a perfect reconstruction has an error of 0.
    """

    name: ClassVar[str] = "gaussian"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the outputs unchanged, since they are the means."""
        return outputs

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the mean image unchanged."""
        return mean

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns half the squared error of each image, in nats, with shape (B,)."""
        return (0.5 * (_as_precise_as(x, outputs) - x).square()).flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns zeros, with shape (B,)."""
        return x.new_zeros(len(x))

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the mean image and the standard deviation unchanged."""
        return mean, deviation

    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns the images unchanged, since standardised values have no limits."""
        return x


def _as_precise_as(x: Tensor, outputs: Tensor) -> Tensor:
    r"""Returns outputs in the data type of the images, or unchanged if the outputs' data type is more precise.

    In bfloat16, rounding would make the terms of the gradient cancel each other.
    """
    return outputs.to(torch.promote_types(outputs.dtype, x.dtype))
