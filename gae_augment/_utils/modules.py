r"""Runs networks of the user without changing them."""

__all__ = ["evaluation_mode"]

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    r"""Puts a module in evaluation mode, and returns every submodule to the mode that it had before.

    Frozen submodules are in evaluation mode already and stay in it, so each mode is restored by itself.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
