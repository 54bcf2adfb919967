r"""Runs networks of the user without changing them."""

__all__ = ["evaluation_mode"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluation_mode(function: Any) -> Iterator[torch.device]:
    r"""Puts a module in evaluation mode, and returns every submodule to the mode that it had before.

    Frozen submodules are in evaluation mode already and stay in it, so each mode is restored by itself. The context
    manager yields the device of the module's parameters. A function that is no module stays as it is, and runs on the
    CPU.
    """
    module = function if isinstance(function, nn.Module) else nn.Module()
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    finally:
        for submodule, training in modes:
            submodule.training = training
