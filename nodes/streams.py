"""Aether Split: one latent to its three streams."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..aether.geometry.raymap import TEMPORAL_SCALE, unpack
from .bridge.messages import show_notes
from .bridge.wiring import refuse_other_streams, waiting
from .inputs import AUTO, rate_input
from .latents import DISPARITY, RAYMAP, RGB, STREAM_KEY, rate, streams_of, whole
from .types import FPS_KEY, Raymap


class AetherSplit(io.ComfyNode):
    """RGB, disparity and raymap of a sampled latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSplit",
            display_name="Aether Split",
            category="Aether",
            description="Splits the sampler's latent into color, depth and camera, which are sampled "
            "together.",
            search_aliases=["aether output", "split latent", "depth latent", "raymap", "unpack"],
            inputs=[
                io.Latent.Input("latent", lazy=True, tooltip="From a sampler that ran an Aether model."),
                rate_input(),
            ],
            outputs=[
                io.Latent.Output(
                    RGB,
                    display_name=RGB,
                    tooltip="The color video, still as a latent. Goes to Aether Video or VAE Decode.",
                ),
                io.Latent.Output(
                    DISPARITY,
                    display_name=DISPARITY,
                    tooltip="Depth, still as a latent. Goes to Aether Depth.",
                ),
                Raymap.Output(
                    RAYMAP,
                    display_name=RAYMAP,
                    tooltip="The camera as a map of rays. Goes to Aether Cameras, or to camera of a task "
                    "node.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, latent: Any = None, **widgets: Any) -> list[str]:
        refuse_other_streams(cls.hidden, "latent")
        return waiting({"latent": latent})

    @classmethod
    def execute(cls, latent: dict[str, Any], fps: str = AUTO) -> io.NodeOutput:
        parts = streams_of(whole(latent))
        found, notes = rate(latent, fps)
        show_notes(cls.hidden.unique_id, notes)
        rgb, disparity = (
            {"samples": parts[name].contiguous(), FPS_KEY: found, STREAM_KEY: name}
            for name in (RGB, DISPARITY)
        )
        return io.NodeOutput(rgb, disparity, {"raymap": unpacked(parts[RAYMAP]), "fps": found})


def unpacked(packed: torch.Tensor) -> torch.Tensor:
    """The raymap (F, 6, h, w) of a latent's last channels (1, 24, T, h, w)."""
    frames = (packed.shape[2] - 1) * TEMPORAL_SCALE + 1
    return unpack(packed[0].transpose(0, 1).float().cpu(), frames).contiguous()


NODES: list[type[Any]] = [AetherSplit]
