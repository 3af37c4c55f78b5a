"""Camera paths as files of other programs: ours (JSON), COLMAP text, TUM, nerfstudio, GLB; and back.

What each says, and what of a path it cannot hold:

========== ========================================================== ========================================
format     a pose is                                                  not kept
========== ========================================================== ========================================
json       camera to world, OpenCV axes (x right, y down, z forward)  nothing
colmap     world to camera, OpenCV axes; quaternion w first           rate
tum        camera to world, OpenCV axes; quaternion w last            intrinsics, picture size
nerfstudio camera to world, OpenGL camera (y up, z back), z-up world  nothing (the rate is a field of ours)
glb        camera to world, glTF: y up, the camera looks along -z     principal point; a zoom is kept for our
                                                                      reader, other programs see the first
                                                                      frame's angle
========== ========================================================== ========================================

All keep the unit of length. Intrinsics are in pixels with the middle of the top left pixel at (0.5, 0.5),
which is COLMAP's and nerfstudio's convention too.

COLMAP's and nerfstudio's pictures make a path in the order of the numbers in their file names. The poses of
TUM and GLB have times: where these are uneven, the path is sampled at even ones, straight between its poses,
so that it keeps its pace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import camera_glb
from .arrays import read_npy, read_npz
from .errors import InputError, reading
from .export import cameras_json, check_rate
from .files import new_folder, number_order, write_file
from .geometry import FLIP, Cameras, cameras_from_fov, finite_array, from_quaternions, to_quaternions
from .trajectory import MOST_FRAMES

Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Our world (y down) to nerfstudio's (z up): what its COLMAP converter applies too."""
_PICTURE_NAME = "frame_{:05d}.png"
_SAMPLE_RATE = 24.0
"""Samples a second, at least, of a path whose times are uneven: Aether's highest rate."""


@dataclass(frozen=True)
class CameraFile:
    """What was read.

    Attributes:
        cameras: as in the file, not yet relative to the first.
        fps: None where the file has no rate.
        notes: what had to be assumed or was left out.
    """

    cameras: Cameras
    fps: float | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_rate(self.fps)


@dataclass(frozen=True)
class Lens:
    """The angle of view and picture size for files that have none: full horizontal angle in degrees."""

    fov: float = 60.0
    height: int = 480
    width: int = 720

    def cameras(self, poses: np.ndarray) -> Cameras:
        if not 1 <= self.fov <= 170:
            raise InputError("fov", f"{self.fov} is out of range; use 1 to 170 degrees")
        half_width = np.tan(np.radians(self.fov) / 2)
        fov_y = 2 * np.arctan(half_width * self.height / self.width)
        return cameras_from_fov(poses, np.radians(self.fov), fov_y, self.height, self.width)

    @property
    def note(self) -> str:
        return f"the file has no lens: {self.fov:g} degrees and {self.width} x {self.height} were taken"


def write_cameras(stem: str | Path, cameras: Cameras, fps: float, format: str) -> Path:
    """Write a path; it appears whole, or not at all.

    Args:
        stem: path and beginning of the name; the format's ending is added.
        format: one of :data:`FORMATS`.

    Returns:
        the file, for colmap the folder.

    Raises:
        InputError: an unknown format, a rate that is not positive, a name that is taken.
        OSError: the folder cannot be written to.
    """
    if format not in FORMATS:
        raise InputError("format", f"{format!r} is not one of {', '.join(FORMATS)}")
    check_rate(fps)
    ending, encode = FORMATS[format]
    stem = Path(stem)
    target = stem.with_name(stem.name + ending)
    if target.exists():
        raise InputError("filename", f"{target.name} exists; give another name")
    content = encode(cameras, fps)
    if isinstance(content, bytes):
        write_file(target, content)
    else:
        with new_folder(target) as folder:
            for name, text in content.items():
                (folder / name).write_text(text, encoding="utf-8")
    return target


def read_cameras(path: str | Path, lens: Lens | None = None) -> CameraFile:
    """Read a path of at least two cameras.

    Takes what :func:`write_cameras` writes; an earlier run's folder or its cameras.json; a nerfstudio or
    instant-ngp transforms.json; a COLMAP text model's folder; a GLB with a camera, such as Blender exports;
    and poses alone, (F, 4, 4) or (F, 3, 4) camera to world, OpenCV axes: .npy, or .npz and .json with
    ``poses`` and, where known, ``intrinsics`` (F, 3, 3), ``height``, ``width`` and ``fps``. Without a size
    the principal point counts as the middle. A path of uneven times has as many cameras as it takes to sample
    it evenly, 10,000 at most. The notes say so.

    Args:
        lens: for files without one.

    Raises:
        InputError: an unreadable file; too few poses; matrices that are not rigid, are left-handed or hold
            NaN; focal lengths or angles that are not positive. The field is the value's name.
    """
    path, lens = Path(path), lens or Lens()
    if path.is_dir():
        path = _main_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError("file", f"{path.name} is not one of {', '.join(SUFFIXES)}")
    with reading("file", f"{path.name} cannot be read as a camera path"):
        found = reader(path, lens)
    if len(found.cameras) < 2:
        raise InputError("poses", f"{path.name} has a single pose; a path needs at least 2")
    return found


