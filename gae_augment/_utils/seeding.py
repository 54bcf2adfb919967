r"""Seeds of random numbers."""

__all__ = ["RandomState", "balanced_draw", "derive_seed", "global_seed", "make_generator", "resolve_random_state"]

import hashlib
import operator
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

RandomState = int | np.random.RandomState | np.random.Generator | None
"""``None``, an integer, or a NumPy RandomState or Generator."""


def derive_seed(*parts: int | str) -> int:
    r"""Returns a seed in :math:`[0, 2^{63})`, which is a hash of the parts in order.

    Different parts give independent random numbers.

    Args:
        *parts: Integers and strings, for example a base seed and a label.
    """
    for part in parts:
        if not isinstance(part, str) and not hasattr(part, "__index__"):
            raise TypeError(f"A seed is {part!r}, a {type(part).__name__}, but must be an integer.")
    # NumPy's integers and strings give the same seed as Python's.
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    r"""Returns a torch generator on a device, with the seed ``derive_seed(*parts)``."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


def balanced_draw(choices: int, n: int, seed: int) -> torch.Tensor:
    r"""Returns ``n`` numbers below ``choices`` in random order, each as often as any other, or once more."""
    generator = make_generator(seed)
    rounds = [torch.randperm(choices, generator=generator) for _ in range(-(-n // choices))]
    return torch.cat(rounds)[:n]


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    r"""Context manager: seeds the global random generators of Python, NumPy and torch, and restores them at the end.

    The generators of GPUs do not change.
    """
    # torch.manual_seed would also seed the generators of all GPUs.
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def resolve_random_state(random_state: RandomState) -> int:
    r"""Converts a ``random_state`` to an integer seed.

    An integer is the seed itself. A NumPy RandomState or Generator draws the seed. For ``None``, the operating system
    draws the seed.

    Raises:
        ValueError: If ``random_state`` has another type, for example bool.
    """
    match random_state:
        case None:
            return secrets.randbits(63)
        case bool():
            pass
        case int() | np.integer():
            return int(random_state)
        case np.random.RandomState():
            return int(random_state.randint(2**31 - 1))
        case np.random.Generator():
            return int(random_state.integers(2**63 - 1))
    raise ValueError(
        f"'random_state' is {random_state!r}, but must be None, an integer, or a NumPy RandomState or Generator. "
        f"Pass an integer to get the same images every time."
    )
