"""Aether Camera Check: was the camera path followed?"""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io, ui

from ..aether.formats.path_picture import draw_frustums
from ..aether.geometry.path_check import check_path
from ..aether.geometry.raymap import to_cameras
from .bridge.messages import show_text
from .conditioning import Camera
from .types import CameraPath, CamerasValue, Raymap, color_image


class AetherCameraCheck(io.ComfyNode):
    """The asked path against the obtained one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherCameraCheck",
            display_name="Aether Camera Check",
            category="Aether/geometry",
            description="Compares the camera path that you asked for with the one in the result. Names the "
            "likely cause where it was not followed: scale, axes, world-to-camera poses, field of view or "
            "speed.",
            search_aliases=[
                "camera not followed",
                "ate",
                "trajectory error",
                "compare cameras",
                "camera path",
            ],
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "asked",
                    [CameraPath, Raymap],
                    tooltip="The path or raymap that also goes to camera of the task node.",
                ),
                CameraPath.Input("obtained", tooltip="From Aether Cameras, for the result."),
            ],
            outputs=[
                io.Image.Output(
                    "path",
                    display_name="path",
                    tooltip="Both paths: blue was asked for; green to orange came out.",
                ),
                io.Boolean.Output("followed", display_name="followed", tooltip="Whether it was followed."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Errors, scale, field of view and likely causes, as JSON text.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, asked: Camera, obtained: CamerasValue) -> io.NodeOutput:
        wanted = to_cameras(asked["raymap"]) if "raymap" in asked else asked["cameras"]
        found = obtained["cameras"]
        check = check_path(wanted, found)
        lines = [check.summary, *([check.warning] if check.warning else [])]
        show_text(cls.hidden.unique_id, "\n".join(lines))
        picture = color_image([draw_frustums(found, asked=wanted)])
        return io.NodeOutput(
            picture,
            check.followed,
            json.dumps(check.to_dict(), indent=1),
            ui=ui.PreviewImage(picture, cls=cls),
        )


NODES: list[type[Any]] = [AetherCameraCheck]
