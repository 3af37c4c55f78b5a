"""Which ways of loading Aether fit a device, by the memory that is counted for a whole run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from ..model.loading import VAE_CONFIG
from ..model.memory import bytes_text, in_small_tiles, keep_in_float8, run_bytes, step_bytes
from ..spec import AETHER_V1
from .machine import Room
from .report import Line

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

BATCH = 2
"""With guidance, as predictions and plans have it."""
_DTYPE = torch.bfloat16
BYTES = _DTYPE.itemsize
"""Of a value."""
_MARGIN = 1.1
"""Libraries and the allocator take some memory that is not counted."""


class Shape(Protocol):
    """Aether's numbers that its :class:`AetherSpec` has not."""

    @property
    def blocks(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True)
class Way:
    """A way of loading the model.

    Attributes:
        name: the settings that choose it.
        float8, offload: how the transformer is kept.
        tiling: whether the VAE decodes in small tiles.
    """

    name: str
    float8: bool = False
    offload: bool = False
    tiling: bool = False


def fit_lines(room: Room, ways: tuple[Way, ...], shape: Shape, cached: int) -> list[Line]:
    """What a run needs each way, and whether the device has it; last, which way to choose.

    Args:
        room: of the device.
        ways: the best result first.
        shape: of a call of Aether's transformer on its longest clip.
        cached: bytes that HERO caches.
    """
    step = step_bytes(shape.tokens, shape.width, BATCH, BYTES) + cached
    transformers = {float8: _transformer(shape, float8) for float8 in {way.float8 for way in ways}}
    vae = _vae()

    def needed(way: Way) -> int:
        tiled = in_small_tiles(vae) if way.tiling else vae
        size = AETHER_V1.default_size
        return run_bytes(transformers[way.float8], tiled, step, *size, offload=way.offload).whole

    needs = {way: needed(way) for way in ways}
    lines = [Line(way.name, f"{bytes_text(need)}: {_verdict(need, room)}") for way, need in needs.items()]
    fitting = [way.name for way, need in needs.items() if need * _MARGIN <= room.free]
    advice = f"use {fitting[0]}" if fitting else "none fits: take fewer frames or a smaller size"
    return [*lines, Line("so", advice)]


def _verdict(need: int, room: Room) -> str:
    if need * _MARGIN <= room.free:
        return "fits"
    return "fits once other programs are closed" if need * _MARGIN <= room.total else "does not fit"


def _transformer(shape: Shape, float8: bool) -> CogVideoXTransformer3DModel:
    """Aether's, without weights."""
    from diffusers import CogVideoXTransformer3DModel

    with torch.device("meta"):
        transformer = CogVideoXTransformer3DModel(
            num_layers=shape.blocks,
            num_attention_heads=shape.width // AETHER_V1.head_dim,
            attention_head_dim=AETHER_V1.head_dim,
            in_channels=AETHER_V1.in_channels,
            out_channels=AETHER_V1.out_channels,
            text_embed_dim=AETHER_V1.text_width,
            use_rotary_positional_embeddings=AETHER_V1.rotary,
        )
    # diffusers' own `to` warns of float32 modules, of which there are none.
    torch.nn.Module.to(transformer, dtype=_DTYPE)
    if float8:
        keep_in_float8(transformer, _DTYPE)
    return transformer


def _vae() -> AutoencoderKLCogVideoX:
    """Its VAE, without weights."""
    from diffusers import AutoencoderKLCogVideoX

    height, width = AETHER_V1.default_size
    blocks = {f"{way}_block_types": (f"CogVideoX{way.title()}Block3D",) * 4 for way in ("down", "up")}
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(sample_height=height, sample_width=width, **blocks, **VAE_CONFIG)
    return torch.nn.Module.to(vae, dtype=_DTYPE)
