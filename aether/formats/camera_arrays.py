"""Poses as arrays, .npz, .npy or in JSON, under the names that programs of the field give them.

Names say the direction: c2w and the like are camera to world, w2c and extrinsics (VGGT, Depth Anything 3)
world to camera; poses alone are camera to world (DUSt3R, MonST3R). All have OpenCV axes but LLFF's
poses_bounds.npy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import finite_array, npz_names, read_npy, read_npz
from ..errors import InputError
from ..geometry.cameras import Cameras
from .camera_parts import (
    CameraFile,
    Lens,
    as_floats,
    inverted,
    labelled,
    pinhole_matrices,
    relative_intrinsics,
    size_of,
    square_poses,
    whole,
)
from .camera_text import row_poses

_TO_WORLD = (
    *("poses", "pose", "c2w", "c2ws", "cam_c2w", "cam2world", "cam2worlds", "cams2world", "cam_to_world"),
    *("camera_to_world", "camera_to_worlds", "camera_poses", "cam_poses", "camera_pose"),
)
_TO_CAMERA = (
    *("w2c", "w2cs", "cam_w2c", "world2cam", "world2cams", "world_to_cam", "world_to_camera"),
    *("world_to_cameras", "extrinsics", "extrinsic", "viewmats"),
)
_LENSES = ("intrinsics", "intrinsic", "k", "ks", "cam_k", "camera_intrinsics", "intrinsic_matrix")
_FOCALS, _MIDDLES = ("focals", "focal", "focal_length"), ("principal_points", "principal_point", "pp")
_SIZES = {"height": ("height", "h"), "width": ("width", "w")}
_ALL = (*_TO_WORLD, *_TO_CAMERA, *_LENSES, *_FOCALS, *_MIDDLES, *_SIZES["height"], *_SIZES["width"])
_ALL += ("fps", "fx", "fy", "cx", "cy")


def read_npz_cameras(path: Path, lens: Lens) -> CameraFile:
    """A .npz; other arrays in it are not loaded."""
    names = npz_names(path, "file")
    wanted = [name for name in names if name.lower() in _ALL]
    return from_arrays(read_npz(path, "file", wanted), lens, f"{path.name} holds {shown_names(names)}")


def read_npy_cameras(path: Path, lens: Lens) -> CameraFile:
    """(F, 4, 4) or (F, 3, 4); (F, 12) or (F, 16), the same row by row; LLFF's (F, 17) and (F, 3, 5)."""
    array = as_floats(read_npy(path, "file"), "poses")
    if array.ndim == 2 and array.shape[1] == 17:
        return _llff(array[:, :15].reshape(-1, 3, 5))
    if array.ndim == 3 and array.shape[1:] == (3, 5):
        return _llff(array)
    if array.ndim == 2 and array.shape[1] in (12, 16):
        array = row_poses(array)
    return from_arrays({"poses": array}, lens, path.name)


def from_arrays(found: Mapping[str, Any], lens: Lens, what: str) -> CameraFile:
    """Cameras from named arrays.

    Args:
        what: the beginning of the error, where there are no poses: what was found.

    Raises:
        InputError: no poses, poses or lenses of other shapes.
    """
    found = {name.lower(): value for name, value in found.items() if value is not None}
    poses, notes = _poses(found, what)
    fps = float(np.reshape(found["fps"], -1)[0]) if "fps" in found else None
    sizes = {side: found[name] for side, names in _SIZES.items() for name in names if name in found}
    lenses = _lenses(found, sizes, len(poses))
    if lenses is None:
        return CameraFile(lens.cameras(poses), fps, [*notes, lens.note])
    if _is_relative(lenses):
        notes.append("intrinsics were read as shares of the picture's size")
        size = (whole(sizes["height"]), whole(sizes["width"])) if len(sizes) == 2 else None
        cameras, more = relative_intrinsics(poses, lenses[:, [0, 1, 0, 1], [0, 1, 2, 2]], lens, size)
        return CameraFile(cameras, fps, [*notes, *more])
    height, width, more = size_of(sizes, lenses[0], ("height", "width"))
    cameras = labelled(Cameras(poses, lenses, height, width), found)
    return CameraFile(cameras, fps, [*notes, *more])


