r"""A bank of the motions of all classes, from which images of any class draw."""

__all__ = ["MAX_STRENGTH", "MotionBank"]

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .fields import NODES, invertible

MAX_STRENGTH = 3.0
"""The largest factor of a motion."""


class MotionBank:
    r"""Motions of all classes. What one image does, an image of any class can do.

    Args:
        fields: The velocity fields of each class, of float16, with shape :math:`(n, 2, 8, 8)`, by label.

    Attributes:
        fields: The velocity fields of all classes, with shape :math:`(N, 2, 8, 8)`.
        counts: The number of velocity fields of each class, by label.

    Raises:
        ValueError: If the fields have another shape or type, or are not finite.
    """

    def __init__(self, fields: Mapping[Any, Tensor]) -> None:
        self.counts = {label: len(class_fields) for label, class_fields in fields.items()}
        for label, field in fields.items():
            if field.shape[1:] != (2, NODES, NODES) or field.dtype != torch.float16 or not field.isfinite().all():
                raise ValueError(
                    f"The fields of class {label!r} have shape {tuple(field.shape)} and type {field.dtype}, but must "
                    f"have shape (n, 2, {NODES}, {NODES}) and type torch.float16, and be finite."
                )
        self.fields = torch.cat([*fields.values(), torch.empty(0, 2, NODES, NODES, dtype=torch.float16)])

    def __len__(self) -> int:
        return len(self.fields)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        r"""The mean field as a vector, and a matrix :math:`R` such that :math:`R^T R` is the fields' covariance."""
        fields = self.fields.double().flatten(1)
        mean = fields.mean(dim=0)
        root = (fields - mean) / max(1, len(fields)) ** 0.5
        if len(root) > root.shape[1]:
            # As many rows as values take a draw a thirtieth of the random numbers of thousands of fields.
            root = torch.linalg.qr(root, mode="r").R
            # The signs of rows are arbitrary, and would depend on the library of linear algebra.
            root = root * torch.where(root.diagonal() < 0, -1.0, 1.0)[:, None]
        return mean.float(), root.float()

    def draw(
        self,
        n: int,
        *,
        strength: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Returns ``n`` new velocity fields, with shape :math:`(n, 2, 8, 8)`, whose maps are invertible.

        The fields have a normal distribution, with the mean and the covariance of the bank's fields: each is the mean
        field, plus a random combination of the others' deviations from it. In comparison with single fields of the
        bank, combinations vary more, and differ less in strength.

        Args:
            n: The number of fields.
            strength: The factor of all fields.
            generator: The random number generator. ``None`` uses torch's global one.
        """
        mean, root = self._moments
        v = mean + torch.randn(n, len(root), generator=generator) @ root
        return invertible(strength * v.view(n, 2, NODES, NODES))
