"""Sections that the command and the node have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ..defaults import TASKS
from ..spec import AETHER_V1
from .report import Line, Section, find
from .system import system_text, video_text

if TYPE_CHECKING:
    import torch

    from .fits import Shape, Way

Device = Callable[[], "torch.device"]
"""Gives the device that is computed on; it may fail."""


def machine_section(device: Device) -> Section:
    """System, device and memory, each asked for by itself."""

    def lines() -> Iterable[Line]:
        from . import machine

        yield from find("device", lambda: machine.device_lines(device()))
        yield from find("memory of the device", lambda: machine.room_text(device()))

    return Section(
        "Computer",
        (*find("system", system_text), *find("torch", lines), *find("video files", video_text)),
    )


def attention_section(texts: Callable[[], Mapping[str, str]]) -> Section:
    """Attention backends.

    Args:
        texts: gives what is known of each, by name.
    """

    def lines() -> list[Line]:
        return [Line(name, text) for name, text in texts().items()]

    return Section("Attention", find("backends", lines))


def weights_section(real: Callable[[], Iterable[Line]]) -> Section:
    """The bundled miniature and the real model.

    Args:
        real: finds the lines of the real one.
    """

    def miniature() -> str:
        from .weights import miniature_text

        return miniature_text()

    return Section("Weights", (*find("miniature", miniature, blocking=True), *find("Aether", real)))


def fit_section(
    device: Device, ways: Callable[[], tuple[Way, ...]], cost: Callable[[int, int, int], tuple[Shape, int]]
) -> Section:
    """Ways of loading the model, and which fit.

    Args:
        ways: gives them, the best result first.
        cost: of steps, batch and bytes of a value makes the shape of a call and what HERO caches.
    """

    def lines() -> list[Line]:
        from .fits import BATCH, BYTES, fit_lines
        from .machine import room_of

        steps, there = TASKS["prediction"].accelerated_steps, device()
        # These share the computer's memory: blocks have nowhere else to wait.
        shared = there.type in ("cpu", "mps")
        sensible = tuple(way for way in ways() if not (shared and way.offload))
        return fit_lines(room_of(there), sensible, *cost(steps, BATCH, BYTES))

    height, width = AETHER_V1.default_size
    clip = f"{AETHER_V1.default_frames} frames of {width} x {height}"
    return Section(
        f"Settings for this device (Aether, {clip}, bfloat16, with HERO; memory is counted, not measured)",
        find("settings", lines),
    )


def measured_section(text: Callable[[], str]) -> Section:
    """What was measured here last.

    Args:
        text: says it.
    """
    return Section("Measured here last", find("HERO Tuner", text))
