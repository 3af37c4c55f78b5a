"""Model files of any size that take no room: a header, and numbers that are a hole in the file."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def _wan(
    width: int, feed_forward: int, blocks: int, channels: int, latent: int
) -> dict[str, tuple[int, ...]]:
    """The tensors by which core recognizes a Wan. channels: of its input; latent: of those, the latent's."""
    return {
        "head.modulation": (1, 2, width),
        "head.head.weight": (4 * latent, width),
        "patch_embedding.weight": (width, channels, 1, 2, 2),
        **{f"blocks.{number}.ffn.0.weight": (feed_forward, width) for number in range(blocks)},
    }


WAN_14B = _wan(5120, 13824, 40, 16, 16)
"""Wan 2.1's text-to-video."""
WAN_5B = _wan(3072, 14336, 30, 48, 48)
"""Wan 2.2's text- and image-to-video."""
WAN_CAMERA = _wan(1536, 8960, 30, 32, 16) | {
    "control_adapter.conv.weight": (1536, 1536, 2, 2),
    "img_emb.proj.0.bias": (1280,),
}
"""Wan 2.1's small Fun Camera."""


def save_header(path: Path, shapes: Mapping[str, tuple[int, ...]], kind: str = "BF16", size: int = 2) -> None:
    """A safetensors file with tensors of these names and shapes. kind, size: their dtype, and its bytes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
