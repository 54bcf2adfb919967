r"""Likelihoods, the distributions of an image given the outputs of a decoder."""

__all__ = ["Bernoulli", "Gaussian", "Likelihood"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional


class Likelihood(ABC):
    r"""The interface of a likelihood, which is the distribution of an image given the outputs of a decoder.

    The decoder outputs one number per pixel.

    Attributes:
        name: The name of the distribution.
    """

    name: ClassVar[str]

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the mean of the distribution for given decoder outputs, in the same shape."""

    @abstractmethod
    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the decoder outputs for a given mean of the distribution, in the same shape."""

    @abstractmethod
    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the negative log-likelihood of each image, summed over pixels, in nats.

        This is the reconstruction error. Constant terms may be left out.

        Args:
            outputs: The decoder outputs for :math:`B` images, with shape :math:`(B, *)`.
            x: The images, with shape :math:`(B, *)`.

        Returns:
            One error per image, with shape :math:`(B,)`.
        """

    @abstractmethod
    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the lowest possible reconstruction error of each image, in nats, with shape :math:`(B,)`."""

    @abstractmethod
    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns an offset and a scale for the outputs of a decoder: ``offset + scale * outputs``.

        Args:
            mean: The mean training image.
            deviation: The standard deviation of training pixels from the mean image, a scalar.

        Returns:
            The offset and the scale. The offset represents the mean image. The scale is a scalar that changes pixels by
            about ``deviation`` when it is added to the offset.
        """

    @abstractmethod
    def clamp(self, x: Tensor) -> Tensor:
        r"""Clips the values of images to the range of the distribution."""


@final
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    r"""A Bernoulli distribution of each pixel.

    Pixels are in [0, 1], and the decoder outputs logits. The reconstruction error is the binary cross-entropy. Its
    minimum is the entropy of the image.
    """

    name: ClassVar[str] = "bernoulli"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the pixels' means for given logits."""
        return outputs.sigmoid()

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Clips means to [1e-6, 1 - 1e-6], and returns their logits."""
        return mean.logit(eps=1e-6)

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the binary cross-entropy of each image, summed over pixels, in nats.

        The ``outputs`` are logits, and the images ``x`` have values in [0, 1]. The result has one value per image.
        """
        outputs = _as_precise_as(x, outputs)
        # As stable as PyTorch's binary_cross_entropy_with_logits. On CPUs, that takes 0.9 to 1.4 times as long in torch
        # 2.14, and computes logarithms without vector instructions in older versions.
        return (functional.softplus(outputs) - x * outputs).flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the entropy of each of :math:`B` images, in nats, with shape :math:`(B,)`.

        For pixels :math:`x_j`, the entropy is :math:`-\sum_j [x_j \log x_j + (1 - x_j) \log (1 - x_j)]`.
        """
        return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(dim=1)

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns an offset and a scale for a decoder's outputs, so that ``offset + scale * outputs`` are logits.

        The mean image is clipped to [0.001, 0.999], and the offset holds its logits. The scale, a scalar, is at most 1.
        """
        # A logit of minus infinity would keep pixels black that are black in all training images.
        mean = mean.clamp(0.001, 0.999)
        # The derivative of a probability p by its logit is p(1 - p). It vanishes for black and white pixels.
        return mean.logit(), (deviation / (mean * (1 - mean)).mean()).clamp(max=1.0)

    def clamp(self, x: Tensor) -> Tensor:
        r"""Clips the values of images to [0, 1]."""
        return x.clamp(0, 1)


@final
@dataclass(frozen=True)
class Gaussian(Likelihood):
    r"""A Gaussian distribution of each pixel, with variance 1.

    Pixels are standardised, and the decoder outputs means. The reconstruction error is half the squared error. Its
    minimum is 0.
    """

    name: ClassVar[str] = "gaussian"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the decoder outputs unchanged, because they are means."""
        return outputs

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the means unchanged, because they are the decoder outputs."""
        return mean

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns half the squared error of each image, summed over pixels, in nats."""
        return (0.5 * (_as_precise_as(x, outputs) - x).square()).flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns 0 for each image, the lowest possible reconstruction error."""
        return x.new_zeros(len(x))

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns both arguments unchanged, as the offset and the scale of a decoder's outputs."""
        return mean, deviation

    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns the images unchanged, because standardised values have no limits."""
        return x


def _as_precise_as(x: Tensor, outputs: Tensor) -> Tensor:
    r"""Converts decoder outputs to the data type of the images ``x``, if this type is more precise."""
    return outputs.to(torch.promote_types(outputs.dtype, x.dtype))
