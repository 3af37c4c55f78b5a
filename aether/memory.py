"""A model that fits a small device, and what one needs.

Weights in float8, blocks that wait in the host's memory, a VAE that works in tiles: all are diffusers' own.
HERO runs on top of them. A block that a cached step of HERO does not run is not brought to the device either.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

FLOAT8 = torch.float8_e4m3fn

_FRAMES_AT_ONCE = 9
"""Of video, that the VAE works on together at most: two latent frames, three where their number is odd."""

_ENCODED, _DECODED = 6.94, 10.3
"""Values that encoding and decoding hold for each pixel of those frames and channel of the level at the
picture's size, at Aether's widths (`python -m benchmarks.memory`); of narrower VAEs less."""

_STEP = 12.9
"""Values that a block holds for each token and channel, the feed-forward's included (counted likewise)."""


def keep_in_float8(transformer: CogVideoXTransformer3DModel, dtype: torch.dtype) -> None:
    """Keep the large weights in float8_e4m3fn, and compute in ``dtype``; norms and the embedding stay as is.

    Weights are rounded to three bits of mantissa, for good.
    """
    transformer.enable_layerwise_casting(storage_dtype=FLOAT8, compute_dtype=dtype)


def offload_blocks(transformer: CogVideoXTransformer3DModel, device: torch.device) -> None:
    """Keep the blocks on the host, and bring one at a time to ``device`` to run; results are the same.

    On CUDA the next one comes while one runs.
    """
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def weight_bytes(*modules: torch.nn.Module) -> int:
    """Bytes of all weights, as they are kept."""
    return sum(weight.numel() * weight.element_size() for module in modules for weight in module.parameters())


def in_small_tiles(vae: AutoencoderKLCogVideoX) -> AutoencoderKLCogVideoX:
    """The same VAE, weights and all, in tiles of half its own size (240 x 360 pixels for Aether's)."""
    tiled = copy.copy(vae)
    enable_small_tiles(tiled)
    return tiled


def enable_small_tiles(vae: AutoencoderKLCogVideoX) -> None:
    """Let the VAE work in tiles of half its own size from now on."""
    own = vae.config
    vae.enable_tiling(own.sample_height // 2, own.sample_width // 2)


def encoding_bytes(vae: AutoencoderKLCogVideoX, height: int, width: int) -> int:
    """Bytes, about, that encoding a clip takes besides the weights; as :func:`decoding_bytes`."""
    return _vae_bytes(_ENCODED, vae, height, width)


def decoding_bytes(vae: AutoencoderKLCogVideoX, height: int, width: int) -> int:
    """Bytes, about, that decoding one stream of a clip takes besides the weights, in the VAE's dtype.

    Args:
        vae: of :func:`aether.loading.load_vae` (see :mod:`aether.lean_vae`).
        height, width: of the clip in pixels, which has nine frames or more.
    """
    return _vae_bytes(_DECODED, vae, height, width)


def _vae_bytes(values: float, vae: AutoencoderKLCogVideoX, height: int, width: int) -> int:
    if vae.use_tiling:
        height, width = min(height, vae.tile_sample_min_height), min(width, vae.tile_sample_min_width)
    pixels = _FRAMES_AT_ONCE * height * width
    return round(values * vae.config.block_out_channels[0] * pixels * vae.dtype.itemsize)


def exceeds(device: torch.device, count: int) -> bool:
    """Whether so many bytes are more than a GPU has, used or free; of other devices nothing is known."""
    return device.type == "cuda" and count > torch.cuda.get_device_properties(device).total_memory


def step_bytes(tokens: int, width: int, batch: int, element_bytes: int) -> int:
    """Bytes, about, that a full step takes besides the weights, with attention that keeps no scores.

    Args:
        tokens: of video and text.
        width: of a token.
        batch: 2 with guidance.
        element_bytes: of a value, 2 for bfloat16.
    """
    return round(_STEP * batch * tokens * width * element_bytes)


def bytes_text(count: int) -> str:
    """Bytes as people read them, in GB or MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
