"""Aether Split: one latent to its three streams."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.raymap import SPATIAL_SCALE, TEMPORAL_SCALE, unpack
from .types import FPS_KEY, Raymap, latent_fps

_PICTURE = 16
_RAYMAP = 24
_CHANNELS = 2 * _PICTURE + _RAYMAP


class AetherSplit(io.ComfyNode):
    """RGB, disparity and raymap of a sampled latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSplit",
            display_name="Aether Split",
            category="Aether",
            description="Takes Aether's latent apart: video, depth and cameras are sampled together.",
            search_aliases=["aether output", "split latent", "depth latent", "raymap", "unpack"],
            inputs=[io.Latent.Input("latent", tooltip="What a sampler made with an Aether MODEL.")],
            outputs=[
                io.Latent.Output("rgb", display_name="rgb", tooltip="The video. For core VAE Decode."),
                io.Latent.Output(
                    "disparity", display_name="disparity", tooltip="The depth. For Aether Depth."
                ),
                Raymap.Output(
                    "raymap",
                    display_name="raymap",
                    tooltip="The cameras. For Aether Cameras, or as camera of a task node.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any]) -> io.NodeOutput:
        samples = check_latent(latent["samples"])
        fps = latent_fps(latent)
        rgb, disparity, packed = samples.split((_PICTURE, _PICTURE, _RAYMAP), dim=1)
        frames = (samples.shape[2] - 1) * TEMPORAL_SCALE + 1
        raymap = unpack(packed[0].transpose(0, 1).float().cpu(), frames).contiguous()
        beside = {FPS_KEY: fps}
        return io.NodeOutput(
            {"samples": rgb.contiguous()} | beside,
            {"samples": disparity.contiguous()} | beside,
            {"raymap": raymap, "fps": fps},
        )


def check_latent(samples: torch.Tensor, field: str = "latent") -> torch.Tensor:
    """A sampled unified latent (1, 56, T, h, w).

    Raises:
        InputError: something else, or values that are not finite.
    """
    if samples.ndim != 5 or samples.shape[1] != _CHANNELS:
        raise InputError(
            field,
            f"has shape {tuple(samples.shape)}; an Aether latent is (1, {_CHANNELS}, time, height / "
            f"{SPATIAL_SCALE}, width / {SPATIAL_SCALE}): connect a sampler that runs an Aether MODEL",
        )
    if samples.shape[0] != 1:
        raise InputError(field, f"holds {samples.shape[0]} clips; take one with Latent From Batch")
    if not torch.isfinite(samples).all():
        raise InputError(
            field,
            "holds NaN or infinite values: sampling went out of range. Choose bf16 or fp32 as the loader's "
            "dtype; fp16 is too narrow",
        )
    return samples


def check_stream(vae: Any, samples: torch.Tensor, name: str) -> None:
    """
    Raises:
        InputError: not Aether Split's output ``name`` (1, 16, T, h, w), or another kind of VAE.
    """
    from .comfy_vae import condition_model

    channels = condition_model(vae).latent_channels
    if samples.ndim != 5 or samples.shape[:2] != (1, channels):
        raise InputError(
            name,
            f"has shape {tuple(samples.shape)}, not (1, {channels}, time, h, w): connect the {name} of "
            "Aether Split",
        )


NODES: list[type[Any]] = [AetherSplit]
