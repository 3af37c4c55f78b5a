"""Camera paths in JSON: the program that one is of, by what it holds; ours, and some that are short.

3D Gaussian Splatting's cameras.json: camera to world, OpenCV axes. Record3D's metadata: camera to world,
ARKit's axes (y up, z back), quaternions w last. Source: the programs' own code that writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from ..geometry.cameras import FLIP, Cameras, from_quaternions
from . import camera_nerfstudio
from .camera_arrays import from_arrays, shown_names
from .camera_parts import (
    CameraFile,
    Lens,
    as_floats,
    one_size,
    picture_order,
    pinhole_matrices,
    read_text,
    size_of,
    whole,
)
from .export import cameras_json

_SPLATTING_KEYS = ("position", "rotation", "fx", "fy", "width", "height")


def encode(cameras: Cameras, fps: float) -> bytes:
    """Ours: poses and intrinsics of every frame, the size and the rate."""
    return cameras_json(cameras, fps).encode()


def read(path: Path, lens: Lens) -> CameraFile:
    """Any of them, or poses alone.

    Raises:
        InputError: none of the kinds that are known.
    """
    document = json.loads(read_text(path))
    if isinstance(document, list):
        if document and isinstance(document[0], dict):
            return _splatting(path, document)
        document = {"poses": document}
    if not isinstance(document, dict):
        raise InputError("poses", f"{path.name} has neither poses nor frames")
    if "camera_path" in document:
        return camera_nerfstudio.read_camera_path(document, lens)
    frames = document.get("frames")
    if frames and any("transform_matrix" in frame for frame in frames):
        return camera_nerfstudio.read_transforms(document, lens)
    if frames:
        document = document | _by_frames(frames)
    if "K" in document and np.shape(document.get("poses"))[1:] == (7,):
        return _record3d(document)
    return from_arrays(document, lens, f"{path.name} holds {shown_names(document)}")


def _by_frames(frames: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Our frames as arrays."""
    found = {}
    for key, name in (("pose", "poses"), ("intrinsics", "intrinsics")):
        lacking = [number for number, frame in enumerate(frames) if key not in frame]
        if lacking and len(lacking) < len(frames):
            raise InputError(name, f"frame {lacking[0]} has no {key}, which other frames have")
        if not lacking:
            found[name] = [frame[key] for frame in frames]
    return found


def _splatting(path: Path, entries: list[dict[str, Any]]) -> CameraFile:
    """Pictures in the order of their names: the program shuffles them before it writes."""
    for number, entry in enumerate(entries):
        missing = [key for key in _SPLATTING_KEYS if key not in entry]
        if missing:
            found = f"{path.name}: camera {number} has no {', '.join(missing)}"
            raise InputError(
                "poses", f"{found}; expected is a list of poses, or of 3D Gaussian Splatting's cameras"
            )
    order, notes = picture_order([str(entry.get("img_name", entry.get("id", ""))) for entry in entries])
    entries = [entries[index] for index in order]
    poses = np.tile(np.eye(4), (len(entries), 1, 1))
    for name, columns, shape in (("rotation", slice(3), (3, 3)), ("position", 3, (3,))):
        values = as_floats([one[name] for one in entries], name)
        poses[:, :3, columns] = finite_array(values, name, (None, *shape))
    height, width = one_size([(whole(one["height"]), whole(one["width"])) for one in entries], "width")
    focals = as_floats([[one["fx"], one["fy"]] for one in entries], "fx")
    middles = as_floats([[one.get("cx", width / 2), one.get("cy", height / 2)] for one in entries], "cx")
    lenses = pinhole_matrices(np.concatenate([focals, middles], axis=1))
    return CameraFile(Cameras(poses, lenses, height, width), notes=notes)


def _record3d(document: dict[str, Any]) -> CameraFile:
    """Quaternion and place in a row; the lens column by column."""
    rows = finite_array(as_floats(document["poses"], "poses"), "poses", (None, 7))
    poses = from_quaternions(rows[:, :4], rows[:, 4:]) @ FLIP
    lens = as_floats(document["K"], "K").reshape(3, 3).T
    each = as_floats(document.get("perFrameIntrinsicCoeffs", ()), "perFrameIntrinsicCoeffs")
    fps = None if document.get("fps") is None else float(document["fps"])
    lenses = pinhole_matrices(each) if each.shape == (len(poses), 4) else np.tile(lens, (len(poses), 1, 1))
    height, width, notes = size_of(document, lenses[0], ("h", "w"))
    return CameraFile(Cameras(poses, lenses, height, width), fps, notes)
