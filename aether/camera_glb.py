"""A GLB (glTF 2 in one file) with one animated camera, which Blender, three.js and others play; and back.

glTF: y up, the camera looks along its -z. Times are in seconds, a key per frame, straight between them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .geometry import Cameras, finite_array, from_quaternions, to_gltf, to_quaternions

_FLOAT, _MAGIC, _JSON_CHUNK, _BIN_CHUNK = 5126, 0x46546C67, 0x4E4F534A, 0x004E4942
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class AnimatedCamera:
    """What was read.

    Attributes:
        poses: (F, 4, 4) camera to world, OpenCV axes.
        times: (F,) seconds.
        fov_y: full vertical angle of view in radians.
        aspect: width / height, where the file says it.
        ours: "width", "height", "fps" and "intrinsics" (F, 3, 3), where :func:`encode` wrote the file.
    """

    poses: np.ndarray
    times: np.ndarray
    fov_y: float
    aspect: float | None
    ours: dict[str, Any]


def encode(cameras: Cameras, fps: float) -> bytes:
    """One camera node with an animation of its place and turn; a key per frame.

    glTF has one angle of view per camera, so that other programs see the first frame's; every frame's
    intrinsics are kept in the camera's extras.
    """
    quaternions, positions = to_quaternions(to_gltf(cameras.poses))
    tracks = [(np.arange(len(cameras))[:, None] / fps, "SCALAR"), (positions, "VEC3"), (quaternions, "VEC4")]
    accessors, views, binary = [], [], b""
    for number, (values, kind) in enumerate(tracks):
        values = values.astype("<f4")
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
        accessor = {"bufferView": number, "componentType": _FLOAT, "count": len(values), "type": kind}
        accessors.append(accessor | {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()})
        binary += values.tobytes()
    samplers = [{"input": 0, "output": output, "interpolation": "LINEAR"} for output in (1, 2)]
    targets = [{"node": 0, "path": path} for path in ("translation", "rotation")]
    lens = {
        "yfov": float(cameras.fov_y[0]),
        "aspectRatio": float(np.tan(cameras.fov_x[0] / 2) / np.tan(cameras.fov_y[0] / 2)),
        "znear": 0.01,
        "zfar": 1000.0,
    }
    ours = {
        "width": cameras.width,
        "height": cameras.height,
        "fps": float(fps),
        "intrinsics": cameras.intrinsics.tolist(),
    }
    document = {
        "asset": {"version": "2.0", "generator": "ComfyUI-Aether-HERO"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {
                "name": "Aether Camera",
                "camera": 0,
                "translation": positions[0].tolist(),
                "rotation": quaternions[0].tolist(),
            }
        ],
        "cameras": [
            {"name": "Aether Camera", "type": "perspective", "perspective": lens, "extras": {"aether": ours}}
        ],
        "animations": [
            {
                "name": "Aether Camera",
                "samplers": samplers,
                "channels": [{"sampler": n, "target": target} for n, target in enumerate(targets)],
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON_CHUNK) + text
    chunks += struct.pack("<II", len(binary), _BIN_CHUNK) + binary
    return struct.pack("<III", _MAGIC, 2, 12 + len(chunks)) + chunks


def decode(data: bytes) -> AnimatedCamera:
    """The first camera of a GLB, with the first animation of it and of what it hangs on.

    Raises:
        InputError: no camera, no animation of it, an orthographic camera, a layout that is not read.
        ValueError, KeyError, IndexError, TypeError, struct.error: a broken file.
    """
    document, binary = _open_glb(data)
    nodes = document.get("nodes", [])
    number = next((n for n, node in enumerate(nodes) if "camera" in node), None)
    if number is None:
        raise InputError("file", "the GLB has no camera")
    parents = {child: n for n, node in enumerate(nodes) for child in node.get("children", ())}
    line = [number]
    while line[-1] in parents and len(line) <= len(nodes):
        line.append(parents[line[-1]])
    tracks = _tracks(document, binary)
    times = max((keys for (node, _), (keys, _) in tracks.items() if node in line), key=len, default=None)
    if times is None:
        raise InputError("file", "the GLB's camera does not move: there is no animation of it")
    world = np.eye(4)
    for node in reversed(line):
        world = world @ _local(nodes[node], node, tracks, times)
    world[:, :3, :3] /= np.linalg.norm(world[:, :3, :3], axis=1, keepdims=True)  # a scene's scale
    camera = document["cameras"][nodes[number]["camera"]]
    if camera.get("type") != "perspective":
        raise InputError("file", "the GLB's camera is orthographic; make it a perspective one")
    lens = camera["perspective"]
    if not 0 < lens["yfov"] < np.pi:
        raise InputError("yfov", f"{lens['yfov']:g} must be between 0 and pi")
    ours = camera.get("extras", {}).get("aether", {})
    return AnimatedCamera(to_gltf(world), times, lens["yfov"], lens.get("aspectRatio"), ours)


def _open_glb(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, _ = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2:
        raise InputError("file", "it is no GLB of glTF 2")
    length, _ = struct.unpack_from("<II", data, 12)
    document = json.loads(data[20 : 20 + length])
    size, _ = struct.unpack_from("<II", data, 20 + length)
    return document, data[28 + length : 28 + length + size]


def _tracks(document: dict[str, Any], binary: bytes) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """(node, "translation" | "rotation") to times and values, of the first animation of each."""
    tracks = {}
    for animation in document.get("animations", ()):
        for channel in animation["channels"]:
            target, sampler = channel["target"], animation["samplers"][channel["sampler"]]
            key = target.get("node"), target["path"]
            if key[1] in ("translation", "rotation") and key not in tracks:
                times, values = (_accessor(document, binary, sampler[end]) for end in ("input", "output"))
                if sampler.get("interpolation") == "CUBICSPLINE":
                    values = values[1::3]  # between an incoming and an outgoing tangent
                tracks[key] = times[:, 0], values
    return tracks


def _accessor(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    columns = _WIDTHS[accessor["type"]]
    if accessor["componentType"] != _FLOAT or view.get("byteStride", 4 * columns) != 4 * columns:
        raise InputError("file", "its animation is packed in a way that is not read; export plain floats")
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(binary, "<f4", columns * accessor["count"], start)
    return finite_array(values.reshape(-1, columns).astype(np.float64), "poses", (None, columns))


def _local(node: dict[str, Any], number: int, tracks: dict, times: np.ndarray) -> np.ndarray:
    """A node's matrix at each time."""
    from scipy.spatial.transform import Rotation, Slerp

    if "matrix" in node:
        return np.reshape(node["matrix"], (4, 4)).T
    still = np.array([0.0]), np.array([node.get("rotation", (0.0, 0, 0, 1))])
    keys, turns = tracks.get((number, "rotation"), still)
    if len(keys) == 1:
        quaternions = np.repeat(turns, len(times), axis=0)
    else:
        quaternions = Slerp(keys, Rotation.from_quat(turns))(np.clip(times, keys[0], keys[-1])).as_quat()
    still = np.array([0.0]), np.array([node.get("translation", (0.0, 0, 0))])
    keys, places = tracks.get((number, "translation"), still)
    positions = np.stack([np.interp(times, keys, places[:, axis]) for axis in range(3)], axis=1)
    matrices = from_quaternions(quaternions, positions)
    matrices[:, :3, :3] *= node.get("scale", (1.0, 1, 1))
    return matrices
