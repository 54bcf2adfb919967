r"""The local Lipschitz constant of a decoder: how much an image can change per unit change of its latent code."""

__all__ = ["local_lipschitz"]

from collections.abc import Callable

import torch
from torch import Tensor

from .._utils.seeding import make_generator


def local_lipschitz(decode: Callable[[Tensor], Tensor], z: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    r"""Returns the largest singular value of a decoder's Jacobian at each latent code.

    This singular value is the local Lipschitz constant of the decoder :math:`f` at the code :math:`z`: the smallest
    :math:`K` with :math:`\|f(z + \epsilon) - f(z)\| \leq K \|\epsilon\|` for infinitesimal steps :math:`\epsilon`. The
    norms are Euclidean. Power iteration with Jacobian-vector products approximates :math:`K` from below, without
    forming the Jacobian.

    Args:
        decode: A function from codes, with shape :math:`(N, d)`, to images, with shape :math:`(N, *)`. The image at an
            index must depend only on the code at the same index.
        z: The latent codes, with shape :math:`(N, d)`.
        iterations: The number of power iterations, at least 1. More iterations are more accurate.
        seed: The seed of the random initial directions.

    Returns:
        The constant :math:`K` of each code, with shape :math:`(N,)`.

    Raises:
        ValueError: If ``z`` is not two-dimensional, or ``iterations`` is below 1.
    """
    if z.ndim != 2 or iterations < 1:
        raise ValueError(
            f"'z' has shape {tuple(z.shape)} and 'iterations' is {iterations}, but they need shape (N, d) and a value "
            f"of at least 1."
        )
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        images = decode(z)
        # The vector-Jacobian product is linear in the covector, so its derivative gives Jacobian-vector products.
        covector = torch.zeros_like(images, requires_grad=True)
        (vjp,) = torch.autograd.grad(images, z, covector, create_graph=True)
        direction = torch.randn(z.shape, generator=make_generator(seed, "directions")).to(z)
        for _ in range(iterations):
            direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
            (jvp,) = torch.autograd.grad(vjp, covector, direction, retain_graph=True)
            (direction,) = torch.autograd.grad(images, z, jvp, retain_graph=True)
    # Each step multiplies a unit vector by the square of the singular value.
    return direction.norm(dim=1).sqrt()
