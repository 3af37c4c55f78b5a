"""Aether Reconstruct, Predict and Plan: pictures to conditioning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, io

from ..aether.clips import Clip, read_clip
from ..aether.errors import InputError
from ..aether.frame_plan import RATE_TOLERANCE, plan_frames
from ..aether.pictures import fit_frames
from ..aether.tasks import FPS, FRAMES
from .conditioning import (
    Camera,
    check_size,
    encode,
    form_of,
    made,
    read_colors,
    read_video,
    renamed,
    size_of,
    whole_file,
)
from .inputs import AUTO, RATES, VAE, seed_input, size_inputs
from .messages import show_text
from .types import DEFAULT_FPS, CameraPath, Raymap
from .wiring import waiting

_FRAMES = [str(number) for number in FRAMES]

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


def _length_inputs(frames: list[str], fps: str, frames_note: str, fps_note: str) -> list[io.Input]:
    return [
        io.Combo.Input(
            "frames", options=frames, default=frames[0], tooltip=f"Length of the clip. {frames_note}"
        ),
        io.Combo.Input("fps", options=RATES, default=fps, tooltip=f"Frames per second. {fps_note}"),
        seed_input(
            "Of the VAE's sampling: what is encoded is drawn from a very narrow distribution.", advanced=True
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
                VAE,
                io.MultiType.Input(
                    "video",
                    [io.Image, io.Video],
                    tooltip="The clip: a VIDEO, or IMAGEs in order. Frames are taken to fit frames and fps.",
                ),
                _CAMERA,
                *size_inputs(),
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
    def check_lazy_status(cls, width: int, height: int, vae: Any = None, **others: Any) -> list[str]:
        check_size(width, height)
        return waiting({"vae": vae})

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
        size = size_of(vae, width, height)
        wanted = None if frames == AUTO else int(frames)
        if wanted is None and camera is not None and "raymap" in camera:
            wanted = len(camera["raymap"])
        asked = None if fps == AUTO else int(fps)
        clip = _read(video, asked, wanted, form_of(vae).default_frames, size)
        length = len(clip.frames)
        show_text(cls.hidden.unique_id, "\n".join([made(length, size, clip.fps), *clip.notes]))
        return encode(vae, "reconstruction", {"video": clip.frames}, camera, length, size, clip.fps, seed)


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
                VAE,
                io.Image.Input("image", tooltip="The first frame. Of several pictures the first is used."),
                _CAMERA,
                *size_inputs(),
                *_length_inputs(_FRAMES[::-1], str(DEFAULT_FPS), "", "auto: 12, or the camera path's."),
            ],
            outputs=_OUTPUTS,
        )

    @classmethod
    def check_lazy_status(cls, width: int, height: int, vae: Any = None, **others: Any) -> list[str]:
        check_size(width, height)
        return waiting({"vae": vae})

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
        size = size_of(vae, width, height)
        pictures = {"image": _picture(image, "image", size)}
        rate = _rate(fps, camera)
        return encode(vae, "prediction", pictures, camera, int(frames), size, rate, seed)


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
                VAE,
                io.Image.Input("start", tooltip="The first frame. Of several pictures the first is used."),
                io.Image.Input("goal", tooltip="The last frame. Of several pictures the first is used."),
                _CAMERA,
                *size_inputs(),
                *_length_inputs(_FRAMES[::-1], str(DEFAULT_FPS), "", "auto: 12, or the camera path's."),
            ],
            outputs=_OUTPUTS,
        )

    @classmethod
    def check_lazy_status(cls, width: int, height: int, vae: Any = None, **others: Any) -> list[str]:
        check_size(width, height)
        return waiting({"vae": vae})

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
        size = size_of(vae, width, height)
        pictures = {"image": _picture(start, "start", size), "goal": _picture(goal, "goal", size)}
        rate = _rate(fps, camera)
        return encode(vae, "planning", pictures, camera, int(frames), size, rate, seed)


def _picture(image: torch.Tensor, field: str, size: tuple[int, int]) -> np.ndarray:
    with renamed("video", field):
        return fit_frames(read_colors(image[:1], field), *size)[0]


def _rate(fps: str, camera: Camera | None) -> int:
    if fps != AUTO:
        return int(fps)
    return DEFAULT_FPS if camera is None else camera["fps"]


def _read(video: Any, fps: int | None, frames: int | None, most: int, size: tuple[int, int]) -> Clip:
    """The clip's frames in its size, its rate, and what was dropped, repeated, retimed or cropped.

    Args:
        fps, frames: None for what suits the video.
        most: bound of that number of frames.
    """
    path = whole_file(video)
    if path is not None:
        return read_clip(path, fps, frames=frames, max_frames=most, size=size)
    pixels, source_fps, duration = _beginning(video, frames or most)
    if not len(pixels):
        raise InputError("video", "has no frames; give a clip, and let a trim window begin before its end")
    if len(pixels) == 1:
        raise InputError("video", "has a single frame; give a clip, or use Aether Predict for one picture")
    if source_fps is None:
        # IMAGEs have no rate of their own: they are taken one by one.
        source_fps = fps = fps or DEFAULT_FPS
    times = np.arange(len(pixels)) / source_fps
    plan = plan_frames(times, fps, frames=frames, max_frames=most, duration=duration)
    return Clip(fit_frames(pixels[plan.indices], *size), plan.fps, plan.notes)


def _beginning(video: Any, most: int) -> tuple[np.ndarray, float | None, float | None]:
    """Enough pictures (F, H, W, 3) for ``most`` frames at any rate, their rate as of `read_video`, and the
    length in seconds of a video that there is more of."""
    # Others hold all their frames already.
    if isinstance(video, InputImpl.VideoFromFile):
        duration = video.get_duration()
        seconds = most * max((1 + RATE_TOLERANCE) / min(FPS), 1 / float(video.get_frame_rate())) + 1
        if duration > seconds:
            pixels, rate = read_video(video.as_trimmed(0, seconds, strict_duration=False))
            # Fewer where time stamps are uneven or do not begin at 0: then all are needed.
            if len(pixels) >= (seconds - 1) * rate:
                return pixels, rate, duration
    return *read_video(video), None


NODES: list[type[Any]] = [AetherReconstruct, AetherPredict, AetherPlan]
