"""Model files of any size that take no room: a header, and numbers that are a hole in the file."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAN_14B = {
    "head.modulation": (1, 2, 5120),
    "head.head.weight": (64, 5120),
    "patch_embedding.weight": (5120, 16, 1, 2, 2),
    **{f"blocks.{number}.ffn.0.weight": (13824, 5120) for number in range(40)},
}
"""The tensors by which core recognizes Wan 2.1's text-to-video."""


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
