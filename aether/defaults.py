"""Frame rates and tasks that Aether was trained on, with their steps and guidance. No torch."""

from __future__ import annotations

from dataclasses import dataclass

BASE_FPS = 12
"""The rate whose frames are one position apart; at 24 fps two frames are. Clips without a rate have it."""
FPS = (8, 10, 12, 15, 24)


@dataclass(frozen=True)
class Task:
    """One of the things Aether was trained to do, with the reference's defaults.

    inputs: the pictures it needs, in the order in which the reference encodes them.
    default_steps: denoising steps.
    default_guidance: scale of classifier-free guidance; 1 is none, the only value where ``guided`` is False.
    accelerated_steps: denoising steps to accelerate, as in HERO's tables; 4 leave nothing to cache.
    """

    name: str
    inputs: tuple[str, ...]
    default_steps: int
    default_guidance: float
    guided: bool
    accelerated_steps: int


DEPTH_FORMATS = ("exr", "png16")
"""Of depth in numbers; how each is written and read stands in formats/depth_files.py."""

SCHEDULERS = ("dpm", "ddim")
"""Aether's own sampler, which adds fresh noise at every step, and its deterministic sister."""

TASKS = {
    task.name: task
    for task in (
        Task("reconstruction", ("video",), 4, 1.0, guided=False, accelerated_steps=30),
        Task("prediction", ("image",), 50, 3.0, guided=True, accelerated_steps=50),
        Task("planning", ("image", "goal"), 50, 3.0, guided=True, accelerated_steps=50),
    )
}


def steps_text() -> str:
    """Each task's steps to accelerate, for the help of a command."""
    return ", ".join(f"{task.accelerated_steps} for {task.name}" for task in TASKS.values())
