"""Aether Long Clip: a clip of any length, reconstructed in windows and put back together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..aether.defaults import TASKS
from ..aether.errors import InputError
from ..aether.geometry.cameras import FOUND
from ..aether.long.executor import Serial
from ..aether.long.reader import LongClip, array_clip, open_clip
from ..aether.long.reconstruct import TASK, LongResult, reconstruct_windows
from ..aether.long.store import WindowStore
from ..aether.spec import FRAMES
from .bridge.messages import show_text
from .bridge.wiring import waiting
from .conditioning import check_size, made, read_video, renamed, size_of, spec_of, whole_file
from .inputs import AUTO, SCHEDULER, VAE, size_inputs, video_input, video_rate_input
from .lenses import lens_inputs, with_known_lens
from .types import CamerasValue
from .windows import (
    JOINED_OUTPUTS,
    MODEL,
    SEED,
    Show,
    WindowRun,
    joined_outputs,
    token,
    window_folder,
    window_input,
)


class AetherLongClip(io.ComfyNode):
    """A long clip in windows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherLongClip",
            display_name="Aether Long Clip",
            category="Aether",
            description="Finds depth and cameras of a video of any length. The video is reconstructed in "
            "overlapping windows, which are joined into one world. A run that was stopped continues from "
            "its finished windows.",
            search_aliases=[
                "long video",
                "sliding window",
                "video depth",
                "video to depth",
                "depth from video",
                "4d reconstruction",
                "tiles",
            ],
            inputs=[
                MODEL,
                VAE,
                video_input("A video straight from a file is read window by window, which saves memory."),
                *size_inputs(" With tiles on, this is one tile."),
                window_input("clip"),
                io.Int.Input(
                    "stride",
                    default=0,
                    min=0,
                    max=FRAMES[-1] - 1,
                    tooltip="Frames from one window to the next. Smaller is steadier and slower. 0 is the "
                    "authors' choice: 24 of 41, the same share of shorter windows.",
                ),
                video_rate_input(),
                SEED,
                io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Steps for each window. 0 is 4."),
                SCHEDULER,
                io.Boolean.Input(
                    "tiles",
                    default=False,
                    tooltip="Keeps all of a wide or tall picture: it is cut into overlapping tiles of width "
                    "x height, and each is a run of its own. Off: what does not fit is cropped.",
                ),
                *lens_inputs(),
            ],
            outputs=[
                *JOINED_OUTPUTS,
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How the windows were joined, as JSON text: scales, spreads and times.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(
        cls, width: int, height: int, frames: str, stride: int, vae: Any = None, **others: Any
    ) -> list[str]:
        check_size(width, height)
        if frames != AUTO and stride >= int(frames):
            raise InputError(
                "stride", f"{stride} leaves no overlap between windows of {frames} frames; give less, or 0"
            )
        return waiting({"vae": vae})

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        video: Any,
        width: int,
        height: int,
        frames: str,
        stride: int,
        fps: str,
        seed: int,
        steps: int,
        scheduler: str,
        tiles: bool,
        fov: float = 0.0,
        lens: CamerasValue | None = None,
    ) -> io.NodeOutput:
        clip = _open(
            video,
            None if fps == AUTO else int(fps),
            size=size_of(vae, width, height),
            tiled=tiles,
            length=None if frames == AUTO else int(frames),
            stride=stride or None,
            max_length=spec_of(vae).default_frames,
        )
        settings = {"seed": seed, "steps": steps or TASKS[TASK].default_steps, "scheduler": scheduler}
        signature = {"clip": clip.identity(), "model": token(model), "vae": token(vae), **settings}
        store = WindowStore(window_folder(), signature)
        with renamed("out", "temp"):
            result = reconstruct_windows(
                clip,
                WindowRun(model, vae, settings),
                store,
                settings["steps"],
                executor=Serial(),
                callback=Show(cls.hidden.unique_id, model),
            )
        show_text(cls.hidden.unique_id, _summary(result))
        cameras = with_known_lens(replace(result.merge.cameras, lens=FOUND), fov, lens)
        outputs = joined_outputs(result, cameras, result.clip.fps)
        store.remove()
        return io.NodeOutput(*outputs, json.dumps(result.report, indent=1))


def _open(video: Any, fps: int | None, **settings: Any) -> LongClip:
    """A VIDEO that is a whole file is read window by window; of others all frames are at hand already."""
    path = whole_file(video)
    if path is not None:
        return open_clip(path, fps, **settings)
    pixels, rate = read_video(video)
    return array_clip(pixels, rate, fps, **settings)


def _summary(result: LongResult) -> str:
    clip = result.clip
    parts = f"{len(clip.starts)} windows of {clip.length}"
    if clip.tiles:
        parts += f", each in {len(clip.tiles)} tiles"
    return "\n".join([f"{made(len(clip), clip.size, clip.fps)}: {parts}", *result.report["notes"]])


NODES: list[type[Any]] = [AetherLongClip]
