"""The container of glTF 2 in one file: JSON and a binary part, of which accessors name the arrays."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from .errors import InputError

GENERATOR = "ComfyUI-Aether-HERO"
COMPONENTS = {"f4": 5126, "u4": 5125, "u2": 5123}
"""NumPy's name of a number to glTF's."""
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


class Binary:
    """The binary part, as it is filled."""

    def __init__(self) -> None:
        self._accessors: list[dict[str, Any]] = []
        self._views: list[dict[str, Any]] = []
        self._data = bytearray()

    def add(self, values: np.ndarray, kind: str, *, normalized: bool = False) -> int:
        """An array; gives its accessor's number.

        Args:
            values: (N, width of the kind), float32, uint32 or uint16.
            kind: "SCALAR", "VEC2", "VEC3" or "VEC4".
            normalized: whole numbers stand for 0 to 1.
        """
        accessor = {
            "bufferView": self.add_bytes(values.astype(values.dtype.newbyteorder("<")).tobytes()),
            "componentType": COMPONENTS[values.dtype.str[1:]],
            "count": len(values),
            "type": kind,
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
        }
        self._accessors.append(accessor | ({"normalized": True} if normalized else {}))
        return len(self._accessors) - 1

    def add_bytes(self, data: bytes) -> int:
        """Bytes as they are; gives their buffer view's number."""
        self._views.append({"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)})
        self._data += data + bytes(-len(data) % 4)
        return len(self._views) - 1

    def pack(self, document: dict[str, Any]) -> bytes:
        """The whole file: a document with this binary part, and a scene of its nodes."""
        document = {
            "asset": {"version": "2.0", "generator": GENERATOR},
            "scene": 0,
            "scenes": [{"nodes": list(range(len(document["nodes"])))}],
            **document,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._data)}],
        }
        text = json.dumps(document, allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), _JSON_CHUNK) + text
        chunks += struct.pack("<II", len(self._data), _BIN_CHUNK) + self._data
        return struct.pack("<III", _MAGIC, 2, 12 + len(chunks)) + chunks


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The document and the binary part of a file.

    Raises:
        InputError: not a GLB of glTF 2.
        ValueError, struct.error: a broken file.
    """
    magic, version, _ = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2:
        raise InputError("file", "it is no GLB of glTF 2")
    length, _ = struct.unpack_from("<II", data, 12)
    document = json.loads(data[20 : 20 + length])
    size, _ = struct.unpack_from("<II", data, 20 + length)
    return document, data[28 + length : 28 + length + size]


def read_floats(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    """(N, width) float32 of an accessor.

    Raises:
        InputError: something other than plain floats.
    """
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    columns = _WIDTHS[accessor["type"]]
    plain = view.get("byteStride", 4 * columns) == 4 * columns
    if accessor["componentType"] != COMPONENTS["f4"] or not plain:
        raise InputError("file", "its animation is packed in a way that is not read; export plain floats")
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(binary, "<f4", columns * accessor["count"], start).reshape(-1, columns)
