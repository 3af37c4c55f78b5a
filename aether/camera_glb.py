"""A GLB (glTF 2 in one file) with one animated camera, which Blender, three.js and others play; and back.

glTF: y up, the camera looks along its -z. Times are in seconds, a key per frame, straight between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .geometry import Cameras, finite_array, from_quaternions, to_gltf, to_quaternions
from .glb import Binary, read_floats, unpack

_SAME_KEY = 1e-4  # seconds; exporters round the same moment differently from track to track


@dataclass(frozen=True)
class AnimatedCamera:
    """What was read.

    Attributes:
        times: (F,) rising seconds at which its place or its turn has a key.
        poses_at: times (N,) to poses (N, 4, 4), camera to world, OpenCV axes; before the first key and after
            the last it stands still.
        fov_y: full vertical angle of view in radians.
        aspect: width / height, where the file says it.
        ours: "width", "height", "fps" and "intrinsics" (F, 3, 3), where :func:`encode` wrote the file.
    """

    times: np.ndarray
    poses_at: Callable[[np.ndarray], np.ndarray]
    fov_y: float
    aspect: float | None
    ours: dict[str, Any]


def encode(cameras: Cameras, fps: float) -> bytes:
    """One camera node with an animation of its place and turn; a key per frame.

    glTF has one angle of view per camera, so that other programs see the first frame's; every frame's
    intrinsics are kept in the camera's extras.
    """
    quaternions, positions = to_quaternions(to_gltf(cameras.poses))
    binary = Binary()
    times = np.arange(len(cameras))[:, None] / fps
    for values, kind in ((times, "SCALAR"), (positions, "VEC3"), (quaternions, "VEC4")):
        binary.add(values.astype(np.float32), kind)
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
    }
    return binary.pack(document)


def decode(data: bytes) -> AnimatedCamera:
    """The first camera of a GLB, with the first animation of it and of what it hangs on.

    Raises:
        InputError: no camera, no animation of it, an orthographic camera, a layout that is not read.
        ValueError, KeyError, IndexError, TypeError, struct.error: a broken file.
    """
    document, binary = unpack(data)
    nodes = document.get("nodes", [])
    number = next((n for n, node in enumerate(nodes) if "camera" in node), None)
    if number is None:
        raise InputError("file", "the GLB has no camera")
    parents = {child: n for n, node in enumerate(nodes) for child in node.get("children", ())}
    line = [number]
    while line[-1] in parents and len(line) <= len(nodes):
        line.append(parents[line[-1]])
    tracks = _tracks(document, binary)
    keys = [keys for (node, _), (keys, _) in tracks.items() if node in line and len(keys) > 1]
    if not keys:
        raise InputError("file", "the GLB's camera does not move: no animation of it has two keys or more")

    def poses_at(times: np.ndarray) -> np.ndarray:
        world = np.eye(4)
        for node in reversed(line):
            world = world @ _local(nodes[node], node, tracks, times)
        world[:, :3, :3] /= np.linalg.norm(world[:, :3, :3], axis=1, keepdims=True)  # a scene's scale
        return to_gltf(world)

    camera = document["cameras"][nodes[number]["camera"]]
    if camera.get("type") != "perspective":
        raise InputError("file", "the GLB's camera is orthographic; make it a perspective one")
    lens = camera["perspective"]
    if not 0 < lens["yfov"] < np.pi:
        raise InputError("yfov", f"{lens['yfov']:g} must be between 0 and pi")
    ours = camera.get("extras", {}).get("aether", {})
    return AnimatedCamera(_merged(keys), poses_at, lens["yfov"], lens.get("aspectRatio"), ours)


def _tracks(document: dict[str, Any], binary: bytes) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """(node, "translation" | "rotation") to times and values, of the first animation of each."""
    tracks = {}
    for animation in document.get("animations", ()):
        for channel in animation["channels"]:
            target, sampler = channel["target"], animation["samplers"][channel["sampler"]]
            key = target.get("node"), target["path"]
            if key[1] in ("translation", "rotation") and key not in tracks:
                times, values = (_values(document, binary, sampler[end]) for end in ("input", "output"))
                if sampler.get("interpolation") == "CUBICSPLINE":
                    values = values[1::3]  # between an incoming and an outgoing tangent
                tracks[key] = times[:, 0], values
    return tracks


def _merged(tracks: list[np.ndarray]) -> np.ndarray:
    """The times of all tracks, rising; those of two tracks that differ by rounding are one."""
    times = np.unique(np.concatenate(tracks))
    same = min(_SAME_KEY, *(np.diff(keys).min() / 2 for keys in tracks))  # never two keys of one track
    return times[np.diff(times, prepend=-np.inf) > same]


def _values(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    values = read_floats(document, binary, number)
    return finite_array(values.astype(np.float64), "poses", (None, None))


def _local(node: dict[str, Any], number: int, tracks: dict, times: np.ndarray) -> np.ndarray:
    """A node's matrix at each time."""
    if "matrix" in node:
        return np.reshape(node["matrix"], (4, 4)).T
    still = np.array([0.0]), np.array([node.get("rotation", (0.0, 0, 0, 1))])
    quaternions = turns_at(times, *tracks.get((number, "rotation"), still))
    still = np.array([0.0]), np.array([node.get("translation", (0.0, 0, 0))])
    matrices = from_quaternions(quaternions, places_at(times, *tracks.get((number, "translation"), still)))
    matrices[:, :3, :3] *= node.get("scale", (1.0, 1, 1))
    return matrices


def turns_at(times: np.ndarray, keys: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) at times, by Slerp between those of rising keys; the first and last one go on."""
    from scipy.spatial.transform import Rotation, Slerp

    if len(keys) == 1:
        return np.repeat(turns, len(times), axis=0)
    return Slerp(keys, Rotation.from_quat(turns))(np.clip(times, keys[0], keys[-1])).as_quat()


def places_at(times: np.ndarray, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Positions (N, 3) at times, straight between those of rising keys; the first and last one go on."""
    return np.stack([np.interp(times, keys, places[:, axis]) for axis in range(3)], axis=1)
