"""Attention backends: which run here, and which is the fastest of the exact ones."""

from __future__ import annotations

import torch

from ..errors import ConfigError
from ..models.joint_attention import JointAttention

# Our names, and those of diffusers' AttentionBackendName; None is torch's own attention.
BACKENDS: dict[str, str | None] = {
    "sdpa": None,
    "cudnn": "_native_cudnn",
    "flash": "flash",
    "flash3": "_flash_3",
    "sage": "sage",
}

# Relative error of the trial; half precision makes about 0.003, sage's 8 bits about 0.05.
_TOLERANCE = 0.1


def choose_backend(choice: str, device: torch.device, dtype: torch.dtype, head_width: int) -> str:
    """The backend for attention heads of this width, one of ``BACKENDS``.

    ``"auto"`` takes the first that runs of an order fixed by the kind of GPU, so that a machine always makes
    the same choice: flash-attn 3, then cuDNN on Hopper; cuDNN on Blackwell; flash-attn 2 before; torch's own
    where none of them runs. Backends that quantise are never among them.

    Raises:
        ConfigError: unknown, or does not run here (field ``"attention"``).
    """
    if choice == "auto":
        return next(
            name for name in _preferred(device) if trouble_with(name, device, dtype, head_width) is None
        )
    if choice not in BACKENDS:
        raise ConfigError("attention", f"{choice!r} is not one of auto, {', '.join(BACKENDS)}")
    trouble = trouble_with(choice, device, dtype, head_width)
    if trouble is not None:
        raise ConfigError("attention", f"{choice} does not run here: {trouble}; choose auto or sdpa")
    return choice


def _preferred(device: torch.device) -> tuple[str, ...]:
    if device.type != "cuda":
        return ("sdpa",)
    generation, _ = torch.cuda.get_device_capability(device)
    if generation < 9:
        return ("flash", "sdpa")
    return ("flash3", "cudnn", "sdpa") if generation == 9 else ("cudnn", "sdpa")


def trouble_with(name: str, device: torch.device, dtype: torch.dtype, head_width: int) -> str | None:
    """Why a backend does not run here, found by a trial on a few tokens; None where it does."""
    if name == "sdpa":
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it takes float16 or bfloat16, not {str(dtype).removeprefix('torch.')}"
    tokens = torch.randn(3, 1, 128, 2, head_width, generator=torch.Generator().manual_seed(0))
    query, key, value = tokens.to(device, dtype)
    try:
        out = JointAttention(BACKENDS[name]).attend(query, key, value, None)
    except Exception as error:  # packages of others fail in any way where they are missing or do not fit
        return f"{type(error).__name__}: {error}"
    exact = JointAttention().attend(query.float(), key.float(), value.float(), None)
    off = float((out.float() - exact).norm() / exact.norm())
    # Asked this way round, NaN is trouble.
    return None if off < _TOLERANCE else f"its result is off by {off:.2g} (relative)"
