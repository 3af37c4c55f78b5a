"""Aether Depth: disparity latent to pictures, to numbers, and to a mask of where depth jumps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.formats.contact import color_limits
from ..aether.geometry.depth import depth_edges, disparity_to_depth, picture_to_disparity
from . import outputs
from .bridge.messages import show_notes
from .bridge.wiring import refuse_other_streams, waiting
from .inputs import AUTO, VAE, rate_input
from .latents import DISPARITY, rate, stream
from .types import gray_image, make_video

NORMALIZE = ["sequence", "none", "range"]
COLORMAPS = ["gray", "Spectral", "viridis", "magma", "turbo"]


class AetherDepth(io.ComfyNode):
    """Depth to look at, and depth to work with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherDepth",
            display_name="Aether Depth",
            category="Aether/geometry",
            description="Decodes depth: as a picture to look at, as numbers to work with, and a mask of its "
            "edges.",
            search_aliases=[
                "depth map",
                "video depth",
                "depth from video",
                "disparity",
                "depth video",
                "z depth",
                "depth edges",
            ],
            inputs=[
                VAE,
                io.Latent.Input(
                    DISPARITY,
                    lazy=True,
                    tooltip="The disparity of Aether Split, or the latent of the sampler.",
                ),
                io.Combo.Input(
                    "normalize",
                    options=NORMALIZE,
                    default="sequence",
                    tooltip="For the picture only. sequence: one scale for the whole clip, so that it does "
                    "not flicker. none: the disparity as it is. range: from far to near, which several "
                    "clips can share.",
                ),
                io.Combo.Input(
                    "colormap",
                    options=COLORMAPS,
                    default="gray",
                    tooltip="Colors of the picture. gray, for compositing: near is white. Spectral, for "
                    "viewing: near is red, far is blue.",
                ),
                io.Float.Input(
                    "near",
                    default=1.0,
                    min=0.001,
                    max=1000.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="For range: the depth at the near end of the picture's scale.",
                ),
                io.Float.Input(
                    "far",
                    default=20.0,
                    min=0.001,
                    max=1000.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="For range: the depth at the far end of the picture's scale.",
                ),
                io.Float.Input(
                    "edge",
                    default=0.2,
                    min=0.01,
                    max=10.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="For edges: how far depth must jump around a pixel, as a share of the pixel's "
                    "own depth. 0.2 is 20 %.",
                ),
                rate_input(advanced=True),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="The picture; near is bright in gray, warm in Spectral.",
                ),
                outputs.DEPTH,
                outputs.DISPARITY,
                io.Mask.Output(
                    "edges",
                    display_name="edges",
                    tooltip="Mask of the pixels where depth jumps. They belong to neither surface. For "
                    "Aether Save Depth.",
                ),
                io.Video.Output(
                    "video",
                    display_name="video",
                    tooltip="The picture as a video at the clip's rate. For Save Video.",
                ),
                outputs.FRAME_RATE,
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, vae: Any = None, disparity: Any = None, **widgets: Any) -> list[str]:
        refuse_other_streams(cls.hidden, DISPARITY, DISPARITY)
        return waiting({"vae": vae, DISPARITY: disparity})

    @classmethod
    async def execute(
        cls,
        vae: Any,
        disparity: dict[str, Any],
        normalize: str,
        colormap: str,
        near: float = 1.0,
        far: float = 20.0,
        edge: float = 0.2,
        fps: str = AUTO,
    ) -> io.NodeOutput:
        if normalize == "range" and not 0 < near < far < np.inf:
            raise InputError("far", f"the range from {near} to {far} is empty: give a far beyond near")
        if not 0 < edge < np.inf:
            raise InputError("edge", f"{edge} must be a positive number")
        samples, notes = stream(disparity, DISPARITY)
        speed, more = rate(disparity, fps)
        values = decode_disparity(vae, samples)
        depth = disparity_to_depth(values)
        picture = draw(values, normalize, colormap, near, far)
        edges = torch.from_numpy(depth_edges(depth, edge)).float()
        show_notes(cls.hidden.unique_id, notes + more)
        return io.NodeOutput(
            picture, gray_image(depth), gray_image(values), edges, make_video(picture, speed), float(speed)
        )


def decode_disparity(vae: Any, samples: torch.Tensor) -> np.ndarray:
    """(1, 16, T, h, w) to (F, H, W) float32.

    Raises:
        InputError: another kind of VAE, or NaN.
    """
    from .bridge.vae import decode_raw, spec_of

    spec_of(vae)
    disparity = picture_to_disparity(decode_raw(vae, samples)[0])
    if not torch.isfinite(disparity).all():
        raise InputError(
            "disparity",
            "decodes to NaN or infinite values: fp16 is too narrow for the VAE; start ComfyUI with "
            "--bf16-vae or --fp32-vae",
        )
    return disparity.numpy()


def draw(disparity: np.ndarray, normalize: str, colormap: str, near: float, far: float) -> torch.Tensor:
    """Disparity (F, H, W) as an IMAGE, near bright (gray) or warm.

    Args:
        near, far: the depths at the two ends, for normalize "range".
    """
    low, high = (1 / far, 1 / near) if normalize == "range" else (0.0, 1.0)
    if normalize == "sequence":
        low, high = color_limits(disparity)
    shares = np.clip((disparity - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    if colormap == "gray":
        return gray_image(shares)
    from matplotlib import colormaps

    table = colormaps["Spectral_r" if colormap == "Spectral" else colormap](np.linspace(0, 1, 1024))[:, :3]
    return torch.from_numpy(table.astype(np.float32)[(shares * 1023 + 0.5).astype(np.int64)])


NODES: list[type[Any]] = [AetherDepth]
