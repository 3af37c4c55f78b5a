"""A camera with an animation in glTF 2, which Blender, three.js and others play (.glb, .gltf); and back.

glTF: y up, the camera looks along its -z. Times are in seconds, a key per frame, straight between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry.cameras import Cameras, cameras_from_fov, from_quaternions, to_gltf, to_quaternions
from .camera_arrays import from_arrays
from .camera_parts import CameraFile, Lens, labelled
from .camera_times import even_times, frame_rate
from .glb import Binary, Gltf, open_gltf
from .gltf_animation import Animations, Target, Track, merged_times

_STILL = 1e-7
"""Less than this is rounding, not a move."""
_SHEAR = 1e-3
_APPLY = "apply the scale of its parents for another result"


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
        "unit": cameras.unit,
        "lens": cameras.lens,
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


def read(path: Path, lens: Lens) -> CameraFile:
    """The camera that moves, sampled at its keys, or at even times where those will not do.

    Raises:
        InputError: no camera, none that moves, an orthographic one, keys that are not read.
        ValueError, KeyError, IndexError, TypeError, struct.error: a broken file.
    """
    camera, notes = _moving_camera(open_gltf(path))
    times, time_notes = camera.even_times()
    worlds, pose_notes = _rigid(camera.worlds(times))
    poses = to_gltf(worlds)
    notes += pose_notes + camera.animations.notes(camera.tracks)
    # Where :func:`encode` wrote the file: width, height, fps and intrinsics (F, 3, 3).
    ours = camera.entry.get("extras", {}).get("aether", {})
    if not time_notes and len(ours.get("intrinsics", ())) == len(poses):
        found = from_arrays(ours | {"poses": poses}, lens, path.name)
        return CameraFile(found.cameras, found.fps, notes + found.notes + time_notes)
    aspect = camera.entry["perspective"].get("aspectRatio")
    if aspect is None:
        aspect = lens.width / lens.height
        notes.append(f"the file has no aspect ratio: {lens.width} x {lens.height} was taken")
    if not 0 < aspect < np.inf:
        raise InputError("aspectRatio", f"{aspect:g} must be a positive number")
    fov_y = camera.fov_at(times)
    fov_x = 2 * np.arctan(np.tan(fov_y / 2) * aspect)
    cameras = cameras_from_fov(poses, fov_x, fov_y, lens.height, max(1, round(lens.height * aspect)))
    cameras = labelled(cameras, ours)
    return CameraFile(cameras, frame_rate(times), notes + time_notes)


# --- Cameras of a file ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Camera:
    """A node with a camera that is animated.

    Attributes:
        line: numbers of its node and of what that hangs on, up to the scene.
        tracks: of the line's nodes and of the camera.
    """

    gltf: Gltf
    animations: Animations
    line: tuple[int, ...]
    tracks: dict[Target, dict[str, Track]]

    @property
    def _node(self) -> dict[str, Any]:
        return self.gltf.document["nodes"][self.line[0]]

    @property
    def entry(self) -> dict[str, Any]:
        """What the file says of its lens."""
        return self.gltf.document["cameras"][self._node["camera"]]

    @property
    def name(self) -> str:
        return str(self._node.get("name") or self.entry.get("name") or f"node {self.line[0]}")

    @property
    def is_perspective(self) -> bool:
        return self.entry.get("type") == "perspective"

    @property
    def moving_tracks(self) -> list[Track]:
        """Those with two keys or more."""
        tracks = [track for tracks in self.tracks.values() for track in tracks.values()]
        return [track for track in tracks if len(track.times) > 1]

    def even_times(self) -> tuple[np.ndarray, list[str]]:
        """The times to sample it at, (F,) rising seconds, and what to report of them."""
        moving = self.moving_tracks
        # A parent that turns or grows swings it round, off the straight line between keys.
        parents = [self.tracks[Target("nodes", number)] for number in self.line[1:]]
        swings = [track for tracks in parents for path, track in tracks.items() if path != "translation"]
        curved = any(track.curved for track in moving) or any(len(one.times) > 1 for one in swings)
        return even_times(merged_times(moving), curved=curved)

    @property
    def moves(self) -> bool:
        times, _ = self.even_times()
        zooms = self.is_perspective and np.ptp(self.fov_at(times)) > _STILL
        return bool(zooms or np.ptp(self.worlds(times), axis=0).max() > _STILL)

    def fov_at(self, times: np.ndarray) -> np.ndarray:
        """(N,) full vertical angle of view in radians."""
        track = self.tracks[Target("cameras", self._node["camera"])].get("yfov")
        if track is None:
            angles = np.full(len(times), float(self.entry["perspective"]["yfov"]))
        else:
            angles = track.at(times)[:, 0]
        wrong = angles[~((angles > 0) & (angles < np.pi))]
        if len(wrong):
            raise InputError("yfov", f"{wrong[0]:g} must be between 0 and pi")
        return angles

    def worlds(self, times: np.ndarray) -> np.ndarray:
        """(N, 4, 4), glTF's axes; before the first key and after the last it stands still."""
        world = np.tile(np.eye(4), (len(times), 1, 1))
        for number in reversed(self.line):
            node = self.gltf.document["nodes"][number]
            world = world @ _local(node, self.tracks[Target("nodes", number)], times)
        return world


