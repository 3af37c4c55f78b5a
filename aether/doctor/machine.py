"""The device that torch computes on, and memory."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..model.memory import bytes_text
from .report import Line


class Room(NamedTuple):
    """Bytes of a device's memory that are free, and all of it."""

    free: int
    total: int


def device_lines(device: torch.device) -> list[Line]:
    """What torch computes on, and in what."""
    lines = [Line("torch is built for", _built_for())]
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native = "bfloat16" if major >= 8 or torch.version.hip else "bfloat16 is emulated, and slow"
        name = torch.cuda.get_device_name(device)
        return [*lines, Line("device", f"{name} ({device}, capability {major}.{minor}, {native})")]
    return [*lines, Line("device", f"{device.type}{_why_cpu() if device.type == 'cpu' else ''}")]


def _built_for() -> str:
    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip, "Intel GPUs": _xpu_build()}
    return next((f"{kind} {build}" for kind, build in builds.items() if build), "the CPU, or Apple's GPUs")


def _xpu_build() -> str | None:
    return getattr(torch.version, "xpu", None)  # torch 2.4 has no such entry


def _why_cpu() -> str:
    if torch.version.cuda or torch.version.hip or _xpu_build():
        return "; torch finds no GPU that it can use: check the driver"
    return "; for an NVIDIA GPU install torch from https://pytorch.org/get-started/locally"


def room_of(device: torch.device) -> Room:
    """Memory of a device; for the CPU the computer's.

    Raises:
        ImportError: psutil is not installed, which the computer's memory is asked with.
    """
    if device.type == "cuda":
        return Room(*torch.cuda.mem_get_info(device))
    if device.type == "xpu":
        return Room(*torch.xpu.mem_get_info(device))
    import psutil  # Apple's GPUs share the computer's memory

    memory = psutil.virtual_memory()
    return Room(memory.available, memory.total)


def room_text(device: torch.device) -> str:
    """Its memory as people read it."""
    free, total = room_of(device)
    return f"{bytes_text(total)}, {bytes_text(free)} of it free"
