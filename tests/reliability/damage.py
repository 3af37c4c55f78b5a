"""Damaged versions of files. All that happens comes from the random generator given."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Damage = Callable[[bytes, Random], bytes]

FLOATS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 0.5, 1e-320, 1e39, 1e308)
NUMBERS = (*FLOATS, 1, 2**31, 2**53, 2**63, 2**64, 10**400)
OTHERS = (None, True, False, "", "x", "1", "NaN", [], {}, [[]], [None], {"x": 1}, [0] * 4, ["a"] * 4)
VALUES = (*OTHERS, *NUMBERS)
STRANGERS = (
    b"",
    b"\0" * 64,
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"PK\x03\x04" + b"\0" * 40,
    b"\xff\xfe\x00\xd8",
)


def any_file(data: bytes, rng: Random) -> bytes:
    """Cut off, bits and bytes changed, pieces left out, doubled or filled in, or another file altogether."""
    data = bytearray(data)
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, len(data) // 2))
    kind = rng.randrange(8)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        del data[at : at + length]
    elif kind == 2:
        data[at:at] = data[at : at + length]
    elif kind == 3:
        data[at:at] = rng.randbytes(min(length, 64))
    elif kind == 4:
        number = rng.choice((0, -1, 2**31 - 1, -(2**31), 2**40, 2**63 - 1))
        packed = struct.pack(rng.choice("<>") + "q", number)[: rng.choice((4, 8))]
        data[at : at + len(packed)] = packed
    elif kind == 5:
        packed = struct.pack(rng.choice(("<f", "<d")), rng.choice((math.nan, math.inf, 0.0, 1e-30, 1e38)))
        data[at : at + len(packed)] = packed
    elif kind == 6 and rng.random() < 0.3:
        return rng.choice(STRANGERS)
    else:
        for _ in range(rng.choice((1, 1, 3, 20))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


_TOKEN = re.compile(rb"[-+.\w]+")


def text_file(data: bytes, rng: Random) -> bytes:
    """A word or number replaced, a line left out, doubled or emptied."""
    if rng.random() < 0.3:
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at : at + 1] = rng.choice(([], [lines[at]] * 2, [b""], [lines[at] + b" 1"], [lines[at][:-5]]))
        return b"\n".join(lines)
    token = rng.choice(list(_TOKEN.finditer(data)))
    word = rng.choice((*NUMBERS, "", "x", "-", "1_0", "0x10", "١", "9" * 5000, "# "))
    return data[: token.start()] + str(word).encode() + data[token.end() :]


def json_file(data: bytes, rng: Random) -> bytes:
    """A value somewhere in it replaced, left out, wrapped, doubled or nested deeply."""
    document = [json.loads(data)]
    holder, key = rng.choice(list(_places(document)))
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = [holder[key]]
    elif kind == 2:
        holder[key] = {"x": holder[key]}
    elif kind == 3 and isinstance(holder[key], list):
        holder[key] = holder[key] * 2
    elif kind == 4 and rng.random() < 0.1:
        holder[key] = "deep"
        opened, closed = rng.choice((("[", "]"), ('{"x":', "}")))
        deep = opened * 100_000 + "1" + closed * 100_000
        return (json.dumps(document[0]) if document else "").replace('"deep"', deep).encode()
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(document[0]).encode() if document else b""


def jsonl_file(data: bytes, rng: Random) -> bytes:
    """A line of it damaged, as JSON or as text, left out, doubled, or two of them exchanged."""
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    line = lines[at].rstrip(b"\n")
    damage = rng.choice((json_file, text_file, lambda line, rng: b"", lambda line, rng: line + b"\n" + line))
    lines[at] = damage(line, rng) + b"\n"
    if rng.random() < 0.1:
        lines.reverse()
    return b"".join(lines)


def _places(value: Any):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


_HEADER = re.compile(rb"\{'descr'.*?\}[^\n]*\n")
_DTYPES = ("|O", "<U4", "|S3", "<c8", "<M8[s]", "|b1", "<f2", "<f8", ">i4", "|V8", "[('a', '<f4')]", "x")
_SHAPES = (
    "()",
    "(0,)",
    "(4,)",
    "(-1,)",
    "(2, 4, 4)",
    "(1073741824, 4, 4)",
    "(1,)*40",
    "(9999999999999999999,)",
)


def npy_file(data: bytes, rng: Random) -> bytes:
    """A header that says other things than the data, numbers that are none, or another array altogether."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    kind = rng.randrange(6)
    if kind == 0:
        return any_file(data, rng)
    if kind <= 2:
        old = _HEADER.search(data)
        shape = rng.choice(_SHAPES) if rng.random() < 0.6 else str(array.shape)
        dtype = repr(array.dtype.str) if rng.random() < 0.6 else rng.choice(_DTYPES)
        dtype = dtype if dtype[0] in "['" else repr(dtype)
        new = f"{{'descr': {dtype}, 'fortran_order': {rng.choice((True, False, 7))}, 'shape': {shape}, }}"
        new = new.encode().ljust(len(old[0]) - 1)[: len(old[0]) - 1] + b"\n"
        return data[: old.start()] + new + data[old.end() :]
    if kind == 3:
        array = array.astype(rng.choice(("f2", "f4", "f8", "i8", "u1", "c16", "U4", "?")))
    elif kind == 4:
        array = array.reshape(
            rng.choice(((-1,), (1, *array.shape), array.shape[::-1] or 1, (*array.shape, 1)))
        )
        array = array[: rng.randrange(len(array) + 1)]
    else:
        array = np.array(array, dtype=np.float64)
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice(FLOATS)
    return _npy(array)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def npz_file(data: bytes, rng: Random) -> bytes:
    """A member damaged, left out, renamed, packed in another way, or a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    kind = rng.randrange(8)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[rng.choice(("poses", "x.npy", "../poses.npy", name + ".npy"))] = members.pop(name)
    elif kind == 2 and rng.random() < 0.05:
        return _bomb(name)
    else:
        members[name] = npy_file(members[name], rng)
    stream = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return any_file(stream.getvalue(), rng) if rng.random() < 0.2 else stream.getvalue()


_BOMBS: dict[str, bytes] = {}


def _bomb(name: str) -> bytes:
    """A well-formed archive of 1 MB whose member unpacks to 1 GB of zeros."""
    if name not in _BOMBS:
        header = io.BytesIO()
        shape = (2**30 // 128, 4, 4)
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(header.getvalue())
                for _ in range(1024):
                    member.write(b"\0" * 2**20)
        _BOMBS[name] = stream.getvalue()
    return _BOMBS[name]


def safetensors_file(data: bytes, rng: Random) -> bytes:
    """A header that says other things than the data: shapes, dtypes, offsets, names."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.3:
        return (
            struct.pack("<Q", rng.choice((0, 1, length - 1, length + 8, 2**31, 2**63, 2**64 - 1))) + data[8:]
        )
    if rng.random() < 0.3:
        dtype = rng.choice((b"F64", b"F16", b"I8", b"U8", b"BOOL", b"F8_E4M3", b"X", b""))
        header = header.replace(b'"F32"', b'"' + dtype + b'"', rng.choice((1, -1)))
    else:
        header = json_file(header, rng)
    return struct.pack("<Q", len(header)) + header + rest


