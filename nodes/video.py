"""Aether Video: the RGB latent to pictures and to a video at its rate."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .inputs import VAE
from .streams import check_stream
from .types import latent_fps, make_video


class AetherVideo(io.ComfyNode):
    """The clip to look at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherVideo",
            display_name="Aether Video",
            category="Aether",
            description="Decodes the rgb of Aether Split: pictures, and a video at the clip's own rate.",
            search_aliases=["vae decode", "decode video", "rgb video", "create video", "frame rate"],
            inputs=[
                VAE,
                io.Latent.Input("rgb", tooltip="The rgb of Aether Split."),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", tooltip="The frames, as VAE Decode gives them."
                ),
                io.Video.Output(
                    "video", display_name="video", tooltip="The frames as a video. For Save Video."
                ),
            ],
        )

    @classmethod
    def execute(cls, vae: Any, rgb: dict[str, Any]) -> io.NodeOutput:
        check_stream(vae, rgb["samples"], "rgb")
        images = vae.decode(rgb["samples"])[0]
        return io.NodeOutput(images, make_video(images, latent_fps(rgb)))


NODES: list[type[Any]] = [AetherVideo]
