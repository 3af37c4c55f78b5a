"""Aether Video: the RGB latent to pictures and to a video at its rate."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .bridge.messages import show_notes
from .bridge.wiring import refuse_other_streams, waiting
from .conditioning import spec_of
from .inputs import AUTO, VAE, rate_input
from .latents import RGB, rate, stream
from .types import make_video


class AetherVideo(io.ComfyNode):
    """The clip to look at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherVideo",
            display_name="Aether Video",
            category="Aether",
            description="Decodes the color video of a result, at its own frame rate.",
            search_aliases=["vae decode", "decode video", "rgb video", "create video", "frame rate"],
            inputs=[
                VAE,
                io.Latent.Input(
                    RGB, lazy=True, tooltip="The rgb of Aether Split, or the latent of the sampler."
                ),
                rate_input(),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", tooltip="The frames, as VAE Decode would give them."
                ),
                io.Video.Output(
                    "video",
                    display_name="video",
                    tooltip="The frames as a video at the clip's rate. For Save Video.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, vae: Any = None, rgb: Any = None, **widgets: Any) -> list[str]:
        refuse_other_streams(cls.hidden, RGB, RGB)
        return waiting({"vae": vae, RGB: rgb})

    @classmethod
    async def execute(cls, vae: Any, rgb: dict[str, Any], fps: str = AUTO) -> io.NodeOutput:
        spec_of(vae)
        samples, notes = stream(rgb, RGB)
        speed, more = rate(rgb, fps)
        images = vae.decode(samples)[0]
        show_notes(cls.hidden.unique_id, notes + more)
        return io.NodeOutput(images, make_video(images, speed))


NODES: list[type[Any]] = [AetherVideo]
