"""What the nodes that work in windows share: a run per window, progress over all, and the joined outputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..aether.generation.latents import Decoded
from ..aether.generation.sampling import Callback
from ..aether.geometry.cameras import Cameras
from ..aether.geometry.depth import disparity_to_depth
from ..aether.long.executor import Outcome, Progress
from ..aether.long.joined import JoinedWindows
from ..aether.run import job
from ..aether.spec import FRAMES
from . import outputs
from .bridge.hero_reports import box_of
from .bridge.messages import show_text
from .conditioning import encode
from .depth import decode_disparity
from .inputs import AUTO, NOISE_SEED, seed_input
from .latents import DISPARITY, RAYMAP, RGB, streams_of, whole
from .sampler import sample_latent
from .streams import unpacked
from .types import CameraPath, Raymap, RaymapValue, gray_image

_FOLDER = "aether_windows"
_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

MODEL = io.Model.Input(
    "model", tooltip="From HERO Patch, or from the loader. HERO starts anew in every window."
)
SEED = seed_input(NOISE_SEED + " All windows use the same.", control=io.ControlAfterGenerate.fixed)
JOINED_OUTPUTS: list[io.Output] = [
    io.Image.Output("images", display_name="images", tooltip="The clip as Aether reproduces it."),
    outputs.DEPTH,
    outputs.DISPARITY,
    CameraPath.Output(
        "cameras",
        display_name="cameras",
        tooltip="Position, direction and lens of every frame, all in one world. For Aether Save Cameras.",
    ),
    Raymap.Output(
        "raymap",
        display_name="raymap",
        tooltip="The same cameras as rays. For Aether Cameras, which draws them.",
    ),
    outputs.FRAME_RATE,
]


def window_input(what: str) -> io.Input:
    """The length of a window. what: is cut into windows."""
    return io.Combo.Input(
        "frames",
        options=[AUTO, *map(str, FRAMES)],
        default=AUTO,
        tooltip=f"Length of a window in frames. auto is the model's own length, or what a shorter {what} "
        "fills.",
    )


def joined_outputs(joined: JoinedWindows, cameras: Cameras, fps: int) -> tuple[Any, ...]:
    """Values of :data:`JOINED_OUTPUTS`."""
    images = torch.empty(joined.rgb.shape, dtype=torch.float32)
    for target, frame in zip(images, joined.rgb, strict=True):
        target[:] = torch.from_numpy(frame)
    disparity = np.stack(list(joined.disparity))
    return (
        images.div_(255),
        gray_image(disparity_to_depth(disparity)),
        gray_image(disparity),
        {"cameras": cameras, "fps": fps},
        {"raymap": torch.from_numpy(np.stack(list(joined.raymap))), "fps": fps},
        float(fps),
    )


def window_folder() -> Path:
    """Where finished windows are kept: in ComfyUI's temp folder, which it empties when it starts."""
    return Path(folder_paths.get_temp_directory()) / _FOLDER


def token(socket: Any) -> str:
    """Names a MODEL or VAE with all that is patched onto it, for as long as it lives.

    ComfyUI hands out the same object as long as nothing before it has changed.
    """
    return _tokens.setdefault(socket, uuid4().hex)


class WindowRun:
    """What a task node, Aether Sampler and Aether Split do, for one window.

    Args:
        settings: for Aether Sampler, the seed among them.
    """

    def __init__(self, model: Any, vae: Any, settings: dict[str, Any]):
        self._model, self._vae, self._settings = model, vae, settings

    def __call__(self, inputs: job.Inputs, callback: Callback) -> Outcome:
        start = time.perf_counter()
        size = inputs.height, inputs.width
        camera: RaymapValue | None = None
        if inputs.raymap is not None:
            camera = {"raymap": torch.from_numpy(inputs.raymap), "fps": inputs.fps}
        conditioning = encode(
            self._vae,
            inputs.task,
            inputs.pictures,
            camera,
            inputs.frames,
            size,
            inputs.fps,
            self._settings["seed"],
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
            "task": inputs.task,
            "settings": {**self._settings, "fps": inputs.fps},
            "seconds": {"window": time.perf_counter() - start},
            "hero": box and box.find(latent["samples"]).to_dict(),
        }
        return decoded, report


class Show:
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
