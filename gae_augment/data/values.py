r"""Conversion of image values to network inputs, and back to image values."""

__all__ = ["LEVEL_TYPES", "ValueScale"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from .._utils.threads import use_threads

Kind = Literal["levels", "unit", "standardised"]

LEVEL_TYPES = (torch.uint8, torch.bool)
"""The data types of images of the kind ``"levels"``, whose conversion does not depend on the values."""


@dataclass(frozen=True)
class ValueScale:
    r"""The conversion of image values to network inputs, and back to image values.

    The values of the images determine the kind of conversion, and the kind determines a model's reconstruction loss.

    ============== ============================ ============================ ========================
    kind           image values                 network inputs               reconstruction loss
    ============== ============================ ============================ ========================
    levels         uint8 or bool                in [0, 1]                    binary cross-entropy
    unit           floating point in [0, 1]     in [0, 1]                    binary cross-entropy
    standardised   any other values             mean 0, standard deviation 1 Gaussian, unit variance
    ============== ============================ ============================ ========================

    Attributes:
        kind: The kind of conversion, one of the three in the table.
        dtype: The data type of the images.
        mean: The mean of each pixel or feature, with the shape of an image; ``None`` unless values are standardised.
        deviation: The standard deviation of each pixel or feature, with the shape of an image, and 0 where values are
            constant; ``None`` unless values are standardised.
        bounds: The smallest and the largest value, to which the results of :meth:`from_network` are clamped; ``None``
            unless values are standardised. For images, one pair for all pixels, with shape (2,). For vectors of
            :math:`F` features, one pair per feature, with shape :math:`(2, F)`.
    """

    kind: Kind
    dtype: torch.dtype
    mean: Tensor | None = None
    deviation: Tensor | None = None
    bounds: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor | Iterable[Tensor]) -> Self:
        r"""Returns the conversion that suits the data type and the range of the given images.

        Args:
            images: A tensor of :math:`N \geq 1` images of shape :math:`*`, with shape :math:`(N, *)`, or an iterable of
                such tensors.

        Raises:
            ValueError: If the squares of the values overflow float64.
        """
        moments: _Moments | None = None
        for batch in [images] if isinstance(images, Tensor) else images:
            dtype, dimensions = batch.dtype, batch.ndim
            if dtype not in LEVEL_TYPES:
                batch_moments = _Moments.of(batch)
                moments = moments.merged_with(batch_moments) if moments else batch_moments
        if moments is None:
            return cls("levels", dtype)
        low, high = moments.low, moments.high
        if dtype.is_floating_point and low.min() >= 0 and high.max() <= 1:
            return cls("unit", dtype)
        # Rounding errors would change a constant feature; its exact value and a deviation of 0 preserve it.
        mean = torch.where(low == high, low, moments.mean)
        deviation = (moments.squared_deviations / moments.n).sqrt().masked_fill(low == high, 0.0)
        if not deviation.isfinite().all():
            raise ValueError(
                f"Image values lie in [{low.min():g}, {high.max():g}], and their squares overflow float64. Divide them "
                f"by a constant."
            )
        bounds = torch.stack([low, high] if dimensions == 2 else [low.min(), high.max()])
        return cls("standardised", dtype, mean, deviation, bounds)

    @classmethod
    def from_plain(cls, header: Mapping[str, str], tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Self:
        r"""Returns the value conversion described by the header and the tensors of a saved file.

        Args:
            header: The entries ``kind`` and ``dtype``, such as ``"levels"`` and ``"uint8"``.
            tensors: The float64 tensors ``mean``, ``deviation`` and ``bounds``; needed for the kind ``"standardised"``
                only.
            shape: The shape of an image.

        Raises:
            KeyError, TypeError, ValueError: If the header or the tensors are malformed.
        """
        kind: Any = header["kind"]
        dtype = getattr(torch, header["dtype"], None)
        if kind not in get_args(Kind) or not isinstance(dtype, torch.dtype):
            raise ValueError(f"value kind {kind!r} or data type {header['dtype']!r} is unknown")
        levels = dtype in LEVEL_TYPES
        if levels != (kind == "levels") or (kind == "unit" and not dtype.is_floating_point) or dtype.is_complex:
            raise ValueError(f"data type {dtype} does not fit values of kind {kind!r}")
        if kind != "standardised":
            return cls(kind, dtype)
        mean, deviation, bounds = tensors["mean"], tensors["deviation"], tensors["bounds"]
        bounds_shape = (2, *shape) if len(shape) == 1 else (2,)
        if (mean.shape, deviation.shape, bounds.shape) != (shape, shape, bounds_shape) or any(
            tensor.dtype != torch.float64 for tensor in (mean, deviation, bounds)
        ):
            raise ValueError(f"the tensors of the value scale do not fit images of shape {shape}")
        return cls(kind, dtype, mean, deviation, bounds)

    def to_network(self, images: Tensor) -> Tensor:
        r"""Converts a batch of images to float32 network inputs.

        Images and network inputs have the shape :math:`(B, *)` for :math:`B` images of shape :math:`*`.
        """
        if self.kind == "levels":
            return images.float() if self.dtype == torch.bool else images.float() / 255
        if self.kind == "unit":
            return images.float()
        assert self.mean is not None
        assert self.deviation is not None
        mean, deviation = self.mean.to(images.device), self.deviation.to(images.device)
        return ((images.double() - mean) / deviation.masked_fill(deviation == 0, 1.0)).float()

    def from_network(self, x: Tensor) -> Tensor:
        r"""Converts a batch of values, scaled like network inputs, to images with the data type ``dtype``.

        Both batches have the shape :math:`(B, *)` for :math:`B` images of shape :math:`*`. Image values are clamped to
        the valid range, which is ``bounds`` if ``kind`` is ``"standardised"``. They are rounded if ``dtype`` is an
        integer type.
        """
        if self.kind == "levels":
            unit = x.clamp(0, 1)
            return unit > 0.5 if self.dtype == torch.bool else unit.mul_(255).round_().to(self.dtype)
        if self.kind == "unit":
            return x.clamp(0, 1).to(self.dtype)
        assert self.mean is not None
        assert self.deviation is not None
        assert self.bounds is not None
        values = x.double() * self.deviation.to(x.device) + self.mean.to(x.device)
        low, high = self.bounds.to(x.device)
        values = values.clamp(low, high)
        return (values if self.dtype.is_floating_point else values.round()).to(self.dtype)


@dataclass(frozen=True)
class _Moments:
    r"""Mean, sum of squared deviations from the mean, minimum and maximum of each pixel or feature over n images."""

    n: int
    mean: Tensor
    squared_deviations: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Self:
        # A sum over many rows would be split among threads, and its rounding errors would depend on their number.
        with use_threads(1):
            # Torch lacks the minimum of uint16, uint32 and uint64.
            x = images.double()
            mean = x.mean(dim=0)
            return cls(len(x), mean, (x - mean).square().sum(dim=0), x.amin(dim=0), x.amax(dim=0))

    def merged_with(self, moments: Self) -> Self:
        r"""Returns these statistics pooled with those of other images, by the formula of Chan et al. (1979)."""
        n = self.n + moments.n
        difference = moments.mean - self.mean
        return type(self)(
            n,
            self.mean + difference * (moments.n / n),
            self.squared_deviations + moments.squared_deviations + difference.square() * (self.n * moments.n / n),
            torch.minimum(self.low, moments.low),
            torch.maximum(self.high, moments.high),
        )
