"""Aether's three tasks: which inputs each takes, and the condition latents made of them.

Source: ``check_inputs``, ``prepare_latents`` and the guidance in ``__call__`` of the reference pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch

from ..defaults import FPS, TASKS, Task
from ..errors import InputError
from ..geometry import raymap as raymaps
from ..model.parts import AetherModel, Encoder
from ..spec import FRAMES, RAYMAP_VALUES, AetherSpec
from .latents import encode


@dataclass(frozen=True)
class Conditions:
    """What a run is conditioned on.

    cond: (1, T, 40, h, w): RGB condition (16) and packed raymap (24), in the model's dtype.
    uncond: the same with the pictures left out, for guidance; None where the task has no guidance.
    frames, height, width: of the clip that will come out.
    """

    task: str
    cond: torch.Tensor
    uncond: torch.Tensor | None
    frames: int
    height: int
    width: int


def condition(
    model: AetherModel | Encoder,
    task: str,
    *,
    video: np.ndarray | torch.Tensor | None = None,
    image: np.ndarray | torch.Tensor | None = None,
    goal: np.ndarray | torch.Tensor | None = None,
    raymap: np.ndarray | torch.Tensor | None = None,
    frames: int | None = None,
    generator: torch.Generator | None = None,
) -> Conditions:
    """Encode a task's inputs. Pictures must already have a size and length that Aether takes.

    Args:
        task: "reconstruction" (takes ``video``), "prediction" (``image``), "planning" (``image``, ``goal``).
        video: (F, H, W, 3) float in [0, 1], F one of 17, 25, 33, 41.
        image, goal: first and last picture, (H, W, 3) float in [0, 1], of one size.
        raymap: camera condition (F, 6, H/8, W/8) in Aether's encoding; without it the model chooses.
        frames: length for prediction and planning; by default the raymap's, else the model's own.
        generator: the run's one source of noise. The VAE's samples are drawn here first, then
            :func:`sample` goes on with it, so that a seed gives what it gives in the reference.

    Raises:
        InputError: an input is missing, not wanted by the task, of the wrong shape or out of range.
    """
    wanted = check_task(task)
    check_generator(generator)
    pictures = _pictures(model.spec, wanted, {"video": video, "image": image, "goal": goal})
    first = next(iter(pictures.values()))
    frames = _length(model.spec, wanted, first, raymap, frames)
    height, width = first.shape[1:3]
    packed = _raymap_condition(model, raymap, frames, height, width)

    encoded = [encode(model, picture, generator) for picture in pictures.values()]
    # A video as it is; one picture at the start, a second at the end, zeros between.
    head, tail = encoded[0], encoded[1:]
    missing = packed.shape[1] - sum(part.shape[1] for part in encoded)
    gap = head.new_zeros(head.shape[0], missing, *head.shape[2:])
    cond = torch.cat([torch.cat([head, gap, *tail], dim=1), packed], dim=2)
    uncond = None
    if wanted.guided:
        # Guidance's other branch: pictures left out, raymap kept. The reference zeroes the first frame for
        # prediction and all for planning: the same, since prediction's other frames are zero already.
        uncond = cond.clone()
        uncond[:, :, : model.spec.latent_channels] = 0
    return Conditions(wanted.name, cond, uncond, frames, height, width)


def check_task(task: str) -> Task:
    if task not in TASKS:
        raise InputError("task", f"{task!r} is not one of {', '.join(TASKS)}")
    return TASKS[task]


def check_frames(frames: int, field: str = "frames") -> int:
    if not isinstance(frames, Integral) or isinstance(frames, bool) or frames not in FRAMES:
        raise InputError(
            field, f"{frames!r} is not a length that Aether takes; use {_choices(FRAMES)} frames"
        )
    return int(frames)


def check_fps(fps: float) -> int:
    """The rate as an int (24.0 passes, 23.976 does not)."""
    if not isinstance(fps, Real) or isinstance(fps, bool) or fps not in FPS:
        raise InputError("fps", f"{fps!r} is not a rate that Aether knows; use {_choices(FPS)}")
    return int(fps)


def check_size(spec: AetherSpec, height: int, width: int, field: str = "size") -> None:
    """Height and width in pixels: multiples of a token's, or the one size a learned position table allows."""
    if spec.fixed_size and (height, width) != spec.default_size:
        fixed = _by(*spec.default_size)
        raise InputError(
            field,
            f"{_by(height, width)} cannot be used: this transformer has learned positional embeddings, which "
            f"fix the size at {fixed} (width x height). Crop and resize to {fixed}",
        )
    unit = spec.size_multiple
    if height % unit or width % unit or not height or not width:
        nearest = _by(*(max(unit, round(side / unit) * unit) for side in (height, width)))
        raise InputError(
            field,
            f"{_by(height, width)} (width x height) cannot be used: both must be multiples of {unit}; "
            f"try {nearest}",
        )


