r"""Which device the work is done on, and which precision is fast there."""

__all__ = ["multiplies_bfloat16_fast", "resolve_device"]

import torch


def resolve_device(device: torch.device | str) -> torch.device:
    r"""Returns the device; ``"auto"`` is a CUDA GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def multiplies_bfloat16_fast(device: torch.device) -> bool:
    r"""Returns whether a device has instructions of its own for products of bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch do not tell; without such instructions oneDNN is slower than in float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
