r"""How steep a decoder is: its local Lipschitz constant."""

__all__ = ["local_lipschitz"]

from collections.abc import Callable

import torch
from torch import Tensor

from .._utils.seeding import make_generator


def local_lipschitz(decode: Callable[[Tensor], Tensor], z: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    r"""Returns the largest singular value of a decoder's Jacobian at each code.

    It is the least :math:`K` with :math:`\|f(z + \epsilon) - f(z)\| \leq K \|\epsilon\|` for steps so small that the
    decoder is linear over them, found by power iteration with Jacobian-vector products; no Jacobian is formed.

    Args:
        decode: Maps codes, with shape :math:`(N, d)`, each for itself, to images, with shape :math:`(N, *)`.
        z: The codes.
        iterations: The steps of the power iteration.
        seed: What its first directions are drawn with.

    Returns:
        The constants, in units of the images' values per unit of a code, with shape :math:`(N,)`.

    Raises:
        ValueError: If the codes are not a matrix, or there are no iterations.
    """
    if z.ndim != 2 or iterations < 1:
        raise ValueError(
            f"'z' has shape (N, d) and 'iterations' is at least 1; they are {tuple(z.shape)} and {iterations}."
        )
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        images = decode(z)
        # The derivative of the pull-back with respect to the vector that it pulls back is the push-forward.
        covector = torch.zeros_like(images, requires_grad=True)
        (pulled,) = torch.autograd.grad(images, z, covector, create_graph=True)
        direction = torch.randn(z.shape, generator=make_generator(seed, "directions")).to(z)
        for _ in range(iterations):
            direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
            (pushed,) = torch.autograd.grad(pulled, covector, direction, retain_graph=True)
            (direction,) = torch.autograd.grad(images, z, pushed, retain_graph=True)
    # Each step multiplies a unit vector by the square of the singular value.
    return direction.norm(dim=1).sqrt()
