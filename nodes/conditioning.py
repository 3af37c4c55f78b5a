"""From pictures and cameras to CONDITIONING, for the task nodes and the nodes that reconstruct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, io

from ..aether.errors import InputError
from ..aether.generation import tasks as aether_tasks
from ..aether.geometry import trajectory
from ..aether.spec import AetherSpec
from .inputs import MOST_PIXELS
from .types import FPS_KEY, CamerasValue, RaymapValue

Camera = RaymapValue | CamerasValue
"""What the input `camera` takes."""
_OVERSHOOT = 0.5
"""A bicubic resize of black and white overshoots by up to 0.45; pictures in [-1, 1] reach further."""


def spec_of(vae: Any) -> AetherSpec:
    """See `bridge.vae.spec_of`, imported late as all that needs ComfyUI's model code."""
    from .bridge import vae as bridge

    return bridge.spec_of(vae)


def check_size(width: int, height: int) -> None:
    """
    Raises:
        InputError: pixels out of range, or one side without the other.
    """
    for name, value in (("width", width), ("height", height)):
        if not 0 <= value <= MOST_PIXELS:
            raise InputError(name, f"{value} cannot be used; give pixels, or 0 for the model's own")
    if (width == 0) != (height == 0):
        raise InputError("width, height", "give both, or 0 for both (the model's own size)")


def size_of(vae: Any, width: int, height: int) -> tuple[int, int]:
    """(height, width) of the clip to make.

    Raises:
        InputError: a size that Aether cannot have, or another kind of VAE.
    """
    check_size(width, height)
    spec = spec_of(vae)
    size = (height, width) if height else spec.default_size
    aether_tasks.check_size(spec, *size, field="width, height")
    return size


def made(frames: int, size: tuple[int, int], fps: int) -> str:
    """A clip in words. size: (height, width)."""
    return f"{frames} frames of {size[1]} x {size[0]}, {fps} a second"


def whole_file(video: Any) -> str | None:
    """Path of a VIDEO that is a whole file, which can be read in part; None for others."""
    if isinstance(video, InputImpl.VideoFromFile) and not any(video.get_active_trim_window()):
        source = video.get_stream_source()
        return source if isinstance(source, str) else None
    return None


def read_video(video: Any) -> tuple[np.ndarray, float | None]:
    """Pictures (F, H, W, 3) and their rate, None for IMAGEs."""
    if isinstance(video, torch.Tensor):
        return read_colors(video, "video"), None
    parts = video.get_components()
    return read_colors(parts.images, "video"), float(parts.frame_rate)


def read_colors(image: torch.Tensor, field: str) -> np.ndarray:
    """IMAGE to (F, H, W, 3); an alpha channel is left out, as core does on encoding.

    What a resize overshoots [0, 1] by is cut off. Other values are left as they are: the library refuses
    them.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise InputError(field, f"has shape {tuple(image.shape)}; it must be (frames, height, width, 3)")
    colors = image[..., :3].float().cpu()
    low, high = torch.aminmax(colors) if colors.numel() else (0.0, 1.0)
    overshoots = (low < 0 or high > 1) and -_OVERSHOOT <= low and high <= 1 + _OVERSHOOT
    return (colors.clamp(0, 1) if overshoots else colors).numpy()


def encode(
    vae: Any,
    task: str,
    pictures: dict[str, np.ndarray],
    camera: Camera | None,
    frames: int,
    size: tuple[int, int],
    fps: int,
    seed: int,
) -> io.NodeOutput:
    """What a task node gives: positive, negative and an empty latent.

    Args:
        pictures: those of `aether.generation.tasks.condition`, in the clip's size.
        frames, size, fps: of the clip to make; size is (height, width).
        seed: of the VAE's sampling.
    """
    import comfy.model_management

    from .bridge.vae import encode_conditions, encoder_of

    encoder = encoder_of(vae)

    def make() -> aether_tasks.Conditions:
        return aether_tasks.condition(
            encoder,
            task,
            **pictures,
            raymap=_action(camera, frames, size),
            frames=None if task == "reconstruction" else frames,
            generator=torch.Generator().manual_seed(seed),
        )

    with renamed("raymap", "camera"):
        conditions = encode_conditions(vae, frames, *size, make)
    samples = torch.zeros(
        (1, encoder.spec.out_channels, *conditions.cond[0, :, 0].shape),
        device=comfy.model_management.intermediate_device(),
    )
    positive = _conditioning(conditions, conditions.cond, fps)
    # Without guidance both are alike: guidance, where a core sampler is given some, then changes nothing.
    unguided = conditions.cond if conditions.uncond is None else conditions.uncond
    return io.NodeOutput(
        positive, _conditioning(conditions, unguided, fps), {"samples": samples, FPS_KEY: fps}
    )


def _action(camera: Camera | None, frames: int, size: tuple[int, int]) -> torch.Tensor | np.ndarray | None:
    if camera is None:
        return None
    if "raymap" in camera:
        return camera["raymap"]
    return trajectory.action(camera["cameras"], frames, *size)


def _conditioning(conditions: aether_tasks.Conditions, cond: torch.Tensor, fps: int) -> list:
    """CONDITIONING. The null prompt lives in the MODEL; the tensor that core wants here stays unused."""
    entry = {
        "concat_latent_image": cond.transpose(1, 2).float().cpu(),
        "aether_task": conditions.task,
        "aether_fps": fps,
        "aether_size": (conditions.frames, conditions.height, conditions.width),
    }
    return [[torch.zeros(1, 1, 1), entry]]


@contextmanager
def renamed(field: str, name: str) -> Iterator[None]:
    """Errors about the library's ``field`` name the input that it came from."""
    try:
        yield
    except InputError as error:
        if error.field != field:
            raise
        raise InputError(name, str(error).removeprefix(f"{field}: ")) from error
