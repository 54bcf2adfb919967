r"""Seeds: one seed determines every random number of the package."""

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
"""``None``, an integer or a NumPy RandomState, as in scikit-learn, or a NumPy Generator."""


def derive_seed(*parts: int | str) -> int:
    r"""Returns a seed in :math:`[0, 2^{63})` that depends only on the parts and their order.

    The parts are a base seed and the purpose of the random numbers, as in ``derive_seed(seed, "fit", label)``. Random
    numbers for different purposes are therefore independent. With the label as a part, so are those of the classes.
    """
    # NumPy's integers and strings give the same seed as Python's.
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    r"""Returns a torch generator, seeded with :func:`derive_seed` of the parts."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    r"""Context manager: seeds the global generators for user code, and restores their states at the end.

    User code is, for example, a random transform. The generators are those of Python, of NumPy, and of torch on the
    CPU. The generators of GPUs do not change.
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

    ``None`` gives fresh entropy from the operating system, whereas scikit-learn draws from NumPy's global generator. An
    integer is the seed itself. A generator object gives its next random number, as in scikit-learn.

    Raises:
        ValueError: If ``random_state`` is of any other type.
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