def _local(node: dict[str, Any], tracks: dict[str, Track], times: np.ndarray) -> np.ndarray:
    """A node's matrix at each time."""
    if "matrix" in node and tracks:
        raise InputError("file", "a node has a matrix and an animation, which glTF does not allow")
    if "matrix" in node:
        return np.tile(np.reshape(node["matrix"], (4, 4)).T.astype(np.float64), (len(times), 1, 1))
    still = {"translation": (0.0, 0, 0), "rotation": (0.0, 0, 0, 1), "scale": (1.0, 1, 1)}
    places, turns, scales = (
        tracks[path].at(times)
        if path in tracks
        else np.tile(np.asarray(node.get(path, value), float), (len(times), 1))
        for path, value in still.items()
    )
    matrices = from_quaternions(turns, places)
    matrices[:, :3, :3] *= scales[:, None]
    return matrices


def _rigid(worlds: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Matrices without the scale, mirroring and shear of a camera's parents, and what to report: it keeps
    looking the same way, with the same side up."""
    poses = worlds.copy()
    axes = worlds[:, :3, :3] / np.maximum(np.linalg.norm(worlds[:, :3, :3], axis=1, keepdims=True), 1e-30)
    right, up, back = np.moveaxis(axes, 2, 0)
    sheared = max(np.abs(np.sum(a * b, axis=1)).max() for a, b in ((right, up), (up, back), (back, right)))
    up = up - back * np.sum(up * back, axis=1, keepdims=True)
    up /= np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-30)
    poses[:, :3, :3] = np.stack([np.cross(up, back), up, back], axis=2)
    notes = []
    if (np.linalg.det(axes) < 0).any():
        notes.append(
            f"the camera's parents mirror it: its path was kept, the picture is not mirrored; {_APPLY}"
        )
    if sheared > _SHEAR:
        notes.append(f"the camera's parents shear it: where it looks and what is up were kept; {_APPLY}")
    return poses, notes


# --- Which camera -----------------------------------------------------------------------------------------


def _moving_camera(gltf: Gltf) -> tuple[_Camera, list[str]]:
    """The camera to follow, and what to report of the choice."""
    nodes = gltf.document.get("nodes", [])
    numbers = [number for number, node in enumerate(nodes) if "camera" in node]
    if not numbers:
        raise InputError("file", "it has no camera; tick Cameras when you export it")
    animations = Animations(gltf)
    parents = {child: number for number, node in enumerate(nodes) for child in node.get("children", ())}
    cameras = [_camera(gltf, animations, parents, number) for number in numbers]
    animated = [camera for camera in cameras if camera.moving_tracks]
    if not animated:
        raise InputError("file", "its camera does not move: no animation of it has two keys or more")
    moving = [camera for camera in animated if camera.moves] or animated
    perspective = [camera for camera in moving if camera.is_perspective]
    if not perspective:
        name = moving[0].name
        raise InputError("file", f"its camera that moves ({name}) is orthographic; make it perspective")
    shown = _shown_nodes(gltf)
    perspective.sort(key=lambda camera: camera.line[-1] not in shown)
    return perspective[0], _choice(perspective, len(cameras))


def _camera(gltf: Gltf, animations: Animations, parents: dict[int, int], number: int) -> _Camera:
    line = [number]
    while line[-1] in parents and len(line) <= len(parents):
        line.append(parents[line[-1]])
    targets = [
        Target("cameras", gltf.document["nodes"][number]["camera"]),
        *(Target("nodes", n) for n in line),
    ]
    return _Camera(gltf, animations, tuple(line), {target: animations.tracks(target) for target in targets})


def _shown_nodes(gltf: Gltf) -> set[int]:
    """The roots of the scene that the file opens with; all nodes where it names none."""
    scenes = gltf.document.get("scenes", ())
    if not scenes:
        return set(range(len(gltf.document["nodes"])))
    return set(scenes[gltf.document.get("scene", 0)].get("nodes", ()))


def _choice(moving: Sequence[_Camera], count: int) -> list[str]:
    if len(moving) > 1:
        names = ", ".join(camera.name for camera in moving[:5]) + (", ..." if len(moving) > 5 else "")
        return [f"{len(moving)} cameras are animated ({names}): {moving[0].name} was taken"]
    return [f"of {count} cameras {moving[0].name} was taken, the one that is animated"] if count > 1 else []
