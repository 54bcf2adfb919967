r"""Choice and checks of torch devices, and transfer of images to a device."""

__all__ = ["check_device", "multiplies_bfloat16_fast", "resolve_device", "to_device"]

import torch
from torch import Tensor

INDEXED_AS = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}
"""The replacement of each data type that CUDA cannot index."""


def resolve_device(device: torch.device | str) -> torch.device:
    r"""Returns the torch device for a device name; ``"auto"`` gives a CUDA GPU if one is available, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def check_device(device: torch.device | str) -> None:
    r"""Raises a ValueError if torch cannot use the device on this machine; ``"auto"`` is always valid."""
    if device == "auto":
        return
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"'device' is {device!r}, which torch cannot use here. Use 'auto' or 'cpu'. ({error})"
        ) from error


def to_device(images: Tensor, device: torch.device) -> Tensor:
    r"""Returns images on a device, in a data type that CUDA can index.

    uint16 becomes int32, uint32 becomes int64, and uint64 becomes float64. Other data types do not change.
    """
    return images.to(INDEXED_AS.get(images.dtype, images.dtype)).to(device)


def multiplies_bfloat16_fast(device: torch.device) -> bool:
    r"""Returns whether a device has hardware instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch do not report CPU capabilities. Without these instructions, oneDNN is slower in bfloat16
    # than in float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
