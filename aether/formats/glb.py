"""glTF 2: a file, JSON and buffers in one (.glb) or apart (.gltf), and the arrays that its accessors name."""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

GENERATOR = "ComfyUI-Aether-HERO"
COMPONENTS = {"f4": 5126, "u4": 5125, "u2": 5123}
"""NumPy's name of a number to glTF's."""
_DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DATA_URI = re.compile(r"data:[^,]*;base64,")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_AS_GLB = "export as GLB, which has all in one file"
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


@dataclass
class Gltf:
    """A file that was opened.

    Attributes:
        document: its JSON.
        binary: the binary part of a GLB, else nothing.
        folder: where the buffers of a .gltf lie.
    """

    document: dict[str, Any]
    binary: bytes = b""
    folder: Path | None = None
    _buffers: dict[int, bytes] = field(default_factory=dict)

    def floats(self, number: int) -> np.ndarray:
        """(N, width) float64 of an accessor: whole numbers that stand for -1 or 0 to 1 as such; sparse and
        interleaved ones too.

        Raises:
            InputError: an array that its buffer does not hold, one that is compressed, matrices.
        """
        accessor = self.document["accessors"][number]
        if accessor["type"] not in _WIDTHS:
            raise InputError("file", f"an animation of {accessor['type']} is not read")
        width, dtype = _WIDTHS[accessor["type"]], np.dtype(_DTYPES[accessor["componentType"]])
        values = self._dense(accessor, width, dtype)
        if "sparse" in accessor:
            self._put_sparse(values, accessor["sparse"], dtype)
        if not accessor.get("normalized") or dtype.kind == "f":
            return values.astype(np.float64)
        return np.maximum(values / np.iinfo(dtype).max, -1.0)

    def _dense(self, accessor: dict[str, Any], width: int, dtype: np.dtype) -> np.ndarray:
        count = accessor["count"]
        if "bufferView" in accessor:
            start = accessor.get("byteOffset", 0)
            return self._view(accessor["bufferView"], start, (count, width), dtype).copy()
        largest = max((len(self._buffer(n)) for n in range(len(self.document.get("buffers", ())))), default=0)
        if not 0 <= count <= largest:  # every key has a time of 4 bytes there
            raise InputError(
                "file", f"an animation says that it has {count} keys, more than the file can hold"
            )
        return np.zeros((count, width), dtype)

    def _put_sparse(self, values: np.ndarray, sparse: dict[str, Any], dtype: np.dtype) -> None:
        where, what = sparse["indices"], sparse["values"]
        kind = np.dtype(_DTYPES[where["componentType"]])
        count = sparse["count"]
        indices = self._view(where["bufferView"], where.get("byteOffset", 0), (count, 1), kind)[:, 0]
        shape = count, values.shape[1]
        values[indices] = self._view(what["bufferView"], what.get("byteOffset", 0), shape, dtype)

    def _view(self, number: int, offset: int, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
        view = self.document["bufferViews"][number]
        packed = [name for name in view.get("extensions", ()) if "meshopt" in name]
        if packed:
            raise InputError(
                "file", f"its animation is compressed ({packed[0]}); export it without compression"
            )
        row = shape[1] * dtype.itemsize
        stride = view.get("byteStride", row)
        if stride < row or shape[0] < 1 or min(offset, view.get("byteOffset", 0)) < 0:
            raise InputError("file", "its animation is laid out in a way that glTF does not allow")
        start, buffer = view.get("byteOffset", 0) + offset, self._buffer(view["buffer"])
        # NumPy would not check against an empty buffer.
        if start + stride * (shape[0] - 1) + row > len(buffer):
            raise InputError("file", "its animation is longer than the buffer that holds it; export it again")
        return np.ndarray(shape, dtype, buffer, start, (stride, dtype.itemsize))

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            self._buffers[number] = self._load(number)
        return self._buffers[number]

    def _load(self, number: int) -> bytes:
        buffers = self.document.get("buffers", ())
        uri = buffers[number].get("uri") if number < len(buffers) else None
        if uri is None:
            return self.binary if number == 0 else b""
        inline = _DATA_URI.match(uri)
        if inline:
            return base64.b64decode(uri[inline.end() :], validate=True)
        name = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), uri.encode()).decode()
        if self.folder is None or not re.fullmatch(r"[\w .()+-]+", name) or name.startswith("."):
            raise InputError("file", f"its buffer {uri[:60]} does not lie beside it; {_AS_GLB}")
        if not (self.folder / name).is_file():
            raise InputError("file", f"its buffer {name[:60]} is missing; {_AS_GLB}")
        return (self.folder / name).read_bytes()


def open_gltf(path: Path) -> Gltf:
    """A .glb or .gltf file.

    Raises:
        InputError: not glTF 2.
        ValueError, KeyError, TypeError, struct.error: a broken file.
    """
    if path.suffix.lower() != ".gltf":
        return unpack(path.read_bytes())
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    if not str(document["asset"]["version"]).startswith("2"):
        raise InputError("file", "it is no glTF 2")
    return Gltf(document, folder=path.parent)


def unpack(data: bytes) -> Gltf:
    """The content of a GLB. One without a binary part is well-formed: nothing in it moves.

    Raises:
        InputError: not a GLB of glTF 2.
        ValueError, struct.error: a broken file.
    """
    magic, version, _ = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2:
        raise InputError("file", "it is no GLB of glTF 2")
    length, _ = struct.unpack_from("<II", data, 12)
    document, binary, at = json.loads(data[20 : 20 + length]), b"", 20 + length
    if at + 8 <= len(data):
        size, kind = struct.unpack_from("<II", data, at)
        binary = data[at + 8 : at + 8 + size] if kind == _BIN_CHUNK else b""
    return Gltf(document, binary)
