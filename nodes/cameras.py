"""Aether Cameras: raymap to poses, a drawing and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.utils
from comfy_api.latest import io

from ..aether.contact import draw_path
from ..aether.export import cameras_json
from ..aether.geometry import Cameras
from ..aether.raymap import to_cameras
from .types import CameraPath, Raymap, RaymapValue, color_image

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
            description="Reads a camera per frame off the raymap of Aether Split: pose and field of view.",
            search_aliases=["camera path", "camera pose", "trajectory", "intrinsics", "raymap to camera"],
            inputs=[Raymap.Input("raymap", tooltip="The raymap of Aether Split.")],
            outputs=[
                CameraPath.Output(
                    "cameras",
                    display_name="cameras",
                    tooltip="Pose (camera to world, OpenCV axes) and intrinsics of every frame.",
                ),
                io.Image.Output(
                    "path",
                    display_name="path",
                    tooltip="The path from above, one picture per frame with that frame's camera marked. "
                    f"Smaller than 640 x 480 for more than {_FULL_SIZE_FRAMES} frames.",
                ),
                io.String.Output(
                    "json", display_name="json", tooltip="The same as JSON text, its conventions spelled out."
                ),
            ],
        )

    @classmethod
    def execute(cls, raymap: RaymapValue) -> io.NodeOutput:
        cameras = to_cameras(raymap["raymap"], square_pixels=True)
        path = color_image(_drawn(cameras), len(cameras))
        fps = raymap["fps"]
        return io.NodeOutput({"cameras": cameras, "fps": fps}, path, cameras_json(cameras, fps))


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
