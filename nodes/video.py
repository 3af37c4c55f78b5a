"""Aether Video: the RGB latent to pictures and to a video at its rate."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..aether.errors import InputError
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
                io.Vae.Input("vae", tooltip="The VAE of Aether Loader or Aether Miniature."),
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
        from .comfy_vae import condition_model

        channels = condition_model(vae).latent_channels
        samples = rgb["samples"]
        if samples.ndim != 5 or samples.shape[:2] != (1, channels):
            raise InputError(
                "rgb",
                f"has shape {tuple(samples.shape)}, not (1, {channels}, time, h, w): connect the rgb of "
                "Aether Split",
            )
        images = vae.decode(samples)[0]
        return io.NodeOutput(images, make_video(images, latent_fps(rgb)))


NODES: list[type[Any]] = [AetherVideo]
