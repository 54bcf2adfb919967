r"""Which device the work is done on."""

__all__ = ["resolve_device"]

import torch


def resolve_device(device: torch.device | str) -> torch.device:
    r"""Returns the device; ``"auto"`` is a CUDA GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
