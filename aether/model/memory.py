"""A model that fits a small device, and what one needs.

Weights in float8, blocks that wait in the host's memory, a VAE that works in tiles: all are diffusers' own.
HERO runs on top of them. Blocks that a cached step of HERO leaves out are not brought to the device either,
except on CUDA the first of them, which is fetched while the one before it runs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..errors import InputError
from ..memory_errors import is_out_of_memory

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

FLOAT8 = torch.float8_e4m3fn

_BUFFER = 2**30
"""Bytes of a pinned buffer at most, but for a larger weight; a power of two (see :func:`_pin_together`)."""

_ALIGNMENT = 256
"""Weights begin at multiples of so many bytes, as CUDA's own allocations do."""

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

    On CUDA the next one comes while one runs, from pinned memory.

    Raises:
        ImportError: accelerate is not installed.
        InputError: field "offload"; the host has too little memory to pin the blocks in.
    """
    from diffusers.utils import is_accelerate_available

    # Without it diffusers takes the blocks, and fails in the first step.
    if not is_accelerate_available():
        raise ImportError("offloading needs `pip install accelerate`")
    if device.type == "cuda":
        _pin_together(list(transformer.transformer_blocks.parameters()))
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def _pin_together(weights: list[torch.nn.Parameter]) -> None:
    """Move weights into few pinned buffers; values stay.

    diffusers pins each weight that is not pinned yet, and torch rounds each pinned buffer up to a power of
    two: one by one the 11.1 GB of Aether's blocks would take 19.7 GB of the host's memory; so they take 11.3.

    Raises:
        InputError: field "offload"; the host has too little memory.
    """
    for together in _filling(weights):
        room = [_room(weight) for weight in together]
        try:
            buffer = _pinned(sum(room))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            needed = bytes_text(sum(map(_room, weights)))
            raise InputError(
                "offload",
                f"pinning the blocks needs {needed} of the computer's memory, more than it gives; "
                "close other programs, keep the weights in float8, or leave offloading off",
            ) from error
        for weight, piece in zip(together, buffer.split(room), strict=True):
            place = piece[: weight.nbytes].view(weight.dtype).view(weight.shape)
            weight.data = place.copy_(weight.data)


def _filling(weights: list[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """The weights in their order, as many at a time as a buffer holds."""
    together, taken = [], 0
    for weight in weights:
        if together and taken + _room(weight) > _BUFFER:
            yield together
            together, taken = [], 0
        together.append(weight)
        taken += _room(weight)
    if together:
        yield together


def _room(weight: torch.Tensor) -> int:
    """Bytes from its beginning to the next weight's."""
    return -(-weight.nbytes // _ALIGNMENT) * _ALIGNMENT


def _pinned(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.uint8, pin_memory=True)


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
        vae: of :func:`aether.model.loading.load_vae` (see :mod:`aether.model.lean_vae`).
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


class RunBytes(NamedTuple):
    """Bytes of the device that a run takes: the weights on it, a step with what is cached, decoding, and at
    most in all."""

    weights: int
    step: int
    decoding: int
    whole: int


def run_bytes(
    transformer: CogVideoXTransformer3DModel,
    vae: AutoencoderKLCogVideoX,
    step: int,
    height: int,
    width: int,
    *,
    offload: bool = False,
) -> RunBytes:
    """What a run takes of the device, about.

    Args:
        transformer, vae: as they are kept; their weights may be on the meta device.
        step: bytes of a step (:func:`step_bytes`) and of what is cached between steps.
        height, width: of the clip in pixels.
        offload: whether the blocks wait on the host.
    """
    on_device = resting = weight_bytes(transformer)
    if offload:
        first, _, *others = transformer.transformer_blocks
        # One that runs and one that comes. What comes in a cached step, and is left out, stays until it runs.
        on_device -= weight_bytes(*others)
        resting = weight_bytes(first)
    decoding = decoding_bytes(vae, height, width)
    whole = weight_bytes(vae) + max(on_device + step, resting + decoding)
    return RunBytes(on_device + weight_bytes(vae), step, decoding, whole)


def bytes_text(count: int) -> str:
    """Bytes as people read them, in GB or MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
