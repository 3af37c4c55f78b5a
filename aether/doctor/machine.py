"""The computer: system, device, memory, and what reads and writes videos."""

from __future__ import annotations

import platform
from typing import NamedTuple

import torch

from ..model.memory import bytes_text
from .report import Line


class Room(NamedTuple):
    """Bytes of a device's memory that are free, and all of it."""

    free: int
    total: int


def system_text() -> str:
    """System and processor; no name of the machine."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def device_lines(device: torch.device) -> list[Line]:
    """What torch computes on, and in what."""
    build = torch.version.cuda or torch.version.hip
    kind = "ROCm" if torch.version.hip else "CUDA"
    lines = [Line("torch is built for", f"{kind} {build}" if build else "the CPU or Apple's GPUs only")]
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native = "bfloat16" if major >= 8 or torch.version.hip else "bfloat16 is emulated, and slow"
        name = torch.cuda.get_device_name(device)
        return [*lines, Line("device", f"{name} ({device}, capability {major}.{minor}, {native})")]
    return [*lines, Line("device", f"{device.type}{_why_cpu() if device.type == 'cpu' else ''}")]


def _why_cpu() -> str:
    if torch.version.cuda or torch.version.hip:
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


def video_text() -> str:
    """PyAV, which brings FFmpeg's libraries with it; the program ffmpeg is not needed."""
    import av

    try:
        av.codec.Codec("libx264", "w")
    except Exception:  # PyAV's own kinds of errors differ between versions
        return f"PyAV {av.__version__} cannot write H.264, which videos are saved in: pip install -U av"
    return f"PyAV {av.__version__} reads videos and writes H.264"
