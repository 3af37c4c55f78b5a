"""Aether Cameras: raymap to poses, a drawing and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io

from ..aether.formats.contact import draw_path
from ..aether.formats.export import cameras_json
from ..aether.geometry.cameras import Cameras
from ..aether.geometry.raymap import to_cameras
from .bridge.messages import show_notes
from .bridge.wiring import refuse_other_streams, waiting
from .inputs import AUTO, rate_input
from .latents import RAYMAP, rate, stream
from .lenses import lens_inputs, with_known_lens
from .streams import unpacked
from .types import FPS_KEY, CameraPath, CamerasValue, Raymap, RaymapValue, color_image

_FULL_SIZE_FRAMES = 100
"""Up to so many pictures are 640 x 480, 0.4 GB; more are smaller and take as much in all, to 160 x 120."""


class AetherCameras(io.ComfyNode):
    """The camera path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherCameras",
            display_name="Aether Cameras",
            category="Aether/geometry",
            description="Reads the camera from the result: where it stood, where it looked and how wide, "
            "for every frame.",
            search_aliases=["camera path", "camera pose", "trajectory", "intrinsics", "raymap to camera"],
            inputs=[
                io.MultiType.Input(
                    RAYMAP,
                    [Raymap, io.Latent],
                    lazy=True,
                    tooltip="The raymap of Aether Split, or the latent of the sampler.",
                ),
                rate_input(),
                *lens_inputs(),
            ],
            outputs=[
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="Position, direction and lens of every frame, for nodes that use cameras.",
                ),
                io.Image.Output(
                    "path",
                    display_name="path",
                    tooltip="The path from above, one picture per frame with that frame's camera marked. "
                    f"Smaller than 640 x 480 for more than {_FULL_SIZE_FRAMES} frames.",
                ),
                io.String.Output(
                    "json",
                    display_name="json",
                    tooltip="The same as JSON text: 4 x 4 camera-to-world matrices (x right, y down, z "
                    "forward), and lenses in pixels.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, raymap: Any = None, **widgets: Any) -> list[str]:
        refuse_other_streams(cls.hidden, RAYMAP, RAYMAP)
        return waiting({RAYMAP: raymap})

    @classmethod
    async def execute(
        cls,
        raymap: RaymapValue | dict[str, Any],
        fps: str = AUTO,
        fov: float = 0.0,
        lens: CamerasValue | None = None,
    ) -> io.NodeOutput:
        values, notes = _raymap_of(raymap)
        speed, more = rate(raymap, fps, "fps" if "raymap" in raymap else FPS_KEY)
        cameras = with_known_lens(to_cameras(values, square_pixels=True), fov, lens)
        path = color_image(_drawn(cameras), len(cameras))
        show_notes(cls.hidden.unique_id, notes + more)
        return io.NodeOutput({"cameras": cameras, "fps": speed}, path, cameras_json(cameras, speed))


def _raymap_of(given: RaymapValue | dict[str, Any]) -> tuple[torch.Tensor, list[str]]:
    """The raymap (F, 6, h, w) of an AETHER_RAYMAP or a LATENT, and what was assumed."""
    if "raymap" in given:
        return given["raymap"], []
    packed, notes = stream(given, RAYMAP)
    return unpacked(packed), notes


def _drawn(cameras: Cameras) -> Iterator[Any]:
    """A picture per frame. Progress is where ComfyUI's Cancel comes in."""
    bar = comfy.utils.ProgressBar(len(cameras))
    size = _picture_size(len(cameras))
    for frame in range(len(cameras)):
        yield draw_path(cameras, frame, *size)
        bar.update(1)


def _picture_size(frames: int) -> tuple[int, int]:
    """(width, height), even as video needs it."""
    unit = max(5, int(20 * min(1, _FULL_SIZE_FRAMES / frames) ** 0.5))
    return 32 * unit, 24 * unit


NODES: list[type[Any]] = [AetherCameras]
