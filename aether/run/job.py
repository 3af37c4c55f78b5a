"""A whole run: inputs from files or the synthetic world, sampling, decoding, and what to report of it.

The command line stands on this. HERO is handed in as an `Accelerator`, so that nothing here imports it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..arrays import finite_array, read_npy
from ..clips.clip import read_clip
from ..clips.pictures import read_image
from ..defaults import BASE_FPS
from ..errors import InputError
from ..formats.camera_files import METERS_NOTE, SUFFIXES, CameraFile, read_cameras
from ..formats.known_lens import read_lens
from ..generation.latents import Decoded, decode
from ..generation.sampling import Callback, is_guided, sample, skipped_steps
from ..generation.tasks import Conditions, check_fps, check_frames, check_size, check_task, condition
from ..geometry import metrics, trajectory
from ..geometry.cameras import ASSUMED, METERS, Cameras
from ..geometry.depth import disparity_to_depth
from ..geometry.path_check import check_path
from ..geometry.raymap import to_cameras
from ..model.parts import AetherModel
from ..synthetic import SYNTHETIC

REHEARSED = 4
"""Steps of a rehearsal."""


class Accelerator(Protocol):
    """Something that makes sampling faster, such as HERO."""

    def session(self, model: AetherModel, steps: int) -> AbstractContextManager:
        """What `sample` enters around its loop."""

    def settings(self) -> dict[str, Any]:
        """What its results hang on, ready for JSON."""

    def rehearsal(self) -> Accelerator:
        """The same with a schedule that has all kinds of step in `REHEARSED` steps."""

    def to_dict(self) -> dict[str, Any]:
        """What the run just made did, ready for JSON. "summary" is a few lines for a person,
        "predicted_speedup" the bound of its speed-up by FLOPs, "speedup_limit" the most that is believed."""

    def total(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Several runs' :meth:`to_dict` as one, with the same keys."""

    def picture(self, report: Mapping[str, Any]) -> bytes:
        """A run's or a total's report as a PNG."""


@dataclass(frozen=True)
class Inputs:
    """A task's inputs at the size and length the model will take.

    Attributes:
        task: "reconstruction", "prediction" or "planning".
        sources: what was asked for: input name to path or "synthetic:SEED".
        pictures: input name to (F, H, W, 3) for "video", (H, W, 3) for "image" and "goal"; in [0, 1].
        frames, height, width, fps: of the clip that will come out.
        raymap: camera condition (F, 6, H/8, W/8), or None.
        notes: what was cropped, dropped, repeated or retimed.
        truth: a rendered clip's exact depth (F, H, W), NaN in the sky; None for other inputs.
        lens: cameras with the clip's known lens, which replaces the one that the model finds; or None.
    """

    task: str
    sources: dict[str, str]
    pictures: dict[str, np.ndarray]
    frames: int
    height: int
    width: int
    fps: int
    raymap: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    truth: np.ndarray | None = None
    lens: Cameras | None = None

    @property
    def asked(self) -> Cameras | None:
        """The camera path that was asked for; None where the model chooses, or the raymap is no camera's."""
        try:
            return None if self.raymap is None else to_cameras(self.raymap, self.height, self.width)
        except InputError:
            return None


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        latent: (1, T, 56, h, w).
        decoded: RGB, disparity and raymap.
        cameras: read off the raymap.
        seconds: wall time by stage: "encode", "denoise", "decode".
        report: everything about the run, ready for JSON.
        picture: the accelerator's report as a PNG, or None.
    """

    latent: torch.Tensor
    decoded: Decoded
    cameras: Cameras
    seconds: dict[str, float]
    report: dict[str, Any]
    picture: bytes | None


@dataclass(frozen=True)
class Settings:
    """How to sample; None takes the task's default (see `aether.defaults.TASKS`)."""

    steps: int | None = None
    guidance: float | None = None
    seed: int = 42
    guidance_skip: float = 0.0


