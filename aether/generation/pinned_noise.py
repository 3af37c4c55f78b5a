"""Noise that a scheduler draws on the host, sent to the device without a wait."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SentAhead(TorchFunctionMode):
    """Context of a scheduler's step.

    With a generator of the CPU, as ComfyUI has it for seeds that mean the same on every machine, diffusers'
    schedulers draw on the host and then wait for the device to take the noise, twice in a step of the DPM
    scheduler. Here it goes by pinned memory, and so is drawn while the device computes. Numbers are the same.

    Args:
        device: where the noise goes; another than CUDA takes it as ever.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.randn and self._device.type == "cuda" and result.device.type == "cpu":
            return result.pin_memory().to(self._device, non_blocking=True)
        return result
