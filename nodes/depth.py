"""Aether Depth: disparity latent to pictures and to numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.geometry import disparity_to_depth

NORMALIZE = ["sequence", "none"]
COLORMAPS = ["gray", "Spectral", "viridis", "magma", "turbo"]
_PERCENTILES = (2.0, 98.0)


class AetherDepth(io.ComfyNode):
    """Depth to look at, and depth to work with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherDepth",
            display_name="Aether Depth",
            category="Aether/geometry",
            description="Decodes the disparity of Aether Split: a picture, and float depth and disparity.",
            search_aliases=["depth map", "video depth", "disparity", "depth video", "z depth"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of Aether Loader or Aether Miniature."),
                io.Latent.Input("disparity", tooltip="The disparity of Aether Split."),
                io.Combo.Input(
                    "normalize",
                    options=NORMALIZE,
                    default="sequence",
                    tooltip="For the picture only. sequence: one scale for the whole clip, from its far to "
                    "its near end, so that it does not flicker. none: the disparity as it is.",
                ),
                io.Combo.Input(
                    "colormap",
                    options=COLORMAPS,
                    default="gray",
                    tooltip="For the picture only. gray: near is white. Spectral: near is red, far is blue.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="Disparity to look at, 0 to 1."),
                io.Image.Output(
                    "depth",
                    display_name="depth",
                    tooltip="Depth as floats, 1 to 1000 in units of the nearest depth, in three equal "
                    "channels. Save it as EXR.",
                ),
                io.Image.Output(
                    "disparity",
                    display_name="disparity",
                    tooltip="1 / depth as floats, 0 (far) to about 1 (the nearest), in three equal channels.",
                ),
            ],
        )

    @classmethod
    def execute(cls, vae: Any, disparity: dict[str, Any], normalize: str, colormap: str) -> io.NodeOutput:
        values = decode_disparity(vae, disparity["samples"])
        depth = disparity_to_depth(values)
        return io.NodeOutput(draw(values, normalize, colormap), _image(depth), _image(values))


def decode_disparity(vae: Any, samples: torch.Tensor) -> np.ndarray:
    """(1, 16, T, h, w) to (F, H, W) float32. The picture decoded holds the root of the disparity.

    Raises:
        InputError: another kind of VAE or latent.
    """
    from .comfy_vae import condition_model, decode_raw

    channels = condition_model(vae).latent_channels
    if samples.ndim != 5 or samples.shape[:2] != (1, channels):
        raise InputError(
            "disparity",
            f"has shape {tuple(samples.shape)}, not (1, {channels}, time, h, w): connect the disparity of "
            "Aether Split",
        )
    root = decode_raw(vae, samples)[0].mean(dim=0) * 0.5 + 0.5
    return root.square().numpy()


def draw(disparity: np.ndarray, normalize: str, colormap: str) -> torch.Tensor:
    """Disparity (F, H, W) as an IMAGE, near bright (gray) or warm."""
    low, high = 0.0, 1.0
    if normalize == "sequence":
        # A few stray pixels shall not decide the scale; a sample of the pixels is plenty for it.
        sample = disparity.reshape(-1)[:: max(1, disparity.size // 1_000_000)]
        low, high = np.percentile(sample, _PERCENTILES)
    shares = np.clip((disparity - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    if colormap == "gray":
        return _image(shares)
    from matplotlib import colormaps

    table = colormaps["Spectral_r" if colormap == "Spectral" else colormap](np.linspace(0, 1, 1024))[:, :3]
    return torch.from_numpy(table.astype(np.float32)[(shares * 1023 + 0.5).astype(np.int64)])


def _image(values: np.ndarray) -> torch.Tensor:
    """(F, H, W) in three equal channels."""
    return torch.from_numpy(values)[..., None].repeat(1, 1, 1, 3)


NODES: list[type[Any]] = [AetherDepth]
