"""Aether Post-Reconstruct: depth and cameras of a generated clip, found once more from its colors."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from .bridge.messages import show_notes
from .bridge.wiring import refuse_other_streams, waiting
from .conditioning import encode
from .inputs import AUTO, NOISE_SEED, SCHEDULER, VAE, rate_input, seed_input
from .latents import RGB, rate, streams_of, whole
from .sampler import sample_latent


class AetherPostReconstruct(io.ComfyNode):
    """A predicted or planned clip, reconstructed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherPostReconstruct",
            display_name="Aether Post-Reconstruct",
            category="Aether",
            description="Finds depth and cameras of a predicted or planned clip once more from its finished "
            "colors, as the authors do for better geometry. The video stays as it is.",
            search_aliases=["post reconstruction", "refine depth", "better geometry", "refine cameras"],
            inputs=[
                io.Model.Input("model", tooltip="The model of the sampler, or the loader's."),
                VAE,
                io.Latent.Input(
                    "latent", lazy=True, tooltip="From Aether Sampler, after Aether Predict or Plan."
                ),
                seed_input(NOISE_SEED, control=io.ControlAfterGenerate.fixed),
                io.Int.Input("steps", default=0, min=0, max=1000, tooltip="0 is 4, the authors' choice."),
                SCHEDULER,
                rate_input(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The same video with new depth and cameras. Goes to Aether Split.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, vae: Any = None, latent: Any = None, **others: Any) -> list[str]:
        refuse_other_streams(cls.hidden, "latent")
        return waiting({"vae": vae, "latent": latent})

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        latent: dict[str, Any],
        seed: int,
        steps: int,
        scheduler: str,
        fps: str = AUTO,
    ) -> io.NodeOutput:
        rgb = streams_of(whole(latent))[RGB].contiguous()
        speed, notes = rate(latent, fps)
        show_notes(cls.hidden.unique_id, notes)
        images = vae.decode(rgb)[0].float().cpu().numpy()
        frames, *size = images.shape[:3]
        conditioning = encode(
            vae, "reconstruction", {"video": images}, None, frames, tuple(size), speed, seed
        )
        again = sample_latent(model, *conditioning.args, seed, steps, scheduler=scheduler)
        channels = rgb.shape[1]
        samples = torch.cat([latent["samples"][:, :channels], again["samples"][:, channels:]], dim=1)
        return io.NodeOutput({**again, "samples": samples})


NODES: list[type[Any]] = [AetherPostReconstruct]
