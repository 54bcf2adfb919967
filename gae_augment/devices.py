r"""Devices: the choice of CPU or GPU, and hardware support for bfloat16."""

__all__ = ["multiplies_bfloat16_fast", "resolve_device"]

import torch


def resolve_device(device: torch.device | str) -> torch.device:
    r"""Returns a torch device; ``"auto"`` is a CUDA GPU if available, and the CPU otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def multiplies_bfloat16_fast(device: torch.device) -> bool:
    r"""Returns whether a device has hardware support for bfloat16 matrix products."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without hardware support, oneDNN is slower in bfloat16 than in float32. Older versions of torch cannot report it.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
