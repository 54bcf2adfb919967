r"""How the values of images are seen by a network, and how its outputs become such values again."""

__all__ = ["ValueScale"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from .._utils.threads import use_threads

Kind = Literal["levels", "unit", "standardised"]


@dataclass(frozen=True)
class ValueScale:
    r"""The map between values as the user has them and values as a network has them.

    ============== ============================ ==================== ========================
    kind           the user's values            the network's values reconstruction error
    ============== ============================ ==================== ========================
    levels         uint8 or bool                [0, 1]               binary cross-entropy
    unit           floating point in [0, 1]     the same             binary cross-entropy
    standardised   anything else                mean 0, deviation 1  Gaussian, unit variance
    ============== ============================ ==================== ========================

    Attributes:
        kind: Which of the three it is.
        dtype: The user's data type.
        mean: Standardised values only: the mean of each feature, with shape :math:`(*)` of one image.
        deviation: Standardised values only: the standard deviation of each feature, 0 where it is constant.
        bounds: Standardised values only: the smallest and the largest value, which new ones stay within; of images all
            together, with shape (2,), and of vectors feature by feature, with shape :math:`(2, F)`.
    """

    kind: Kind
    dtype: torch.dtype
    mean: Tensor | None = None
    deviation: Tensor | None = None
    bounds: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor | Iterable[Tensor]) -> Self:
        r"""Returns the scale for images of shape :math:`(N, *)`, :math:`N \geq 1`, or for batches of such.

        Raises:
            ValueError: If values are so large that their squares are not finite.
        """
        moments: _Moments | None = None
        for batch in [images] if isinstance(images, Tensor) else images:
            dtype, dimensions = batch.dtype, batch.ndim
            if dtype not in (torch.uint8, torch.bool):
                own = _Moments.of(batch)
                moments = moments.with_those_of(own) if moments else own
        if moments is None:
            return cls("levels", dtype)
        low, high = moments.low, moments.high
        if dtype.is_floating_point and low.min() >= 0 and high.max() <= 1:
            return cls("unit", dtype)
        # A constant feature has a mean and a deviation of rounding errors; it is given back as it came.
        mean = torch.where(low == high, low, moments.mean)
        deviation = (moments.squares / moments.n).sqrt().masked_fill(low == high, 0.0)
        if not deviation.isfinite().all():
            raise ValueError(
                f"The squares of values are numbers that a float64 can hold, and values lie in [{low.min():g}, "
                f"{high.max():g}]. Give them in a larger unit."
            )
        bounds = torch.stack([low, high] if dimensions == 2 else [low.min(), high.max()])
        return cls("standardised", dtype, mean, deviation, bounds)

    @classmethod
    def from_plain(cls, header: Mapping[str, str], tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Self:
        r"""Returns the scale of a file.

        Args:
            header: Its kind and its data type.
            tensors: Its tensors by name, of standardised values.
            shape: The shape of an image.

        Raises:
            KeyError, TypeError, ValueError: If it is none.
        """
        kind: Any = header["kind"]
        dtype = getattr(torch, header["dtype"], None)
        if kind not in get_args(Kind) or not isinstance(dtype, torch.dtype):
            raise ValueError(f"there are no values of kind {kind!r} and type {header['dtype']!r}")
        levels = dtype in (torch.uint8, torch.bool)
        if levels != (kind == "levels") or (kind == "unit" and not dtype.is_floating_point) or dtype.is_complex:
            raise ValueError(f"values of kind {kind!r} are not of type {dtype}")
        if kind != "standardised":
            return cls(kind, dtype)
        mean, deviation, bounds = tensors["mean"], tensors["deviation"], tensors["bounds"]
        ranges = (2, *shape) if len(shape) == 1 else (2,)
        if (mean.shape, deviation.shape, bounds.shape) != (shape, shape, ranges) or any(
            own.dtype != torch.float64 for own in (mean, deviation, bounds)
        ):
            raise ValueError(f"the scale is not one of images of shape {shape}")
        return cls(kind, dtype, mean, deviation, bounds)

    def to_network(self, images: Tensor) -> Tensor:
        r"""Returns the user's images, of shape :math:`(B, *)`, as float32 for a network."""
        if self.kind == "levels":
            return images.float() if self.dtype == torch.bool else images.float() / 255
        if self.kind == "unit":
            return images.float()
        assert self.mean is not None
        assert self.deviation is not None
        mean, deviation = self.mean.to(images.device), self.deviation.to(images.device)
        return ((images.double() - mean) / deviation.masked_fill(deviation == 0, 1.0)).float()

    def from_network(self, x: Tensor) -> Tensor:
        r"""Returns images on the scale of a network's inputs as images in the user's type and range."""
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
    r"""Of each feature: how many values, their mean, the sum of the squared deviations from it, and their range."""

    n: int
    mean: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Self:
        # A long sum over few features is shared among threads.
        with use_threads(1):
            # Torch has no minimum of its unsigned types wider than a byte.
            x = images.double()
            mean = x.mean(dim=0)
            return cls(len(x), mean, (x - mean).square().sum(dim=0), x.amin(dim=0), x.amax(dim=0))

    def with_those_of(self, other: Self) -> Self:
        r"""Returns the moments of both together (Chan et al., 1979)."""
        n = self.n + other.n
        apart = other.mean - self.mean
        return type(self)(
            n,
            self.mean + apart * (other.n / n),
            self.squares + other.squares + apart.square() * (self.n * other.n / n),
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )
