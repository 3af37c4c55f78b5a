"""Aether Reconstruct, Predict and Plan: pictures to conditioning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..aether import tasks as aether_tasks
from ..aether import trajectory
from ..aether.clips import fit_frames, plan_frames
from ..aether.errors import InputError
from ..aether.model import AetherModel
from .messages import show_text
from .types import DEFAULT_FPS, FPS_KEY, CameraPath, CamerasValue, Raymap, RaymapValue

AUTO = "auto"
Camera = RaymapValue | CamerasValue
"""What the input `camera` takes."""
_FRAMES = [str(number) for number in aether_tasks.FRAMES]
_FPS = [AUTO, *map(str, aether_tasks.FPS)]
_MOST_PIXELS = 16384

_VAE = io.Vae.Input("vae", tooltip="The VAE of Aether Loader or Aether Miniature.")
_CAMERA = io.MultiType.Input(
    "camera",
    [Raymap, CameraPath],
    optional=True,
    tooltip="How the camera moves: cameras, which are stretched to the clip's length and fitted to its size, "
    "or a raymap of just that length and size. Without it the model decides.",
)
_OUTPUTS = [
    io.Conditioning.Output(
        "positive", display_name="positive", tooltip="What the model sees. For the sampler's positive."
    ),
    io.Conditioning.Output(
        "negative",
        display_name="negative",
        tooltip="The same without the pictures, for guidance. For the sampler's negative.",
    ),
    io.Latent.Output(
        "latent", display_name="latent", tooltip="An empty latent of the clip's length and size."
    ),
]


def _size_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            side,
            default=0,
            min=0,
            max=_MOST_PIXELS,
            step=8,
            tooltip=f"{side.capitalize()} in pixels; 0 = the model's own. Pictures are scaled and cropped to "
            "fill width x height.",
        )
        for side in ("width", "height")
    ]


def _length_inputs(frames: list[str], fps: str, frames_note: str, fps_note: str) -> list[io.Input]:
    return [
        io.Combo.Input(
            "frames", options=frames, default=frames[0], tooltip=f"Length of the clip. {frames_note}"
        ),
        io.Combo.Input("fps", options=_FPS, default=fps, tooltip=f"Frames per second. {fps_note}"),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            advanced=True,
            tooltip="Of the VAE's sampling: what is encoded is drawn from a very narrow distribution.",
        ),
    ]


class AetherReconstruct(io.ComfyNode):
    """A clip as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherReconstruct",
            display_name="Aether Reconstruct",
            category="Aether",
            description="Conditioning to find depth and cameras of a video. Sample 4 steps, no guidance.",
            search_aliases=["video depth", "4d reconstruction", "camera pose", "aether reconstruction"],
            inputs=[
                _VAE,
                io.MultiType.Input(
                    "video",
                    [io.Image, io.Video],
                    tooltip="The clip: a VIDEO, or IMAGEs in order. Frames are taken to fit frames and fps.",
                ),
                _CAMERA,
                *_size_inputs(),
                *_length_inputs(
                    [AUTO, *_FRAMES],
                    AUTO,
                    "auto: as many as the video gives, up to the model's own.",
                    "auto: what suits the video's rate; for IMAGEs 12.",
                ),
            ],
            outputs=_OUTPUTS,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, width: int, height: int) -> bool | str:
        return _size_problem(width, height) or True

    @classmethod
    def execute(
        cls,
        vae: Any,
        video: Any,
        width: int,
        height: int,
        frames: str,
        fps: str,
        seed: int,
        camera: Camera | None = None,
    ) -> io.NodeOutput:
        form = _form(vae)
        size = _size(form, width, height)
        pixels, rate = _video(video)
        wanted = None if frames == AUTO else int(frames)
        if wanted is None and camera is not None and "raymap" in camera:
            wanted = len(camera["raymap"])
        asked = None if fps == AUTO else int(fps)
        chosen, rate, notes = _choose_frames(pixels, rate, asked, wanted, form.default_frames)
        clip = fit_frames(chosen, *size)
        made = f"{len(clip)} frames of {size[0]} x {size[1]} (height x width), {rate} a second"
        show_text(cls.hidden.unique_id, "\n".join([made, *notes]))
        return _encode(form, vae, "reconstruction", {"video": clip}, camera, len(clip), size, rate, seed)


class AetherPredict(io.ComfyNode):
    """One picture as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherPredict",
            display_name="Aether Predict",
            category="Aether",
            description="Conditioning to continue from a picture, with a camera path if one is given.",
            search_aliases=["image to video", "i2v", "world model", "camera control", "aether prediction"],
            inputs=[
                _VAE,
                io.Image.Input("image", tooltip="The first frame. Of several pictures the first is used."),
                _CAMERA,
                *_size_inputs(),
                *_length_inputs(_FRAMES[::-1], str(DEFAULT_FPS), "", "auto: 12, or the camera path's."),
            ],
            outputs=_OUTPUTS,
        )

    @classmethod
    def validate_inputs(cls, width: int, height: int) -> bool | str:
        return _size_problem(width, height) or True

    @classmethod
    def execute(
        cls,
        vae: Any,
        image: torch.Tensor,
        width: int,
        height: int,
        frames: str,
        fps: str,
        seed: int,
        camera: Camera | None = None,
    ) -> io.NodeOutput:
        form = _form(vae)
        size = _size(form, width, height)
        pictures = {"image": _picture(image, "image", size)}
        rate = _rate(fps, camera)
        return _encode(form, vae, "prediction", pictures, camera, int(frames), size, rate, seed)


class AetherPlan(io.ComfyNode):
    """Two pictures as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherPlan",
            display_name="Aether Plan",
            category="Aether",
            description="Conditioning to find a way from one picture to another.",
            search_aliases=["first last frame", "flf2v", "in-between", "goal", "visual planning"],
            inputs=[
                _VAE,
                io.Image.Input("start", tooltip="The first frame. Of several pictures the first is used."),
                io.Image.Input("goal", tooltip="The last frame. Of several pictures the first is used."),
                _CAMERA,
                *_size_inputs(),
                *_length_inputs(_FRAMES[::-1], str(DEFAULT_FPS), "", "auto: 12, or the camera path's."),
            ],
            outputs=_OUTPUTS,
        )

    @classmethod
    def validate_inputs(cls, width: int, height: int) -> bool | str:
        return _size_problem(width, height) or True

    @classmethod
    def execute(
        cls,
        vae: Any,
        start: torch.Tensor,
        goal: torch.Tensor,
        width: int,
        height: int,
        frames: str,
        fps: str,
        seed: int,
        camera: Camera | None = None,
    ) -> io.NodeOutput:
        form = _form(vae)
        size = _size(form, width, height)
        pictures = {"image": _picture(start, "start", size), "goal": _picture(goal, "goal", size)}
        rate = _rate(fps, camera)
        return _encode(form, vae, "planning", pictures, camera, int(frames), size, rate, seed)


def _form(vae: Any) -> AetherModel:
    from .comfy_vae import condition_model

    return condition_model(vae)


def _size_problem(width: int | None, height: int | None) -> str | None:
    """Linked values are not known yet and come as None; the library checks them when they are."""
    for name, value in (("width", width), ("height", height)):
        if value is not None and not 0 <= value <= _MOST_PIXELS:
            return f"{name}: {value} cannot be used; give pixels, or 0 for the model's own"
    if None not in (width, height) and (width == 0) != (height == 0):
        return "width, height: give both, or 0 for both (the model's own size)"
    return None


def _size(form: AetherModel, width: int, height: int) -> tuple[int, int]:
    problem = _size_problem(width, height)
    if problem:
        field, _, text = problem.partition(": ")
        raise InputError(field, text)
    size = (height, width) if height else form.default_size
    aether_tasks.check_size(form, *size, field="width, height")
    return size


def _video(video: Any) -> tuple[np.ndarray, float | None]:
    """Pictures (F, H, W, 3) and their rate, None for IMAGEs."""
    if isinstance(video, torch.Tensor):
        return _colors(video, "video"), None
    parts = video.get_components()
    return _colors(parts.images, "video"), float(parts.frame_rate)


def _colors(image: torch.Tensor, field: str) -> np.ndarray:
    """IMAGE to (F, H, W, 3); an alpha channel is left out, as core does on encoding."""
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise InputError(field, f"has shape {tuple(image.shape)}; it must be (frames, height, width, 3)")
    return image[..., :3].float().cpu().numpy()


def _picture(image: torch.Tensor, field: str, size: tuple[int, int]) -> np.ndarray:
    with _renamed("video", field):
        return fit_frames(_colors(image[:1], field), *size)[0]


def _rate(fps: str, camera: Camera | None) -> int:
    if fps != AUTO:
        return int(fps)
    return DEFAULT_FPS if camera is None else camera["fps"]


def _choose_frames(
    pixels: np.ndarray, source_fps: float | None, fps: int | None, frames: int | None, most: int
) -> tuple[np.ndarray, int, list[str]]:
    """The clip's frames, its rate, and what was dropped, repeated or retimed."""
    if len(pixels) < 2:
        raise InputError("video", "has a single frame; give a clip, or use Aether Predict for one picture")
    if source_fps is None:
        # IMAGEs have no rate of their own: they are taken one by one.
        source_fps = fps = fps or DEFAULT_FPS
    plan = plan_frames(np.arange(len(pixels)) / source_fps, fps, frames=frames, max_frames=most)
    return pixels[plan.indices], plan.fps, plan.notes


def _encode(
    form: AetherModel,
    vae: Any,
    task: str,
    pictures: dict[str, np.ndarray],
    camera: Camera | None,
    frames: int,
    size: tuple[int, int],
    fps: int,
    seed: int,
) -> io.NodeOutput:
    import comfy.model_management

    from .comfy_vae import encode_conditions

    def make() -> aether_tasks.Conditions:
        return aether_tasks.condition(
            form,
            task,
            **pictures,
            raymap=_action(camera, frames, size),
            frames=None if task == "reconstruction" else frames,
            generator=torch.Generator().manual_seed(seed),
        )

    with _renamed("raymap", "camera"):
        conditions = encode_conditions(vae, frames, *size, make)
    samples = torch.zeros(
        (1, form.out_channels, *conditions.cond[0, :, 0].shape),
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
def _renamed(field: str, name: str) -> Iterator[None]:
    """Errors about the library's ``field`` name the input that it came from."""
    try:
        yield
    except InputError as error:
        if error.field != field:
            raise
        raise InputError(name, str(error).removeprefix(f"{field}: ")) from error


NODES: list[type[Any]] = [AetherReconstruct, AetherPredict, AetherPlan]
