"""Aether Cameras: raymap to poses, a drawing and JSON."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..aether.contact import draw_path
from ..aether.export import cameras_json
from ..aether.raymap import to_cameras
from .types import CameraPath, Raymap, RaymapValue, color_image

_PICTURE = (480, 640)


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
                    tooltip="The path from above, one picture per frame with that frame's camera marked.",
                ),
                io.String.Output(
                    "json", display_name="json", tooltip="The same as JSON text, its conventions spelled out."
                ),
            ],
        )

    @classmethod
    def execute(cls, raymap: RaymapValue) -> io.NodeOutput:
        cameras = to_cameras(raymap["raymap"], square_pixels=True)
        path = color_image(draw_path(cameras, frame, *_PICTURE[::-1]) for frame in range(len(cameras)))
        fps = raymap["fps"]
        return io.NodeOutput({"cameras": cameras, "fps": fps}, path, cameras_json(cameras, fps))


NODES: list[type[Any]] = [AetherCameras]
