"""Camera paths as files of other programs, read and written.

What each format that is written says, and what of a path it cannot hold:

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
which is COLMAP's and nerfstudio's convention too. What is read besides: docs/reading.md.

Pictures make a path in the order of the numbers in their file names. Poses with times (TUM, GLB, ...) are
sampled at even ones where theirs are uneven, straight between them, so that the path keeps its pace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, reading
from ..files import new_folder, write_file
from ..geometry.cameras import Cameras
from . import camera_colmap, camera_glb, camera_json, camera_nerfstudio, camera_text
from .camera_arrays import read_npy_cameras, read_npz_cameras
from .camera_parts import CameraFile, Lens
from .units import check_rate

METERS_NOTE = "its meters were taken as units, and a unit is the nearest depth of the clip"
"""What to report of a path in meters that is given to Aether as it is."""
_JSON_NAMES = ("cameras.json", "transforms.json", "camera_path.json", "transforms_train.json")
_ELSEWHERE = {
    ".out": "a Bundler file; convert it with COLMAP, or export transforms.json",
    ".nvm": "a VisualSFM file (NVM); import it into COLMAP, and export its model",
    ".db": "COLMAP's database of features; choose its model, images.bin or images.txt",
    ".log": "Redwood's log; write its matrices as a .npy, (frames, 4, 4) camera to world",
    ".ply": "points or a mesh, without cameras",
    **dict.fromkeys(
        (".fbx", ".abc", ".usd", ".usda", ".usdc", ".usdz", ".blend", ".chan"),
        "not read; export a GLB with an animated camera",
    ),
    **dict.fromkeys((".pkl", ".pt", ".pth"), "a pickle, which can run code; save a .npz instead"),
}
"""Endings of other files with cameras: what they are and what to do."""


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

    Takes what :func:`write_cameras` writes and the other formats of docs/reading.md; of a folder its
    cameras.json, transforms.json or COLMAP model, which may lie in sparse/0. Poses alone, (F, 4, 4) or
    (F, 3, 4), are camera to world, OpenCV axes. Without a size the principal point counts as the middle. A
    path of uneven times has as many cameras as it takes to sample it evenly, 10,000 at most. The notes say
    so.

    Args:
        lens: for files without one.

    Raises:
        InputError: an unreadable file; too few poses; matrices that are not rigid, are left-handed or hold
            NaN; focal lengths or angles that are not positive; lenses that are not pinhole. The field is the
            value's name.
    """
    path, lens = Path(path), lens or Lens()
    with reading("file", f"{path.name} cannot be read as a camera path"):
        path, notes = _main_file(path) if path.is_dir() else (path, [])
        found = _reader(path)(path, lens)
    if len(found.cameras) < 2:
        raise InputError("poses", f"{path.name} has a single pose; a path needs at least 2")
    return replace(found, notes=notes + found.notes)


def _reader(path: Path) -> Callable[[Path, Lens], CameraFile]:
    ending = path.suffix.lower()
    if path.name in camera_colmap.MODEL_FILES:
        return lambda path, lens: camera_colmap.read(path)
    if ending == ".bin":
        raise InputError("file", f"{path.name} is not one of a COLMAP model's files, such as images.bin")
    if ending in _READERS:
        return _READERS[ending]
    what = _ELSEWHERE.get(ending)
    raise InputError(
        "file", f"{path.name} is {what}" if what else f"{path.name} is not one of {', '.join(SUFFIXES)}"
    )


def _main_file(folder: Path) -> tuple[Path, list[str]]:
    for name in _JSON_NAMES:
        if (folder / name).is_file():
            return folder / name, []
    found, notes = camera_colmap.find_model(folder)
    if found is None:
        names = ", ".join((*_JSON_NAMES, "images.bin", "images.txt"))
        raise InputError("file", f"{folder.name} holds none of {names}")
    return found, notes


FORMATS: dict[str, tuple[str, Callable[[Cameras, float], bytes | dict[str, str]]]] = {
    "json": (".json", camera_json.encode),
    "colmap": ("colmap", camera_colmap.encode),
    "tum": ("tum.txt", camera_text.encode_tum),
    "nerfstudio": ("transforms.json", camera_nerfstudio.encode),
    "glb": (".glb", camera_glb.encode),
}
"""Name to ending and writer."""
_READERS: dict[str, Callable[[Path, Lens], CameraFile]] = {
    ".json": camera_json.read,
    ".txt": camera_text.read,
    ".csv": camera_text.read,
    ".glb": camera_glb.read,
    ".gltf": camera_glb.read,
    ".npz": read_npz_cameras,
    ".npy": read_npy_cameras,
}
SUFFIXES = (*_READERS, ".bin")
"""Endings of the files that :func:`read_cameras` takes; .bin is COLMAP's."""


def is_offered(path: Path) -> bool:
    """Whether a list of files to choose from shows one: of a COLMAP model its images, and no other .bin."""
    if path.name in camera_colmap.MODEL_FILES:
        return path.stem == "images"
    return path.suffix.lower() in _READERS


def files_beside(path: Path) -> list[Path]:
    """What is read with a file: a COLMAP model's lenses, the buffers of a .gltf."""
    if path.name in camera_colmap.MODEL_FILES:
        return [path.with_name(f"cameras{path.suffix}")]
    return sorted(path.parent.glob("*.bin")) if path.suffix.lower() == ".gltf" else []
