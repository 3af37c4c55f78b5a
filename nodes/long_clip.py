"""Aether Long Clip: a clip of any length, reconstructed in windows and put back together."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..aether.defaults import TASKS
from ..aether.errors import InputError
from ..aether.generation.latents import Decoded
from ..aether.generation.sampling import Callback
from ..aether.geometry.cameras import FOUND, Cameras
from ..aether.geometry.depth import disparity_to_depth
from ..aether.long.executor import Outcome, Progress, Serial
from ..aether.long.reader import LongClip, array_clip, open_clip
from ..aether.long.reconstruct import TASK, LongResult, reconstruct_windows
from ..aether.long.store import WindowStore
from ..aether.run import job
from ..aether.spec import FRAMES
from . import outputs
from .bridge.hero_reports import box_of
from .bridge.messages import show_text
from .bridge.wiring import waiting
from .conditioning import check_size, encode, made, read_video, renamed, size_of, spec_of, whole_file
from .depth import decode_disparity
from .inputs import AUTO, NOISE_SEED, SCHEDULER, VAE, seed_input, size_inputs, video_input, video_rate_input
from .latents import DISPARITY, RAYMAP, RGB, streams_of, whole
from .lenses import lens_inputs, with_known_lens
from .sampler import sample_latent
from .streams import unpacked
from .types import CameraPath, CamerasValue, Raymap, gray_image

_FOLDER = "aether_windows"
_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


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
                io.Model.Input(
                    "model", tooltip="From HERO Patch, or from the loader. HERO starts anew in every window."
                ),
                VAE,
                video_input("A video straight from a file is read window by window, which saves memory."),
                *size_inputs(" With tiles on, this is one tile."),
                io.Combo.Input(
                    "frames",
                    options=[AUTO, *map(str, FRAMES)],
                    default=AUTO,
                    tooltip="Length of a window in frames. auto is the model's own length, or what a "
                    "shorter clip fills.",
                ),
                io.Int.Input(
                    "stride",
                    default=0,
                    min=0,
                    max=FRAMES[-1] - 1,
                    tooltip="Frames from one window to the next. Smaller is steadier and slower. 0 is the "
                    "authors' choice: 24 of 41, the same share of shorter windows.",
                ),
                video_rate_input(),
                seed_input(NOISE_SEED + " All windows use the same.", control=io.ControlAfterGenerate.fixed),
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
                io.Image.Output("images", display_name="images", tooltip="The clip as Aether reproduces it."),
                outputs.DEPTH,
                outputs.DISPARITY,
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="Position, direction and lens of every frame, all in one world. For Aether Save "
                    "Cameras.",
                ),
                Raymap.Output(
                    "raymap",
                    display_name="raymap",
                    tooltip="The same cameras as rays. For Aether Cameras, which draws them.",
                ),
                outputs.FRAME_RATE,
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
        signature = {"clip": clip.identity(), "model": _token(model), "vae": _token(vae), **settings}
        store = WindowStore(Path(folder_paths.get_temp_directory()) / _FOLDER, signature)
        with renamed("out", "temp"):
            result = reconstruct_windows(
                clip,
                _WindowRun(model, vae, settings),
                store,
                settings["steps"],
                executor=Serial(),
                callback=_Show(cls.hidden.unique_id, model),
            )
        show_text(cls.hidden.unique_id, _summary(result))
        cameras = replace(result.merge.cameras, lens=FOUND)
        outputs = _outputs(result, with_known_lens(cameras, fov, lens))
        store.remove()
        return io.NodeOutput(*outputs)


def _open(video: Any, fps: int | None, **settings: Any) -> LongClip:
    """A VIDEO that is a whole file is read window by window; of others all frames are at hand already."""
    path = whole_file(video)
    if path is not None:
        return open_clip(path, fps, **settings)
    pixels, rate = read_video(video)
    return array_clip(pixels, rate, fps, **settings)


def _token(socket: Any) -> str:
    """Names a MODEL or VAE with all that is patched onto it, for as long as it lives.

    ComfyUI hands out the same object as long as nothing before it has changed.
    """
    return _tokens.setdefault(socket, uuid4().hex)


class _WindowRun:
    """What Aether Reconstruct, Aether Sampler and Aether Split do, for one window."""

    def __init__(self, model: Any, vae: Any, settings: dict[str, Any]):
        self._model, self._vae, self._settings = model, vae, settings

    def __call__(self, inputs: job.Inputs, callback: Callback) -> Outcome:
        start = time.perf_counter()
        size = inputs.height, inputs.width
        conditioning = encode(
            self._vae, TASK, inputs.pictures, None, inputs.frames, size, inputs.fps, self._settings["seed"]
        )
        latent = sample_latent(self._model, *conditioning.args, **self._settings, callback=callback)
        parts = streams_of(whole(latent))
        decoded = Decoded(
            self._vae.decode(parts[RGB].contiguous())[0].float().cpu().numpy(),
            decode_disparity(self._vae, parts[DISPARITY].contiguous()),
            unpacked(parts[RAYMAP]).numpy(),
        )
        box = box_of(self._model)
        report = {
            "settings": {**self._settings, "fps": inputs.fps},
            "seconds": {"window": time.perf_counter() - start},
            "hero": box and box.find(latent["samples"]).to_dict(),
        }
        return decoded, report


class _Show:
    """Progress over all windows, with core's preview; ends the run when ComfyUI is asked to."""

    def __init__(self, node_id: str | None, model: Any):
        self._node_id, self._model, self._show = node_id, model, None

    def __call__(self, progress: Progress) -> None:
        import comfy.model_management
        import latent_preview

        comfy.model_management.throw_exception_if_processing_interrupted()
        if progress.step is None:
            resumed = f", {progress.resumed} done before" if progress.resumed else ""
            show_text(self._node_id, f"window {progress.window + 1} of {progress.windows}{resumed}")
            return
        self._show = self._show or latent_preview.prepare_callback(self._model, progress.total)
        predicted, latent = (x.transpose(1, 2) for x in (progress.step.predicted, progress.step.latent))
        self._show(progress.done - 1, predicted, latent, progress.total)


def _summary(result: LongResult) -> str:
    clip = result.clip
    parts = f"{len(clip.starts)} windows of {clip.length}"
    if clip.tiles:
        parts += f", each in {len(clip.tiles)} tiles"
    return "\n".join([f"{made(len(clip), clip.size, clip.fps)}: {parts}", *result.report["notes"]])


def _outputs(result: LongResult, cameras: Cameras) -> tuple[Any, ...]:
    images = torch.empty(result.rgb.shape, dtype=torch.float32)
    for target, frame in zip(images, result.rgb, strict=True):
        target[:] = torch.from_numpy(frame)
    disparity = np.stack(list(result.disparity))
    fps = result.clip.fps
    return (
        images.div_(255),
        gray_image(disparity_to_depth(disparity)),
        gray_image(disparity),
        {"cameras": cameras, "fps": fps},
        {"raymap": torch.from_numpy(np.stack(list(result.raymap))), "fps": fps},
        float(fps),
        json.dumps(result.report, indent=1),
    )


NODES: list[type[Any]] = [AetherLongClip]