def check_sources(sources: dict[str, str]) -> None:
    """Refuse inputs that are not there, before a model is loaded for nothing.

    Raises:
        InputError: a file is missing; the field is the input's name.
    """
    for name, source in sources.items():
        if not SYNTHETIC.fullmatch(source) and not Path(source).exists():
            raise InputError(name, f"{source} does not exist; give a file, or synthetic[:SEED]")


def gather(
    model: AetherModel,
    task: str,
    sources: dict[str, str],
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    fps: int | None = None,
    raymap: str | None = None,
    camera: str | None = None,
    lens: str | None = None,
) -> Inputs:
    """Read or render a task's inputs and bring them to what the model takes.

    Args:
        sources: input name ("video", "image", "goal") to a path, or to "synthetic[:SEED]", which gives a
            rendered clip, its first frame as an image or its last as a goal.
        size: (height, width); by default the model's own.
        frames: 17, 25, 33 or 41; by default what a video fills, up to the model's own, else the model's own.
        fps: 8, 10, 12, 15 or 24; by default what suits a video, else 12.
        raymap: path of a .npy file with a camera condition.
        camera: a move such as "orbit left:0.5" (see `aether.geometry.trajectory.parse_move`), or a camera
            file.
        lens: the clip's known lens, see `aether.formats.known_lens.read_lens`. A move, and a camera file
            without a lens, have it too.

    Raises:
        InputError: an input cannot be read, or a value is not one that Aether takes; the field is an
            argument's name or an input's.
    """
    check_task(task)
    spec = model.spec
    height, width = size or spec.default_size
    check_size(spec, height, width)
    frames = None if frames is None else check_frames(frames)
    fps = None if fps is None else check_fps(fps)
    if raymap is not None and camera is not None:
        raise InputError("camera", "cannot be given beside a raymap, which says how the camera moves already")
    action = None if raymap is None else read_raymap(raymap)
    inputs = _read(task, sources, (height, width), frames, fps, spec.default_frames)
    known = None if lens is None else read_lens(lens, height, width)
    if known is not None:
        trajectory.one_lens_or_each(known, inputs.frames)
    if camera is not None:
        try:
            path = read_path(camera, inputs.frames, inputs.fps, known)
        except InputError as error:
            # What a reader calls the part that is wrong comes after the argument; "file" is the whole of it.
            text = error.message if error.field in ("camera", "file") else str(error)
            raise InputError("camera", text) from error
        inputs.notes.extend(f"camera: {note}" for note in path.notes)
        action = trajectory.action(path.cameras, inputs.frames, height, width)
    return replace(inputs, raymap=action, lens=known)


def _read(
    task: str, sources: dict[str, str], size: tuple[int, int], frames: int | None, fps: int | None, most: int
) -> Inputs:
    """The inputs in order; a video's length, up to ``most``, and rate are those of what follows."""
    from ..miniature import random_scene, render

    pictures, notes, truth = {}, [], None
    length, rate = frames or most, fps or BASE_FPS
    for name, source in sources.items():
        if match := SYNTHETIC.fullmatch(source):
            # Four rays a pixel do for large pictures, and take half the time.
            samples = 3 if size[1] <= 256 else 2
            world = render(random_scene(int(match[1] or 0)), length, *size, rate, samples=samples)
            pictures[name] = {"video": world.rgb, "image": world.rgb[0], "goal": world.rgb[-1]}[name]
            truth = np.where(world.sky, np.nan, world.depth) if name == "video" else None
            continue
        if name == "video":
            found = read_clip(source, fps, frames=frames, max_frames=most, size=size)
            pictures[name], rate, length = found.frames, found.fps, len(found.frames)
        else:
            found = read_image(source, size=size, name=name)
            pictures[name] = found.pixels
        notes += [f"{name}: {note}" for note in found.notes]
    return Inputs(task, sources, pictures, length, *size, rate, notes=notes, truth=truth)


def read_raymap(path: str) -> np.ndarray:
    """A camera condition (F, 6, h, w) from a .npy file; its shape is checked against the clip later.

    Raises:
        InputError: the file is missing or holds no such array, NaN or infinities. Pickled arrays are refused.
    """
    array = read_npy(path, "raymap")
    if array.ndim != 4 or array.dtype.kind not in "fiu":
        found = f"{path} holds {array.dtype} {array.shape}"
        raise InputError("raymap", f"{found}; it must be (frames, 6, height / 8, width / 8) floats")
    return finite_array(array.astype(np.float32), "raymap", (None,) * 4)


