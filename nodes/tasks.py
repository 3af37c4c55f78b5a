"""Aether Reconstruct, Predict and Plan: pictures to conditioning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, io

from ..aether.clips.clip import Clip, read_clip
from ..aether.clips.frame_plan import RATE_TOLERANCE
from ..aether.clips.picked import Picked, plan_picked
from ..aether.clips.pictures import fit_frames
from ..aether.defaults import BASE_FPS, FPS
from ..aether.errors import InputError
from ..aether.spec import FRAMES
from .bridge.messages import show_text
from .bridge.wiring import waiting
from .conditioning import (
    Camera,
    check_size,
    encode,
    made,
    read_colors,
    read_video,
    renamed,
    size_of,
    spec_of,
    whole_file,
)
from .inputs import AUTO, MOST_FRAMES, RATES, VAE, seed_input, size_inputs, video_input, video_rate_input
from .types import CameraPath, Raymap

_FRAMES = [str(number) for number in FRAMES]

_CAMERA = io.MultiType.Input(
    "camera",
    [Raymap, CameraPath],
    optional=True,
    tooltip="Optional: how the camera should move. Without it, Aether decides. Cameras of any length and "
    "size fit; a raymap must match the clip.",
)
_OUTPUTS = [
    io.Conditioning.Output(
        "positive", display_name="positive", tooltip="What the sampler should follow. Goes to positive."
    ),
    io.Conditioning.Output(
        "negative",
        display_name="negative",
        tooltip="The same without the pictures, for guidance. Goes to negative.",
    ),
    io.Latent.Output(
        "latent",
        display_name="latent",
        tooltip="An empty latent of the right length and size. Goes to the sampler.",
    ),
]


_IMAGINED_LENGTH = io.Combo.Input(
    "frames",
    options=_FRAMES[::-1],
    default=_FRAMES[-1],
    tooltip="Length of the clip in frames. Aether is at its best at 41, the Miniature at 17.",
)
_IMAGINED_RATE = io.Combo.Input(
    "fps",
    options=RATES,
    default=str(BASE_FPS),
    tooltip=f"Frames per second. auto is {BASE_FPS}, or the rate of the camera path.",
)
_VAE_SEED = seed_input(
    "Seed of the slight randomness in the VAE's encoding. You hardly ever need to change it.", advanced=True
)
_FIRST_FRAME = "The first frame. Of several pictures, the first is used."


class AetherReconstruct(io.ComfyNode):
    """A clip as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherReconstruct",
            display_name="Aether Reconstruct",
            category="Aether",
            description="Video in, geometry out: finds the depth and the camera motion of a clip that you "
            "already have.",
            search_aliases=[
                "video depth",
                "video to depth",
                "depth from video",
                "camera from video",
                "video to camera",
                "4d reconstruction",
                "camera pose",
                "camera tracking",
                "aether reconstruction",
            ],
            inputs=[
                VAE,
                video_input("Frames are picked to fit frames and fps."),
                _CAMERA,
                *size_inputs(),
                io.Combo.Input(
                    "frames",
                    options=[AUTO, *_FRAMES],
                    default=AUTO,
                    tooltip="Length of the clip in frames. auto takes as many as the video has, up to the "
                    "model's own length.",
                ),
                video_rate_input(),
                _VAE_SEED,
                io.Int.Input(
                    "start_frame",
                    optional=True,
                    default=0,
                    min=0,
                    max=MOST_FRAMES,
                    advanced=True,
                    tooltip="Frame of the video that the clip begins with, counted from 0.",
                ),
                io.Int.Input(
                    "every_nth",
                    optional=True,
                    default=1,
                    min=1,
                    max=1000,
                    advanced=True,
                    tooltip="Takes only every nth frame of the video, for slow shots: 2 covers twice the "
                    "time. fps is then the rate that these frames count as.",
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
        start_frame: int = 0,
        every_nth: int = 1,
    ) -> io.NodeOutput:
        size = size_of(vae, width, height)
        picked = Picked(start_frame, every_nth)
        wanted = None if frames == AUTO else int(frames)
        if wanted is None and camera is not None and "raymap" in camera:
            wanted = len(camera["raymap"])
        asked = None if fps == AUTO else int(fps)
        clip = _read(video, asked, wanted, spec_of(vae).default_frames, size, picked)
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
            description="One picture in, a moving shot out: imagines what happens next, with depth and "
            "camera.",
            search_aliases=["image to video", "i2v", "world model", "camera control", "aether prediction"],
            inputs=[
                VAE,
                io.Image.Input("image", tooltip=_FIRST_FRAME),
                _CAMERA,
                *size_inputs(),
                _IMAGINED_LENGTH,
                _IMAGINED_RATE,
                _VAE_SEED,
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
            description="Two pictures in, the way between them out: imagines the shot that leads from the "
            "first to the second.",
            search_aliases=["first last frame", "flf2v", "in-between", "goal", "visual planning"],
            inputs=[
                VAE,
                io.Image.Input("start", tooltip=_FIRST_FRAME),
                io.Image.Input("goal", tooltip="The last frame. Of several pictures, the first is used."),
                _CAMERA,
                *size_inputs(),
                _IMAGINED_LENGTH,
                _IMAGINED_RATE,
                _VAE_SEED,
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
    return BASE_FPS if camera is None else camera["fps"]


def _read(
    video: Any, fps: int | None, frames: int | None, most: int, size: tuple[int, int], picked: Picked
) -> Clip:
    """The clip's frames in its size, its rate, and what was dropped, repeated, retimed or cropped.

    Args:
        fps, frames: None for what suits the video.
        most: bound of that number of frames.
    """
    path = whole_file(video)
    if path is not None:
        return read_clip(path, fps, frames=frames, max_frames=most, size=size, picked=picked)
    pixels, source_fps, duration = _beginning(video, picked.start + picked.every * (frames or most))
    if not len(pixels):
        raise InputError("video", "has no frames; give a clip, and let a trim window begin before its end")
    if len(pixels) == 1:
        raise InputError("video", "has a single frame; give a clip, or use Aether Predict for one picture")
    if source_fps is None:
        # IMAGEs have no rate of their own: they are taken one by one.
        source_fps = fps = fps or BASE_FPS
    times = np.arange(len(pixels)) / source_fps
    plan = plan_picked(times, picked, fps, frames=frames, max_frames=most, duration=duration)
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
