r"""The processor and the library versions, which figures depend on besides the code."""

__all__ = ["device_name", "versions"]

import platform
from importlib.metadata import version

import torch


def device_name(device: torch.device) -> str:
    r"""Returns the name of a device for tables."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # The instruction set decides the speed and the last bits of every figure.
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def versions(*libraries: str) -> str:
    r"""Returns the versions of Python and of the given libraries."""
    return ", ".join(
        f"{name} {number}"
        for name, number in [("python", platform.python_version()), *((name, version(name)) for name in libraries)]
    )