def _main_file(folder: Path) -> Path:
    names = ("cameras.json", "transforms.json", "images.txt")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InputError("file", f"{folder.name} holds none of {', '.join(names)}")
    return found[0]


# --- JSON, NPZ: ours, and poses alone ---------------------------------------------------------------------


def _json(cameras: Cameras, fps: float) -> bytes:
    return cameras_json(cameras, fps).encode()


def _read_json(path: Path, lens: Lens) -> CameraFile:
    document = json.loads(_text(path))
    if isinstance(document, list):
        document = {"poses": document}
    frames = document.get("frames") if isinstance(document, dict) else None
    if frames and "transform_matrix" in frames[0]:
        return _read_nerfstudio(document, lens)
    if frames:
        keys = ("pose", "intrinsics")
        arrays = {key: [frame[key] for frame in frames] for key in keys if key in frames[0]}
        document = document | {name + "s" * (name == "pose"): value for name, value in arrays.items()}
    if not isinstance(document, dict) or "poses" not in document:
        raise InputError("poses", f"{path.name} has neither poses nor frames")
    return _from_arrays(document, lens)


def _read_npz(path: Path, lens: Lens) -> CameraFile:
    loaded = read_npz(path, "file", ("poses", "intrinsics", "height", "width", "fps"))
    if "poses" not in loaded:
        raise InputError("poses", f"{path.name} holds {', '.join(loaded) or 'none of ours'}, but no poses")
    return _from_arrays(loaded, lens)


def _read_npy(path: Path, lens: Lens) -> CameraFile:
    return _from_arrays({"poses": read_npy(path, "file")}, lens)


def _from_arrays(found: Mapping[str, Any], lens: Lens) -> CameraFile:
    poses = _square(_floats(found["poses"], "poses"))
    fps = None if found.get("fps") is None else float(found["fps"])
    if found.get("intrinsics") is None:
        return CameraFile(lens.cameras(poses), fps, [lens.note])
    intrinsics = np.broadcast_to(_floats(found["intrinsics"], "intrinsics"), (len(poses), 3, 3))
    first = finite_array(intrinsics, "intrinsics", (None, 3, 3))[0]
    height, width, notes = _size(found, first, ("height", "width"))
    return CameraFile(Cameras(poses, intrinsics, height, width), fps, notes)


def _size(found: Mapping[str, Any], first: np.ndarray, sides: tuple[str, str]) -> tuple[int, int, list[str]]:
    """Height and width, as ``found`` calls the two ``sides``, where missing by the first frame's intrinsics;
    and what to say of that."""
    middle = dict(zip(sides, first[[1, 0], 2], strict=True))
    missing = [side for side in middle if found.get(side) is None]
    names = " and ".join(missing)
    if any(middle[side] <= 0 for side in missing):
        raise InputError("intrinsics", f"have no positive principal point to tell {names} by; add {names}")
    height, width = (round(2 * middle[side]) if side in missing else int(found[side]) for side in sides)
    taken = f"{width} x {height} was taken, with the principal point in the middle"
    return height, width, [f"the file has no {names}: {taken}"] if missing else []


def _floats(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(name, "are not numbers, or not of one shape") from None


def _square(poses: np.ndarray) -> np.ndarray:
    """(F, 3, 4) or (F, 4, 4) to (F, 4, 4)."""
    if poses.ndim == 3 and poses.shape[1:] == (3, 4):
        poses = np.concatenate([poses, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(poses), 1, 4))], axis=1)
    return finite_array(poses, "poses", (None, 4, 4))


# --- COLMAP and TUM ---------------------------------------------------------------------------------------


def _colmap(cameras: Cameras, fps: float) -> dict[str, str]:
    """World to camera; one PINHOLE camera for each lens that occurs; no points."""
    lenses, which = np.unique(cameras.intrinsics, axis=0, return_inverse=True)
    lens_lines = [
        f"{number} PINHOLE {cameras.width} {cameras.height} {_row(k[[0, 1, 0, 1], [0, 1, 2, 2]])}"
        for number, k in enumerate(lenses, 1)
    ]
    quaternions, positions = to_quaternions(np.linalg.inv(cameras.poses))
    picture_lines = [
        f"{number} {_row(np.roll(turn, 1))} {_row(position)} {lens + 1} {_PICTURE_NAME.format(number)}\n"
        for number, (turn, position, lens) in enumerate(
            zip(quaternions, positions, which.reshape(-1), strict=True), 1
        )
    ]
    return {
        "cameras.txt": _lines("# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy", lens_lines),
        "images.txt": _lines(
            "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME (world to camera)\n# POINTS2D[] (none)",
            picture_lines,
        ),
        "points3D.txt": _lines("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] (none)", []),
    }


