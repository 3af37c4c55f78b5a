"""nerfstudio's and instant-ngp's transforms.json, and the camera_path.json of nerfstudio's viewer; and back.

Camera to world, OpenGL camera (x right, y up, z back). Our file's world is z up, as that of nerfstudio's
COLMAP converter. Source: nerfstudio's page on data conventions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry.cameras import FLIP, Cameras, cameras_from_fov
from .camera_parts import (
    PICTURE_NAME,
    CameraFile,
    Lens,
    as_floats,
    inverted,
    labelled,
    one_size,
    picture_order,
    pinhole_matrices,
    size_of,
    square_poses,
    whole,
)
from .lens_models import PinholeLens, check_model, distortion_notes

Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Our world (y down) to nerfstudio's (z up): what its COLMAP converter applies too."""
_FOCALS = {"x": ("fl_x", "camera_angle_x", "x_fov"), "y": ("fl_y", "camera_angle_y", "y_fov")}
"""What an axis has: a focal length in pixels, or an angle of view in radians, or one in degrees."""
_LENS_KEYS = (*_FOCALS["x"], *_FOCALS["y"], "cx", "cy", "w", "h")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Also the order of ``distortion_params``."""
_FLAGS = {
    "is_fisheye": "OPENCV_FISHEYE",
    "fisheye": "OPENCV_FISHEYE",
    "latlong": "LATLONG",
    "equirectangular": "EQUIRECTANGULAR",
    "orthographic": "ORTHOGRAPHIC",
    "is_ortho": "ORTHOGRAPHIC",
    "ortho": "ORTHOGRAPHIC",
}
"""instant-ngp's, where they are true."""


def encode(cameras: Cameras, fps: float) -> bytes:
    """A transforms.json; the rate is a field of ours."""
    matrices = Z_UP @ cameras.poses @ FLIP
    frames = [
        {
            "file_path": "images/" + PICTURE_NAME.format(number),
            "transform_matrix": matrix.tolist(),
            "fl_x": k[0, 0],
            "fl_y": k[1, 1],
            "cx": k[0, 2],
            "cy": k[1, 2],
            "w": cameras.width,
            "h": cameras.height,
        }
        for number, (matrix, k) in enumerate(zip(matrices, cameras.intrinsics, strict=True), 1)
    ]
    document = {
        "camera_model": "OPENCV",
        "applied_transform": Z_UP[:3].tolist(),
        "aether_fps": float(fps),
        "aether_unit": cameras.unit,
        "aether_lens": cameras.lens,
        "frames": frames,
    }
    return json.dumps(document, indent=1, allow_nan=False).encode()


