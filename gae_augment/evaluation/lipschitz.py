r"""Measures how much a decoded image can change per unit change of its latent code."""

__all__ = ["local_lipschitz"]

from collections.abc import Callable

import torch
from torch import Tensor

from .._utils.seeding import make_generator


def local_lipschitz(decode: Callable[[Tensor], Tensor], z: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    r"""Returns the largest singular value of a decoder's Jacobian at each latent code.

    This value :math:`K` is the local Lipschitz constant of the decoder. A very small step :math:`\epsilon` of the code
    changes the image by at most :math:`K \|\epsilon\|`, in the Euclidean norm. Power iteration approximates :math:`K`
    from below.

    Args:
        decode: A function from codes, with shape :math:`(N, d)`, to images, with shape :math:`(N, *)`. Each image must
            depend only on its own code.
        z: The latent codes, with shape :math:`(N, d)`.
        iterations: The number of power iterations, at least 1. More iterations are more accurate.
        seed: The seed of the random initial directions.

    Returns:
        The value :math:`K` of each code, with shape :math:`(N,)`.

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