def _read_text(path: Path, lens: Lens) -> CameraFile:
    if path.name in ("images.txt", "cameras.txt", "points3D.txt"):
        return _read_colmap(path.parent)
    table = _floats(_rows(path), "poses")
    if table.ndim != 2 or table.shape[1] != 8:
        raise InputError("poses", f"{path.name} is no TUM trajectory: time tx ty tz qx qy qz qw in each line")
    table = finite_array(table, "poses", (None, 8))
    own, places, turns = table[:, 0], table[:, 1:4], table[:, 4:]
    poses = from_quaternions(turns, places)
    times, notes = _even(own)
    if times is not own:
        turns, places = camera_glb.turns_at(times, own, turns), camera_glb.places_at(times, own, places)
        poses = from_quaternions(turns, places)
    return CameraFile(lens.cameras(poses), _rate(times), [lens.note, *notes])


def _read_colmap(folder: Path) -> CameraFile:
    lenses: dict[str, tuple[int, int, list[list[float]]]] = {}
    for row in _rows(folder / "cameras.txt"):
        focals = {"SIMPLE_PINHOLE": [0, 0, 1, 2], "PINHOLE": [0, 1, 2, 3]}.get(row[1])
        if focals is None:
            raise InputError(
                "cameras.txt", f"{row[1]} has distortion; undistort the pictures: PINHOLE is taken"
            )
        fx, fy, cx, cy = (float(row[4 + index]) for index in focals)
        lenses[row[0]] = int(row[2]), int(row[3]), [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    # Every picture has two lines; the second holds points, may be empty, and is left out.
    lines = [line for line in _text(folder / "images.txt").splitlines() if not line.startswith("#")][::2]
    rows = (line.split(maxsplit=9) for line in lines if line.strip())
    pictures = sorted(rows, key=lambda row: number_order(row[9]))
    if not pictures:
        raise InputError("images.txt", "has no pictures")
    sizes = {lenses[row[8]][:2] for row in pictures}
    if len(sizes) > 1:
        raise InputError("cameras.txt", f"pictures have {len(sizes)} sizes; a path has one")
    table = finite_array(_floats([row[1:8] for row in pictures], "poses"), "poses", (None, 7))
    poses = np.linalg.inv(from_quaternions(np.roll(table[:, :4], -1, axis=1), table[:, 4:]))
    width, height = sizes.pop()
    return CameraFile(Cameras(poses, [lenses[row[8]][2] for row in pictures], height, width))


def _tum(cameras: Cameras, fps: float) -> bytes:
    quaternions, positions = to_quaternions(cameras.poses)
    rows = [
        f"{_row([index / fps])} {_row(position)} {_row(turn)}"
        for index, (position, turn) in enumerate(zip(positions, quaternions, strict=True))
    ]
    return _lines("# timestamp tx ty tz qx qy qz qw (camera to world, OpenCV axes)", rows).encode()


def _text(path: Path) -> str:
    """Without the byte-order mark that some editors put first."""
    return path.read_text(encoding="utf-8-sig")


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in _text(path).splitlines() if line.strip()[:1] not in ("", "#")]


def _row(numbers: Any) -> str:
    return " ".join(f"{number:.12g}" for number in numbers)


def _lines(head: str, rows: list[str]) -> str:
    return "\n".join([head, *rows]) + "\n"


# --- nerfstudio -------------------------------------------------------------------------------------------