def shown_names(names: Iterable[str]) -> str:
    """The first of them, for an error."""
    names = list(names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "nothing"


def _first(found: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((found[name] for name in names if name in found), None)


def _poses(found: Mapping[str, Any], what: str) -> tuple[np.ndarray, list[str]]:
    """Camera to world, and what to report."""
    names = [name for name in (*_TO_WORLD, *_TO_CAMERA) if name in found]
    if not names:
        raise InputError(
            "poses",
            f"{what}; expected are poses or c2w (camera to world), or w2c or extrinsics (world to camera)",
        )
    name = names[0]
    poses = square_poses(as_floats(found[name], name), name)
    notes = [f"{name} was read, not {' nor '.join(names[1:])}"] if len(names) > 1 else []
    if name in _TO_WORLD:
        return poses, notes
    return inverted(poses, name), [f"{name} was read as world to camera", *notes]


def _lenses(found: Mapping[str, Any], sizes: Mapping[str, Any], frames: int) -> np.ndarray | None:
    """(F, 3, 3), or None where there are none."""
    name = next((name for name in _LENSES if name in found), None)
    if name is None:
        return _from_focals(found, sizes, frames)
    lenses = as_floats(found[name], name)
    if lenses.shape[-2:] == (4, 4) and (lenses[..., 3, :] == [0, 0, 0, 1]).all():
        lenses = lenses[..., :3, :3]
    if lenses.shape[-2:] == (3, 3):
        return _for_each(lenses.reshape(-1, 3, 3), name, frames)
    if lenses.ndim == 0 or lenses.shape[-1] != 4:
        raise InputError(name, f"has shape {lenses.shape}; it must be (frames, 3, 3), (3, 3) or (frames, 4)")
    return _for_each(pinhole_matrices(lenses.reshape(-1, 4)), name, frames)


def _for_each(lenses: np.ndarray, name: str, frames: int) -> np.ndarray:
    if len(lenses) not in (1, frames):
        raise InputError(name, f"has {len(lenses)} lenses for {frames} poses; give one, or one for each")
    lenses = finite_array(lenses, name, (None, 3, 3))
    return np.broadcast_to(lenses, (frames, 3, 3))


def _from_focals(found: Mapping[str, Any], sizes: Mapping[str, Any], frames: int) -> np.ndarray | None:
    """Focal lengths, with principal points or in a picture of a known size; None without."""
    focals = _pairs(found, _FOCALS, ("fx", "fy"))
    middles = _pairs(found, _MIDDLES, ("cx", "cy"))
    if focals is None:
        return None
    if middles is None:
        if len(sizes) < 2:
            raise InputError("focals", "have no picture size; add height and width, or intrinsics")
        middles = np.array([[whole(sizes["width"]) / 2, whole(sizes["height"]) / 2]])
    count = max(len(focals), len(middles))
    numbers = [np.broadcast_to(part, (count, 2)) for part in (focals, middles)]
    return _for_each(pinhole_matrices(np.concatenate(numbers, axis=1)), "focals", frames)


def _pairs(found: Mapping[str, Any], names: tuple[str, ...], axes: tuple[str, str]) -> np.ndarray | None:
    """(F, 2) or (1, 2), a number for x and one for y, from one array of either or both, or from two."""
    both = _first(found, names)
    if both is None and axes[0] in found:
        both = np.stack(
            [as_floats(found.get(axis, found[axes[0]]), axis).reshape(-1) for axis in axes], axis=1
        )
    if both is None:
        return None
    values = as_floats(both, names[0])
    values = values.reshape(-1, 2 if values.ndim and values.shape[-1] == 2 else 1)
    return np.broadcast_to(values, (len(values), 2))


def _is_relative(lenses: np.ndarray) -> bool:
    """Whether intrinsics are shares of the width and height: no picture has its middle within one pixel."""
    middles, focals = lenses[:, :2, 2], lenses[:, [0, 1], [0, 1]]
    return bool(((middles > 0) & (middles < 1)).all() and (focals < 20).all())


def _llff(matrices: np.ndarray) -> CameraFile:
    """(F, 3, 5): a pose with the axes down, right, back; then height, width and focal length."""
    matrices = finite_array(matrices, "poses", (None, 3, 5))
    poses = square_poses(matrices[:, :, [1, 0, 2, 3]] * [1, 1, -1, 1])
    height, width, focal = matrices[0, :, 4]
    if (matrices[:, :, 4] != matrices[0, :, 4]).any():
        raise InputError("poses", "LLFF's pictures have several sizes or focal lengths; a path has one size")
    lens = pinhole_matrices(np.array([[focal, focal, width / 2, height / 2]]))
    intrinsics = np.broadcast_to(lens, (len(poses), 3, 3))
    return CameraFile(Cameras(poses, intrinsics, round(height), round(width)))
