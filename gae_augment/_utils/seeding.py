r"""Seeds: every random number of the package comes from a generator that is made here from one seed."""

__all__ = ["RandomState", "derive_seed", "global_seed", "make_generator", "resolve_random_state"]

import hashlib
import operator
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

RandomState = int | np.random.RandomState | np.random.Generator | None
"""What scikit-learn takes as ``random_state``, and NumPy's generators."""


def derive_seed(*parts: int | str) -> int:
    r"""Returns a seed in :math:`[0, 2^{63})` that depends on every part and on nothing else.

    The parts name the use, such as ``derive_seed(seed, "fit", label)``, so that two uses of one seed never share a
    stream of random numbers, and so that the stream of one class does not depend on which other classes there are.
    """
    # Equal parts are one seed, whether they come as Python's integers and strings or as NumPy's.
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    r"""Returns a torch generator seeded with :func:`derive_seed` of the parts."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    r"""Runs code of users, such as random transforms, that draws from global generators: from seeded ones.

    Afterwards those of torch on the CPU, NumPy and Python are as they were. GPUs' are left alone.
    """
    # torch.manual_seed would seed the generators of all GPUs as well.
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
    r"""Returns the seed that a scikit-learn ``random_state`` stands for.

    ``None`` is fresh entropy from the operating system: NumPy's global state, which scikit-learn takes in its place,
    would be moved by that. A generator object gives its next draw, as in scikit-learn.

    Raises:
        ValueError: If ``random_state`` is none of these.
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
        f"'random_state' is None, an integer, or a NumPy RandomState or Generator, and it is {random_state!r}. "
        f"Pass an integer for the same images every time."
    )
