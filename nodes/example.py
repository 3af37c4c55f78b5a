"""Aether Example Clip: a clip of the synthetic world, so that every template runs with nothing to load."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..aether.defaults import BASE_FPS


class AetherExample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherExample",
            display_name="Aether Example Clip",
            category="Aether",
            description="Renders a small moving world of boxes and balls with exact depth: something to try "
            "Aether on when you have no clip at hand.",
            search_aliases=["example video", "test clip", "synthetic scene", "sample clip"],
            inputs=[
                io.Int.Input(
                    "scene", default=8, min=0, max=2**31 - 1, tooltip="Each number gives another world."
                ),
                io.Combo.Input(
                    "frames",
                    options=["17", "25", "33", "41"],
                    tooltip=f"Length of the clip, at {BASE_FPS} frames per second.",
                ),
                io.Int.Input(
                    "width", default=192, min=32, max=1024, step=8, tooltip="Width of the clip in pixels."
                ),
                io.Int.Input(
                    "height", default=128, min=32, max=1024, step=8, tooltip="Height of the clip in pixels."
                ),
            ],
            outputs=[
                io.Image.Output(
                    "clip", display_name="clip", tooltip="All frames. Goes to Aether Reconstruct."
                ),
                io.Image.Output(
                    "first",
                    display_name="first frame",
                    tooltip="For Aether Predict, and for start of Aether Plan.",
                ),
                io.Image.Output("last", display_name="last frame", tooltip="For goal of Aether Plan."),
                io.Image.Output(
                    "depth",
                    display_name="true depth",
                    tooltip="The exact depth as a picture, near is bright. Compare it with what Aether "
                    "Depth finds.",
                ),
            ],
        )

    @classmethod
    def execute(cls, scene: int, frames: str, width: int, height: int) -> io.NodeOutput:
        from ..aether.miniature.raycast import render
        from ..aether.miniature.world import random_scene

        world = render(random_scene(scene), int(frames), height, width, samples=2)
        clip = torch.from_numpy(world.rgb)
        near = 1 / torch.from_numpy(world.depth)
        near = (near - near.min()) / (near.max() - near.min()).clamp_min(1e-6)
        return io.NodeOutput(clip, clip[:1], clip[-1:], near[..., None].expand(-1, -1, -1, 3).contiguous())


NODES = (AetherExample,)