def read_path(camera: str, frames: int, fps: float, lens: Cameras | None = None) -> CameraFile:
    """A camera path from a file, or of one move written as "orbit left:0.5", which lasts ``frames``.

    Args:
        lens: cameras with the lens for what has none; by default an angle is assumed, which a note says.

    Raises:
        InputError: neither a file nor a move, or a file that cannot be used.
    """
    if Path(camera).suffix.lower() in SUFFIXES or Path(camera).exists():
        found = read_cameras(camera)
    else:
        name, amount = trajectory.parse_move(camera)
        path = trajectory.preset(name, amount, frames=frames, fps=fps)
        degrees = np.degrees(path.fov_x[0])
        note = f"a field of view of {degrees:.0f} degrees was assumed; give the lens if it is known"
        found = CameraFile(replace(path, lens=ASSUMED), notes=[note])
    notes = found.notes
    if found.cameras.unit == METERS:
        notes = [*notes, METERS_NOTE]
    if lens is None or found.cameras.lens != ASSUMED:
        return replace(found, notes=notes)
    return replace(found, cameras=trajectory.with_lens(found.cameras, lens), notes=["with the given lens"])


def run(
    model: AetherModel,
    inputs: Inputs,
    settings: Settings,
    *,
    accelerator: Accelerator | None = None,
    callback: Callback | None = None,
) -> Result:
    """Condition, sample, decode and measure.

    Args:
        accelerator: entered around the denoising loop.
        callback: called after every step, see `aether.generation.sampling.sample`.

    Raises:
        InputError: a value out of range.
        SamplingStopped: the callback returned False.
    """
    steps = steps_of(inputs.task, settings)
    generator = make_generator(model, settings.seed)
    watch = _Watch(model.device)
    conditions = condition_on(model, inputs, generator)
    watch.lap("encode")
    session = accelerator.session(model, steps) if accelerator else None
    latent = denoise(model, inputs, conditions, settings, generator, session, callback)
    watch.lap("denoise")
    decoded = decode(model, latent)
    watch.lap("decode")
    cameras = to_cameras(decoded.raymap, inputs.height, inputs.width, square_pixels=True)
    did = accelerator.to_dict() if accelerator else None
    report = {
        **_describe(model, inputs, settings, steps),
        "seconds": watch.laps,
        "depth_against_truth": depth_errors(disparity_to_depth(decoded.disparity), inputs.truth),
        "camera": camera_report(inputs, cameras),
        "hero": did,
    }
    if inputs.lens is not None:
        cameras = trajectory.with_lens(cameras, inputs.lens)
    report["lens"] = lens_report(cameras)
    picture = accelerator.picture(did) if accelerator else None
    return Result(latent, decoded, cameras, watch.laps, report, picture)


def rehearse(
    model: AetherModel,
    inputs: Inputs,
    settings: Settings,
    accelerator: Accelerator | None = None,
    callback: Callback | None = None,
) -> None:
    """Take every kind of step that :func:`run` will take, and throw the result away.

    What comes with the first of its kind is done then: compiling, the choice of kernels. A run's times
    without it are not the method's.

    Args:
        callback: called after every step, see `aether.generation.sampling.sample`.
    """
    generator = make_generator(model, settings.seed)
    conditions = condition_on(model, inputs, generator)
    brief = replace(settings, steps=REHEARSED if accelerator else 2, guidance_skip=0.0)
    kinds = [brief]
    if settings.guidance_skip and is_guided(inputs.task, settings.guidance):
        kinds.append(replace(brief, guidance=1.0))  # as steps without the unconditional half
    for kind in kinds:
        steps = steps_of(inputs.task, kind)
        session = accelerator.rehearsal().session(model, steps) if accelerator else None
        denoise(model, inputs, conditions, kind, generator, session, callback)