def _nerfstudio(cameras: Cameras, fps: float) -> bytes:
    matrices = Z_UP @ cameras.poses @ FLIP
    frames = [
        {
            "file_path": "images/" + _PICTURE_NAME.format(number),
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
        "frames": frames,
    }
    return json.dumps(document, indent=1, allow_nan=False).encode()


def _read_nerfstudio(document: dict[str, Any], lens: Lens) -> CameraFile:
    frames = _in_order(document["frames"])
    matrices = _square(_floats([frame["transform_matrix"] for frame in frames], "transform_matrix"))
    applied = np.eye(4)
    applied[:3] = _floats(document.get("applied_transform", applied[:3]), "applied_transform")
    poses = np.linalg.inv(applied) @ matrices @ FLIP
    fps = None if document.get("aether_fps") is None else float(document["aether_fps"])
    settings = [document | frame for frame in frames]
    height, width, notes = _nerfstudio_size(settings, lens)
    if "fl_x" not in settings[0] and "camera_angle_x" not in settings[0]:
        return CameraFile(Lens(lens.fov, height, width).cameras(poses), fps, [lens.note])
    intrinsics = np.stack([_nerfstudio_lens(one, height, width) for one in settings])
    bent = any(one.get(name) for one in settings for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    notes += ["lens distortion was left out"] if bent else []
    return CameraFile(Cameras(poses, intrinsics, height, width), fps, notes)


def _in_order(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the numbers in their file names, or as they come where one has none.

    nerfstudio sorts by name too: its COLMAP converter writes frames in the order of COLMAP's table.
    """
    if not all(isinstance(frame.get("file_path"), str) for frame in frames):
        return frames
    return sorted(frames, key=lambda frame: number_order(frame["file_path"]))


def _nerfstudio_size(settings: list[dict[str, Any]], lens: Lens) -> tuple[int, int, list[str]]:
    """Height, width, and what to say of them. An angle of view fits any size, a focal length only one."""
    sizes = {(one.get("h"), one.get("w")) for one in settings}
    if len(sizes) > 1:
        raise InputError("frames", f"have {len(sizes)} picture sizes; a path has one")
    if "fl_x" in settings[0]:
        return _size(settings[0], _nerfstudio_lens(settings[0], 0, 0), ("h", "w"))
    return int(settings[0].get("h", lens.height)), int(settings[0].get("w", lens.width)), []


def _nerfstudio_lens(one: dict[str, Any], height: int, width: int) -> np.ndarray:
    if "fl_x" in one:
        focal = float(one["fl_x"])
    else:
        angle = float(one["camera_angle_x"])
        if not 0 < angle < np.pi:
            raise InputError("camera_angle_x", f"{angle:g} must be between 0 and pi")
        focal = width / (2 * np.tan(angle / 2))
    fy = float(one.get("fl_y", focal))
    cx, cy = float(one.get("cx", width / 2)), float(one.get("cy", height / 2))
    return np.array([[focal, 0, cx], [0, fy, cy], [0, 0, 1]])


# --- GLB --------------------------------------------------------------------------------------------------


def _read_glb(path: Path, lens: Lens) -> CameraFile:
    found = camera_glb.decode(path.read_bytes())
    times, notes = _even(found.times)
    poses = found.poses_at(times)
    if not notes and "intrinsics" in found.ours and len(found.ours["intrinsics"]) == len(poses):
        return _from_arrays(found.ours | {"poses": poses}, lens)
    aspect = found.aspect or lens.width / lens.height
    fov_x = 2 * np.arctan(np.tan(found.fov_y / 2) * aspect)
    width = max(1, round(lens.height * aspect))
    cameras = cameras_from_fov(poses, fov_x, found.fov_y, lens.height, width)
    return CameraFile(cameras, _rate(times), notes)


# --- Times ------------------------------------------------------------------------------------------------


def _even(times: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Even times to sample a path at, and what to say of it; the path's own where they are even, or do not
    rise."""
    steps = np.diff(times)
    if (steps <= 0).any():
        return times, ["the file's times do not rise: its poses were taken in order, at even gaps"]
    if len(steps) < 2 or _rate(times):
        return times, []
    length = float(times[-1] - times[0])
    count = round(min(length / min(float(np.median(steps)), 1 / _SAMPLE_RATE), MOST_FRAMES - 1))
    note = (
        f"the file's times are uneven: the path was sampled {count / length:.4g} times a second, "
        "straight between its poses"
    )
    return np.linspace(times[0], times[-1], count + 1), [note]


def _rate(times: np.ndarray) -> float | None:
    """Frames per second of evenly spaced times, None otherwise."""
    steps = np.diff(times)
    if not len(steps) or (steps <= 0).any() or np.ptp(steps) > 0.01 * steps.mean():
        return None
    return float(len(steps) / (times[-1] - times[0]))


FORMATS: dict[str, tuple[str, Callable[[Cameras, float], bytes | dict[str, str]]]] = {
    "json": (".json", _json),
    "colmap": ("colmap", _colmap),
    "tum": ("tum.txt", _tum),
    "nerfstudio": ("transforms.json", _nerfstudio),
    "glb": (".glb", camera_glb.encode),
}
"""Name to ending and writer."""
_READERS = {".json": _read_json, ".txt": _read_text, ".glb": _read_glb, ".npz": _read_npz, ".npy": _read_npy}
SUFFIXES = tuple(_READERS)
"""Endings of the files that :func:`read_cameras` takes."""