def read_transforms(document: dict[str, Any], lens: Lens) -> CameraFile:
    """A transforms.json. A frame's own settings come before the document's.

    Raises:
        InputError: a frame without a pose, or without what other frames have; a lens that is not pinhole;
            several sizes; angles out of range.
    """
    frames, notes = _in_order(document["frames"])
    poses = _poses(document, frames)
    if document.get("applied_scale") not in (None, 1):
        notes.append(f"applied_scale {document['applied_scale']} was undone: lengths are those before it")
    fps = None if document.get("aether_fps") is None else float(document["aether_fps"])
    settings = [_given(document) | _given(frame) for frame in frames]
    for one in settings:
        _check_pinhole(one)
    _check_alike(settings)
    height, width, size_notes = _size(settings, lens)
    notes += size_notes
    if not any(key in settings[0] for keys in _FOCALS.values() for key in keys):
        taken = Lens(lens.fov, height, width)
        cameras = taken.cameras(poses)
        return CameraFile(cameras, fps, [*notes, *_bent(settings, cameras), taken.note])
    numbers = []
    for one in settings:
        fx, fy = _focal(one, "x", width), _focal(one, "y", height)
        numbers.append([fx or fy, fy or fx, one.get("cx", width / 2), one.get("cy", height / 2)])
    cameras = Cameras(poses, pinhole_matrices(as_floats(numbers, "frames")), height, width)
    cameras = labelled(cameras, document, "aether_")
    return CameraFile(cameras, fps, [*notes, *_bent(settings, cameras)])


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _in_order(frames: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """By the numbers in their file names, or as they come where one has none.

    nerfstudio sorts by name too: its COLMAP converter writes frames in the order of COLMAP's table.
    """
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        return frames, []
    order, notes = picture_order(names)
    return [frames[index] for index in order], notes


def _name(frame: Mapping[str, Any], number: int) -> str:
    return str(frame.get("file_path", f"frame {number}"))


def _poses(document: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Camera to world, OpenCV axes, in the world before nerfstudio's transform and scale."""
    for number, frame in enumerate(frames):
        if frame.get("transform_matrix") is None:
            raise InputError("transform_matrix", f"{_name(frame, number)} has none; give it one or remove it")
    matrices = as_floats([frame["transform_matrix"] for frame in frames], "transform_matrix")
    matrices = square_poses(matrices, "transform_matrix")
    given = {"applied_scale": 1.0, "applied_transform": np.eye(4), **_given(document)}
    scale, applied = float(given["applied_scale"]), as_floats(given["applied_transform"], "applied_transform")
    if not 0 < scale < np.inf:
        raise InputError("applied_scale", f"{scale:g} must be a positive number")
    if applied.shape not in ((3, 4), (4, 4)):
        raise InputError("applied_transform", f"has shape {applied.shape}; it must be (3, 4) or (4, 4)")
    matrices[:, :3, 3] /= scale
    applied = square_poses(applied[None], "applied_transform")[0]
    return inverted(applied, "applied_transform") @ matrices @ FLIP


def _check_pinhole(settings: Mapping[str, Any]) -> None:
    check_model(str(settings.get("camera_model", "OPENCV")).upper(), "camera_model")
    for flag, model in _FLAGS.items():
        if settings.get(flag):
            check_model(model, flag)
    if any(key.startswith("ftheta_") for key in settings):
        check_model("FTHETA", "ftheta")


def _check_alike(settings: Sequence[Mapping[str, Any]]) -> None:
    """What one frame has of its lens, all must have: nothing can be guessed for the others."""
    somewhere = [key for key in _LENS_KEYS if any(key in one for one in settings)]
    for number, one in enumerate(settings):
        missing = [key for key in somewhere if key not in one]
        if missing:
            raise InputError(
                "frames",
                f"{_name(one, number)} has no {' and '.join(missing)}, which other frames have; give it its "
                "own, or write one for all beside the frames",
            )


def _size(settings: Sequence[Mapping[str, Any]], lens: Lens) -> tuple[int, int, list[str]]:
    """Height, width, and what to report of them. Angles of view fit any size, a focal length only one."""
    first = settings[0]
    if "w" in first and "h" in first:
        return *one_size([(whole(one["h"]), whole(one["w"])) for one in settings], "frames"), []
    if any(key in first for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")):
        middle = np.eye(3)
        middle[:2, 2] = float(first.get("cx", 0)), float(first.get("cy", 0))
        return size_of(first, middle, ("h", "w"))
    if not any(key in first for keys in _FOCALS.values() for key in keys):
        return lens.height, lens.width, []  # its note names the size
    return lens.height, lens.width, [f"the file has no h and w: {lens.width} x {lens.height} was taken"]


def _focal(one: Mapping[str, Any], axis: str, side: int) -> float | None:
    """In pixels; None where the axis has none, and pixels are square."""
    pixels, radians, degrees = _FOCALS[axis]
    if pixels in one:
        focal = float(one[pixels])
        if focal <= 0:
            raise InputError("intrinsics", f"{pixels} = {focal:g}: focal lengths must be positive")
        return focal
    for name, unit in ((radians, 1.0), (degrees, np.pi / 180)):
        if name in one:
            angle = float(one[name]) * unit
            if not 0 < angle < np.pi:
                most = "pi" if unit == 1 else "180"
                raise InputError(name, f"{float(one[name]):g} must be between 0 and {most}")
            return side / (2 * np.tan(angle / 2))
    return None


def _bent(settings: Sequence[Mapping[str, Any]], cameras: Cameras) -> list[str]:
    lenses = []
    for one, matrix in zip(settings, cameras.intrinsics, strict=True):
        listed = dict(zip(_DISTORTION, one.get("distortion_params", ()), strict=False)) | one
        bent = {name: float(listed.get(name, 0.0)) for name in (*_DISTORTION, "k5", "k6")}
        lenses.append(PinholeLens("OPENCV", matrix, bent))
    return distortion_notes(lenses, cameras.height, cameras.width)


def read_camera_path(document: dict[str, Any], lens: Lens) -> CameraFile:
    """The viewer's camera_path.json: a pose and a vertical angle of view in degrees for every frame.

    Raises:
        InputError: an empty path, a kind of camera that is not perspective, a frame without a pose or angle.
    """
    frames = document["camera_path"]
    if not frames:
        raise InputError("camera_path", "is empty; add keyframes in the viewer and save the path again")
    check_model(str(document.get("camera_type", "perspective")).upper(), "camera_type")
    height, width, notes = _viewer_size(document, lens)
    poses = np.stack([_viewer_pose(frame, number) for number, frame in enumerate(frames)]) @ FLIP
    fov_y = np.array([_viewer_angle(document | _given(frame), number) for number, frame in enumerate(frames)])
    fov_x = 2 * np.arctan(np.tan(fov_y / 2) * width / height)
    seconds, given = document.get("seconds"), document.get("fps")
    fps = len(frames) / float(seconds) if given is None and seconds else given
    cameras = cameras_from_fov(poses, fov_x, fov_y, height, width)
    return CameraFile(cameras, None if fps is None else float(fps), notes)


def _viewer_pose(frame: Mapping[str, Any], number: int) -> np.ndarray:
    field = "camera_to_world"
    matrix = as_floats(frame.get(field, ()), field)
    if matrix.size not in (12, 16):
        raise InputError(field, f"frame {number} has {matrix.size} numbers; a pose has 16 or 12, row by row")
    return square_poses(matrix.reshape(1, -1, 4), field)[0]


def _viewer_angle(settings: Mapping[str, Any], number: int) -> float:
    angle = settings.get("fov", settings.get("default_fov"))
    if angle is None or not 0 < float(angle) < 180:
        raise InputError("fov", f"frame {number}: {angle} must be between 0 and 180 degrees")
    return float(np.radians(float(angle)))


def _viewer_size(document: Mapping[str, Any], lens: Lens) -> tuple[int, int, list[str]]:
    """nerfstudio renders at the document's size; a frame's aspect is only how the viewer drew it."""
    sides = [document.get(f"render_{side}") for side in ("height", "width")]
    aspect = document["camera_path"][0].get("aspect")
    if None not in sides:
        height, width = map(whole, sides)
        unlike = aspect and abs(float(aspect) * height / width - 1) > 0.01
        note = f"aspect {aspect:.4g} is not that of {width} x {height}, which was taken" if unlike else ""
        return height, width, [note] if note else []
    width = round(lens.height * float(aspect)) if aspect else lens.width
    return lens.height, width, [f"the file has no render size: {width} x {lens.height} was taken"]
