"""The unified latent: clips into it, RGB, disparity and raymap out of it.

Channels of (B, T, 56, h, w): 0-15 RGB, 16-31 disparity, 32-55 packed raymap.
Source: ``prepare_latents`` and the end of ``__call__`` in the reference pipeline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from ..errors import InputError
from ..geometry import raymap as raymaps
from ..geometry.depth import picture_to_disparity
from ..memory_errors import unless_out_of_memory
from ..model.memory import decoding_bytes, encoding_bytes, exceeds, in_small_tiles
from ..model.parts import AetherModel, Encoder
from ..spec import AetherSpec

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Streams(NamedTuple):
    """Views of the three streams of a unified latent, each (B, T, channels, h, w)."""

    rgb: torch.Tensor
    disparity: torch.Tensor
    raymap: torch.Tensor


@dataclass(frozen=True)
class Decoded:
    """What a run shows, all numpy float32.

    rgb: (F, H, W, 3) in [0, 1].
    disparity: (F, H, W), 0 (far) to about 1 (the nearest of the clip); not clipped.
    raymap: (F, 6, h, w), Aether's encoding (see ``aether.geometry.raymap``).
    """

    rgb: np.ndarray
    disparity: np.ndarray
    raymap: np.ndarray


def split(spec: AetherSpec, latent: torch.Tensor) -> Streams:
    """The streams of a unified latent (B, T, 56, h, w), as views.

    Raises:
        InputError: wrong shape or dtype.
    """
    if not isinstance(latent, torch.Tensor) or not latent.is_floating_point():
        raise InputError("latent", "must be a floating-point tensor, as sample() returns it")
    if latent.ndim != 5 or latent.shape[2] != spec.out_channels:
        raise InputError(
            "latent", f"has shape {tuple(latent.shape)}; it must be (batch, time, {spec.out_channels}, h, w)"
        )
    return Streams(*latent.split(spec.stream_channels, dim=2))


@torch.no_grad()
def encode(
    model: AetherModel | Encoder, clip: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Condition latent (1, T, 16, h, w) of a clip (F, H, W, 3) in [0, 1]: a sample of the VAE's posterior.

    Divided by the scaling factor where the VAE's ``invert_scale_latents`` is set: so the CogVideoX model that
    Aether was tuned from got its conditions, while its targets were multiplied.

    Where memory is short it is encoded in tiles, as in :func:`decode_pixels`.
    """
    frames_first = (2.0 * clip - 1.0).permute(0, 3, 1, 2).contiguous()[None]
    pixels = frames_first.permute(0, 2, 1, 3, 4).to(model.vae.device, model.vae.dtype)
    needed = encoding_bytes(model.vae, *pixels.shape[3:])
    posterior = _tiled_at_need(model.vae, needed, lambda vae: vae.encode(pixels).latent_dist, "encoding")
    latent = posterior.sample(generator).to(model.device, model.dtype).permute(0, 2, 1, 3, 4)
    scale = model.spec.scaling_factor
    return (1 / scale if model.spec.divides_conditions else scale) * latent


@torch.no_grad()
def decode_pixels(model: AetherModel, latent: torch.Tensor) -> torch.Tensor:
    """VAE decoding of one stream (B, T, 16, h, w) to (B, 3, F, H, W) in about [-1, 1].

    Where the device has less memory than that takes, or it runs out, it is decoded in tiles of half the VAE's
    own size, which a warning says: results change slightly, but the steps before are not lost.
    """
    vae, spec = model.vae, model.spec
    scaled = (1 / spec.scaling_factor * latent.permute(0, 2, 1, 3, 4)).to(vae.device, vae.dtype)
    needed = decoding_bytes(vae, *(spec.spatial_scale * side for side in scaled.shape[3:]))
    return _tiled_at_need(vae, needed, lambda vae: vae.decode(scaled).sample, "decoding")


def _tiled_at_need(vae: Any, needed: int, work: Callable[[Any], Result], doing: str) -> Result:
    """What the VAE, or the VAE in small tiles, gives."""
    # Windows would not refuse what exceeds the device, but swap it to the host, at a crawl.
    if not exceeds(vae.device, needed):
        # What a failed try holds is freed only after this clause.
        with unless_out_of_memory():
            return work(vae)
    log.warning("not enough memory: %s tile by tile", doing)
    return work(in_small_tiles(vae))


def decode_rgb(model: AetherModel, latent: torch.Tensor) -> np.ndarray:
    """RGB stream (1, T, 16, h, w) to (F, H, W, 3) float32 in [0, 1]."""
    pixels = (decode_pixels(model, latent)[0] * 0.5 + 0.5).clamp(0, 1)
    return pixels.permute(1, 2, 3, 0).float().cpu().numpy()


def decode_disparity(model: AetherModel, latent: torch.Tensor) -> np.ndarray:
    """Disparity stream (1, T, 16, h, w) to (F, H, W) float32."""
    return picture_to_disparity(decode_pixels(model, latent)[0]).float().cpu().numpy()


def decode_raymap(model: AetherModel, latent: torch.Tensor) -> np.ndarray:
    """Raymap stream (1, T, 24, h, w) to (F, 6, h, w) float32, the padding in front dropped."""
    return raymaps.unpack(latent[0].float().cpu().numpy(), model.spec.video_frames(latent.shape[1]))


def decode(model: AetherModel, latent: torch.Tensor) -> Decoded:
    """All three streams of a unified latent (1, T, 56, h, w).

    Raises:
        InputError: wrong shape, more than one clip, or values that are not finite.
    """
    streams = split(model.spec, latent)
    if latent.shape[0] != 1:
        raise InputError("latent", f"holds {latent.shape[0]} clips; decode them one by one")
    if not torch.isfinite(latent).all():
        raise InputError(
            "latent",
            "holds NaN or infinite values: sampling went out of range. float16 is too narrow for this model; "
            "use bfloat16 or float32",
        )
    return Decoded(
        rgb=decode_rgb(model, streams.rgb),
        disparity=decode_disparity(model, streams.disparity),
        raymap=decode_raymap(model, streams.raymap),
    )
