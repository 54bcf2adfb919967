r"""Likelihoods: distributions of an image given the outputs of a decoder."""

__all__ = ["Bernoulli", "Gaussian", "Likelihood"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional


class Likelihood(ABC):
    r"""The interface of a likelihood: the distribution of an image given the outputs of a decoder.

    The decoder outputs one parameter of the distribution for each pixel.

    Attributes:
        name: The name of the distribution.
    """

    name: ClassVar[str]

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the mean of the image distribution for given decoder outputs, with the shape of the outputs."""

    @abstractmethod
    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the decoder outputs for a given mean of the image distribution; the inverse of :meth:`mean`."""

    @abstractmethod
    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the reconstruction error of each image: the negative log-likelihood, summed over pixels, in nats.

        Terms that depend on neither argument may be omitted.

        Args:
            outputs: The decoder outputs for :math:`B` images, with shape :math:`(B, *)`.
            x: The images, with shape :math:`(B, *)`.

        Returns:
            One error per image, with shape :math:`(B,)`.
        """

    @abstractmethod
    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the error of a perfect reconstruction of each image in ``x``, in nats, with shape :math:`(B,)`."""

    @abstractmethod
    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns an offset and a scale with which an untrained decoder represents the mean image.

        The decoder outputs the offset plus the scale times the output of its last layer, which is 0 before training.

        Args:
            mean: The mean of the training images.
            deviation: The standard deviation of all pixels from the mean image, a scalar.

        Returns:
            The offset: the decoder outputs that represent the mean image. The scale, a scalar: the change of decoder
            outputs that changes pixels by about ``deviation``.
        """

    @abstractmethod
    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns images with their values limited to the range that the distribution allows."""


@final
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    r"""A Bernoulli distribution of each pixel in [0, 1]: the decoder outputs logits.

    The reconstruction error is the binary cross-entropy. For a perfect reconstruction, it equals the entropy of the
    image, :math:`-\sum_j [x_j \log x_j + (1 - x_j) \log (1 - x_j)]`, where :math:`x_j` is pixel :math:`j`. The entropy
    is 0 if all pixels are 0 or 1, and above 0 for grey pixels.
    """

    name: ClassVar[str] = "bernoulli"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the mean image for given logits: their sigmoid."""
        return outputs.sigmoid()

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the logits of a mean image whose values are first clipped to [1e-6, 1 - 1e-6]."""
        return mean.logit(eps=1e-6)

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns the binary cross-entropy of each image, summed over pixels: one value per image, in nats.

        The ``outputs`` are logits. The images ``x`` have values in [0, 1].
        """
        outputs = _as_precise_as(x, outputs)
        if outputs.is_cuda:
            error = functional.binary_cross_entropy_with_logits(outputs, x, reduction="none")
        else:
            # This is the formula of PyTorch's function, which computes logarithms without vector instructions.
            size = outputs.abs()
            error = (0.5 - x) * outputs + (0.5 * size + (1 + (-size).exp()).log())
        return error.flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns the entropy of each of :math:`B` images, in nats, with shape :math:`(B,)`.

        The entropy is the reconstruction error if the reconstruction is perfect.
        """
        return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(dim=1)

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns an offset and a scale of logits with which an untrained decoder represents the mean image.

        The mean image is first clipped to [0.001, 0.999], so that its logits, the offset, are finite. The scale is the
        change of logits that changes pixels by about ``deviation``, the standard deviation of pixels, but at most 1.
        """
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
    r"""A Gaussian distribution of each standardised pixel, with variance 1: the decoder outputs means.

    The reconstruction error is half the squared error. The constant :math:`\frac12 \log 2 \pi` per pixel is left out,
    so that a perfect reconstruction has an error of 0.
    """

    name: ClassVar[str] = "gaussian"

    def mean(self, outputs: Tensor) -> Tensor:
        r"""Returns the decoder outputs unchanged: they are the mean image."""
        return outputs

    def outputs_for(self, mean: Tensor) -> Tensor:
        r"""Returns the mean image unchanged, because the decoder outputs are the mean image."""
        return mean

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        r"""Returns half the squared error of each image, summed over pixels: one value per image, in nats."""
        return (0.5 * (_as_precise_as(x, outputs) - x).square()).flatten(1).sum(dim=1)

    def entropy(self, x: Tensor) -> Tensor:
        r"""Returns one zero per image, because a perfect reconstruction has an error of 0."""
        return x.new_zeros(len(x))

    def normalisation(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns the mean image as the offset of a decoder's outputs, and ``deviation`` as their scale."""
        return mean, deviation

    def clamp(self, x: Tensor) -> Tensor:
        r"""Returns the images unchanged, because standardised values have no limits."""
        return x


def _as_precise_as(x: Tensor, outputs: Tensor) -> Tensor:
    r"""Converts decoder outputs to the data type of the images, unless the data type of the outputs is more precise.

    A loss computed in bfloat16 would have inaccurate gradients.
    """
    return outputs.to(torch.promote_types(outputs.dtype, x.dtype))