def _by(height: int, width: int) -> str:
    return f"{width} x {height}"


def check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError("generator", "must be a torch.Generator; see torch.Generator().manual_seed(seed)")


def _choices(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"


def _pictures(spec: AetherSpec, task: Task, given: dict[str, object]) -> dict[str, torch.Tensor]:
    """The task's inputs as checked float32 clips (F, H, W, 3), in the order in which they are encoded."""
    for name, value in given.items():
        if value is None and name in task.inputs:
            raise InputError(name, f"is missing; {task.name} needs {' and '.join(task.inputs)}")
        if value is not None and name not in task.inputs:
            raise InputError(name, f"is not used by {task.name}, which takes {' and '.join(task.inputs)}")
    pictures = {}
    for name in task.inputs:
        clip = _as_floats(name, given[name], "a numpy array or tensor of colours in [0, 1]")
        pictures[name] = _check_picture(name, clip if name == "video" else clip[None])
        check_size(spec, *pictures[name].shape[1:3], field=name)
    sizes = {name: tuple(picture.shape[1:3]) for name, picture in pictures.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "goal", f"has size {sizes['goal']}, the image {sizes['image']}; give both the same size"
        )
    return pictures


def _as_floats(field: str, value: object, wanted: str) -> torch.Tensor:
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8:
            raise InputError(field, "holds whole numbers 0..255; divide by 255 for floats in [0, 1]")
        if value.dtype.kind != "f":
            raise InputError(field, f"has dtype {value.dtype}; give {wanted}, as float32")
        value = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    if not isinstance(value, torch.Tensor):
        raise InputError(field, f"is a {type(value).__name__}; give {wanted}")
    if not value.is_floating_point():
        raise InputError(field, f"has dtype {value.dtype}; give {wanted}, as float32 (bytes: divide by 255)")
    return value.detach().float()


def _check_picture(field: str, clip: torch.Tensor) -> torch.Tensor:
    shape = tuple(clip.shape) if field == "video" else tuple(clip.shape[1:])
    if clip.ndim != 4 or clip.shape[-1] != 3:
        wanted = "(frames, height, width, 3)" if field == "video" else "(height, width, 3)"
        raise InputError(field, f"has shape {shape}; it must be {wanted}")
    if not clip.numel():
        raise InputError(field, f"is empty, its shape is {shape}")
    if not torch.isfinite(clip).all():
        raise InputError(field, "holds NaN or infinite values")
    low, high = clip.min().item(), clip.max().item()
    if low < 0 or high > 1:
        hint = "divide by 255" if low >= 0 and 2 < high <= 255 else "clip or rescale it"
        raise InputError(
            field, f"has values from {low:.4g} to {high:.4g}; colours must lie in [0, 1]: {hint}"
        )
    return clip


def _length(spec: AetherSpec, task: Task, first: torch.Tensor, raymap: object, frames: object) -> int:
    """Frames of the clip: the video's, else what was asked for, else the raymap's, else the model's own."""
    if task.inputs == ("video",):
        length = check_frames(first.shape[0], field="video")
        if frames is not None and frames != length:
            raise InputError("frames", f"is {frames!r}, but the video has {length}; leave frames out")
        return length
    if frames is not None:
        return check_frames(frames)
    if raymap is not None and hasattr(raymap, "shape") and len(raymap.shape) == 4:
        return check_frames(raymap.shape[0], field="raymap")
    return spec.default_frames


def _raymap_condition(
    model: AetherModel | Encoder, raymap: object, frames: int, height: int, width: int
) -> torch.Tensor:
    """(1, T, 24, h, w): the packed raymap, zeros where none is given."""
    spec = model.spec
    size = spec.cells(height, width)
    like = {"device": model.device, "dtype": model.dtype}
    if raymap is None:
        return torch.zeros(1, spec.latent_frames(frames), spec.raymap_channels, *size, **like)
    values = _as_floats("raymap", raymap, "a numpy array or tensor in Aether's encoding")
    wanted = (frames, RAYMAP_VALUES, *size)
    if tuple(values.shape) != wanted:
        raise InputError(
            "raymap",
            f"has shape {tuple(values.shape)}; for {frames} frames of {_by(height, width)} it must be "
            f"{wanted}",
        )
    if not torch.isfinite(values).all():
        raise InputError("raymap", "holds NaN or infinite values")
    packed = torch.as_tensor(raymaps.pack(values.cpu().numpy()))
    return packed[None].to(**like)
