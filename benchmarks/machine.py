r"""What figures depend on besides the code: the processor, and the versions of the libraries."""

__all__ = ["device_name", "versions"]

import platform
from importlib.metadata import version

import torch


def device_name(device: torch.device) -> str:
    r"""Returns what a device is called in tables."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # The instructions decide both the speed and the last bits of every figure, those of the features included.
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def versions(*libraries: str) -> str:
    r"""Returns the versions of Python and of some libraries."""
    return ", ".join(
        f"{name} {number}"
        for name, number in [("python", platform.python_version()), *((name, version(name)) for name in libraries)]
    )