def glb_file(data: bytes, rng: Random) -> bytes:
    """The scene or the buffer in it damaged, the chunks' lengths right."""
    (length,) = struct.unpack_from("<I", data, 12)
    scene, buffer = data[20 : 20 + length], data[28 + length :]
    if rng.random() < 0.7:
        scene = json_file(scene, rng)
    else:
        buffer = any_file(buffer, rng)
    chunks = struct.pack("<II", len(scene), 0x4E4F534A) + scene
    chunks += struct.pack("<II", len(buffer), 0x004E4942) + buffer
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def png_file(data: bytes, rng: Random) -> bytes:
    """Sizes and kinds in the header that are not those of the data; check sums right."""
    fields = list(struct.unpack_from(">IIBBBBB", data, 16))
    at = rng.randrange(len(fields))
    fields[at] = rng.choice((0, 1, 7, 255, 2**12, 13_000, 2**16, 2**31 - 1)) % (2**31 if at < 2 else 256)
    header = b"IHDR" + struct.pack(">IIBBBBB", *fields)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def ts_file(data: bytes, rng: Random) -> bytes:
    """Packets of a transport stream left out, doubled, exchanged, or with other time stamps."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    at, other = rng.randrange(len(packets)), rng.randrange(len(packets))
    kind = rng.randrange(4)
    if kind == 0:
        del packets[at : at + rng.choice((1, 2, 16))]
    elif kind == 1:
        packets[at:at] = packets[other : other + rng.choice((1, 16))]
    elif kind == 2:
        packets[at], packets[other] = packets[other], packets[at]
    else:
        starts = [number for number, packet in enumerate(packets) if b"\0\0\1\xe0" in packet]
        at = rng.choice(starts)
        stamp = packets[at].index(b"\0\0\1\xe0") + 9
        packets[at] = packets[at][:stamp] + rng.randbytes(5) + packets[at][stamp + 5 :]
    return b"".join(packets)


SPECIAL: dict[str, Damage] = {
    ".json": json_file,
    ".jsonl": jsonl_file,
    ".txt": text_file,
    ".csv": text_file,
    ".gltf": json_file,
    ".npy": npy_file,
    ".npz": npz_file,
    ".safetensors": safetensors_file,
    ".glb": glb_file,
    ".png": png_file,
    ".ts": ts_file,
}


def damaged(name: str, data: bytes, rng: Random) -> bytes:
    """A damaged version of a file; half of them in ways that its format is weak to."""
    special = SPECIAL.get(name[name.rfind(".") :])
    return special(data, rng) if special and rng.random() < 0.6 else any_file(data, rng)