def condition_on(model: AetherModel, inputs: Inputs, generator: torch.Generator) -> Conditions:
    """The inputs, encoded; see `aether.generation.tasks.condition`."""
    return condition(
        model,
        inputs.task,
        **inputs.pictures,
        raymap=inputs.raymap,
        frames=inputs.frames,
        generator=generator,
    )


def denoise(
    model: AetherModel,
    inputs: Inputs,
    conditions: Conditions,
    settings: Settings,
    generator: torch.Generator,
    session: AbstractContextManager | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """The latent (1, T, 56, h, w) of a job; see `aether.generation.sampling.sample`.

    Args:
        conditions: from :func:`condition_on`, with the same generator.
        session: is entered around the loop.
    """
    return sample(
        model,
        conditions,
        steps=steps_of(inputs.task, settings),
        guidance=settings.guidance,
        guidance_skip=settings.guidance_skip,
        fps=inputs.fps,
        generator=generator,
        session=session,
        callback=callback,
    )


def steps_of(task: str, settings: Settings) -> int:
    """The number of steps a run will take."""
    return check_task(task).default_steps if settings.steps is None else settings.steps


def make_generator(model: AetherModel, seed: int) -> torch.Generator:
    """The run's one source of noise, on the model's device as in the reference's demo.

    Raises:
        InputError: the seed is not an integer from 0 to 2**63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError("seed", f"{seed!r} is not an integer from 0 to 2**63 - 1")
    return torch.Generator(device=model.device).manual_seed(seed)


def depth_errors(depth: np.ndarray, truth: np.ndarray | None) -> dict[str, float] | None:
    """How far depth is from the truth once its scale is fitted, or None without a truth.

    One factor for the whole sequence, see `aether.geometry.metrics.align_depth` ("median").

    Args:
        depth, truth: (F, H, W); pixels where the truth is NaN do not count.

    Returns:
        "abs_rel": mean of |depth - truth| / truth; "delta1": share of pixels within a factor of 1.25;
        "scale": the factor.
    """
    if truth is None or not np.isfinite(truth).any():
        return None
    errors = metrics.depth_errors(depth, truth, align="median")
    return {name: getattr(errors, name) for name in ("abs_rel", "delta1", "scale")}


def camera_report(inputs: Inputs, obtained: Cameras) -> dict[str, Any] | None:
    """Whether the camera path that was asked for was followed, see `aether.geometry.path_check`; None where
    none was."""
    asked = inputs.asked
    return None if asked is None else check_path(asked, obtained).to_dict()


def lens_report(cameras: Cameras) -> dict[str, Any]:
    """Where the lens of a result is from, and its angle of view."""
    return {"from": cameras.lens, "fov_x_degrees": float(np.degrees(np.median(cameras.fov_x)))}


def _describe(model: AetherModel, inputs: Inputs, settings: Settings, steps: int) -> dict[str, Any]:
    import diffusers

    spec = check_task(inputs.task)
    return {
        "task": inputs.task,
        "inputs": inputs.sources,
        "notes": inputs.notes,
        "model": {"name": model.name, "trained": model.trained, "scheduler": type(model.scheduler).__name__},
        "steps_without_unconditional": skipped_steps(
            model,
            inputs.task,
            steps=steps,
            guidance=settings.guidance,
            guidance_skip=settings.guidance_skip,
        ),
        "settings": {
            "steps": steps,
            "guidance": spec.default_guidance if settings.guidance is None else settings.guidance,
            "guidance_skip": settings.guidance_skip,
            "seed": settings.seed,
            "frames": inputs.frames,
            "height": inputs.height,
            "width": inputs.width,
            "fps": inputs.fps,
            "raymap_given": inputs.raymap is not None,
        },
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }


class _Watch:
    """Wall time by stage; waits for the device at the end of each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = self._now()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps[name] = now - self._last
        self._last = now

    def _now(self) -> float:
        kind = self._device.type
        if kind == "mps":  # takes no device: there is one
            torch.mps.synchronize()
        elif kind != "cpu":
            getattr(torch, kind).synchronize(self._device)
        return time.perf_counter()
