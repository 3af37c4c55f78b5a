"""COLMAP's sparse models, text and binary: world to camera, OpenCV axes, quaternion w first; and back.

Poses stand in images, lenses in cameras; points, rigs and frames (COLMAP 3.12) are not needed: images have
their own poses there too. The grammar is that of COLMAP's reader: a picture's line is followed by the line
of its points, which may be blank; elsewhere blank lines count for nothing. A picture whose line of points is
missing is taken as well. Source: COLMAP's page on its output format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from ..geometry.cameras import Cameras, from_quaternions, to_quaternions
from .camera_parts import (
    PICTURE_NAME,
    CameraFile,
    as_floats,
    number_row,
    one_size,
    picture_order,
    read_text,
    text_file,
    whole,
)
from .lens_models import BY_NUMBER, LENS_MODELS, distortion_notes, from_parameters
from .units import LENS_NOTES, SCALE_NOTES

MODEL_FILES = {
    f"{part}{ending}"
    for part in ("cameras", "images", "points3D", "rigs", "frames")
    for ending in (".txt", ".bin")
}
"""The files of a model, any of which stands for it."""
_SUBFOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "0")
_ENDINGS = (".bin", ".txt")
"""COLMAP, too, prefers the binary files."""


class Picture(NamedTuple):
    """``pose``: qw qx qy qz tx ty tz, world to camera; ``camera``: the number of its lens."""

    name: str
    pose: tuple[float, ...]
    camera: int


class CameraEntry(NamedTuple):
    """A lens with the name of its model and its parameters in COLMAP's order."""

    model: str
    width: int
    height: int
    parameters: list[float]


# --- Writing ----------------------------------------------------------------------------------------------


def encode(cameras: Cameras, fps: float) -> dict[str, str]:
    """World to camera; one PINHOLE camera for each lens that occurs; no points."""
    lenses, which = np.unique(cameras.intrinsics, axis=0, return_inverse=True)
    lens_lines = [
        f"{number} PINHOLE {cameras.width} {cameras.height} {number_row(k[[0, 1, 0, 1], [0, 1, 2, 2]])}"
        for number, k in enumerate(lenses, 1)
    ]
    quaternions, positions = to_quaternions(np.linalg.inv(cameras.poses))
    picture_lines = [
        f"{number} {number_row([*np.roll(turn, 1), *place])} {lens + 1} {PICTURE_NAME.format(number)}\n"
        for number, (turn, place, lens) in enumerate(
            zip(quaternions, positions, which.reshape(-1), strict=True), 1
        )
    ]
    return {
        "cameras.txt": text_file(
            f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy ({LENS_NOTES[cameras.lens]})", lens_lines
        ),
        "images.txt": text_file(
            "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME (world to camera)\n# POINTS2D[] (none)\n"
            f"# {SCALE_NOTES[cameras.unit]}",
            picture_lines,
        ),
        "points3D.txt": text_file("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] (none)", []),
    }


# --- Reading ----------------------------------------------------------------------------------------------


def find_model(folder: Path) -> tuple[Path | None, list[str]]:
    """The images.bin or images.txt of a folder or of sparse/0 below it; and what to report of the choice."""
    for below in _SUBFOLDERS:
        found = [folder / below / f"images{ending}" for ending in _ENDINGS]
        found = [path for path in found if path.is_file()]
        whole = [path for path in found if path.with_name(f"cameras{path.suffix}").is_file()]
        if found:
            return (whole or found)[0], _choices(whole, folder / below)
    return None, []


def _choices(found: list[Path], folder: Path) -> list[str]:
    notes = ["the folder has a binary and a text model: the binary one was read"] * (len(found) > 1)
    models = {file.parent.name for ending in _ENDINGS for file in folder.parent.glob(f"*/images{ending}")}
    if folder.name == "0" and (others := sorted(models - {"0"})):
        notes.append(f"COLMAP made several models: 0 was read, not {', '.join(others)}")
    return notes


def read(path: Path) -> CameraFile:
    """The model that a file belongs to, pictures in the order of the numbers in their names.

    Only the lenses that pictures use count.

    Raises:
        InputError: lenses that are not pinhole, pictures of several sizes or of a lens that is missing, lines
            that are neither a picture nor its points.
    """
    images, cameras = (path.with_name(f"{part}{path.suffix}") for part in ("images", "cameras"))
    for file in (images, cameras):
        if not file.is_file():
            whole = f"a COLMAP model has {images.name} and {cameras.name}"
            raise InputError("file", f"{whole}: {file.name} is missing")
    pictures, notes = _pictures(images)
    entries = _entries(cameras, pictures)
    sizes = [(entries[one.camera].height, entries[one.camera].width) for one in pictures]
    height, width = one_size(sizes, cameras.name)
    lenses = {
        number: from_parameters(entry.model, entry.parameters, cameras.name)
        for number, entry in entries.items()
    }
    table = finite_array(as_floats([one.pose for one in pictures], "poses"), "poses", (None, 7))
    poses = np.linalg.inv(from_quaternions(np.roll(table[:, :4], -1, axis=1), table[:, 4:]))
    found = Cameras(poses, [lenses[one.camera].matrix for one in pictures], height, width)
    return CameraFile(found, notes=notes + distortion_notes(lenses.values(), height, width))


def _pictures(path: Path) -> tuple[list[Picture], list[str]]:
    """In order, and what to report of it."""
    found = _binary(path, _binary_picture) if path.suffix == ".bin" else _text_pictures(path)
    if not found:
        raise InputError(path.name, "has no pictures")
    order, notes = picture_order([picture.name for picture in found])
    return [found[index] for index in order], notes


def _entries(path: Path, pictures: list[Picture]) -> dict[int, CameraEntry]:
    """The lenses that pictures use."""
    wanted = {one.camera for one in pictures}
    found = _binary(path, _binary_entry) if path.suffix == ".bin" else _text_entries(path, wanted)
    entries = {number: entry for number, entry in found if number in wanted}
    missing = next((one for one in pictures if one.camera not in entries), None)
    if missing:
        raise InputError(path.name, f"has no camera {missing.camera}, which {missing.name} was taken with")
    return entries


# --- Text -------------------------------------------------------------------------------------------------


def _text_entries(path: Path, wanted: set[int]) -> Iterator[tuple[int, CameraEntry]]:
    for number, line in _numbered(path):
        words = line.split()
        if not words:
            continue
        with _naming(path, number, "CAMERA_ID MODEL WIDTH HEIGHT PARAMETERS"):
            camera = int(words[0])
            if camera in wanted:
                parameters = [float(word) for word in words[4:]]
                yield camera, CameraEntry(words[1], whole(words[2]), whole(words[3]), parameters)


def _text_pictures(path: Path) -> list[Picture]:
    found: list[Picture] = []
    points_may_come = False
    for number, line in _numbered(path):
        if points_may_come and (not line or _are_points(line)):
            points_may_come = False
        elif line:
            with _naming(path, number, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"):
                found.append(_picture(line))
            points_may_come = True
    return found


def _picture(line: str) -> Picture:
    number, *pose, camera, name = line.split(maxsplit=9)
    int(number)
    if len(pose) != 7:
        raise ValueError("it has too few words")
    return Picture(name, tuple(float(word) for word in pose), int(camera))


def _are_points(line: str) -> bool:
    """x y POINT3D_ID, again and again."""
    words = line.split()
    try:
        np.array(words, dtype=np.float64)
    except ValueError:
        return False
    return len(words) % 3 == 0


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are no comments, without their ends, and their numbers."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.lstrip().startswith("#"):
            yield number, line.strip()


@contextmanager
def _naming(path: Path, number: int, expected: str) -> Iterator[None]:
    """Around the parsing of a line: an error says what it should have been."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise InputError(path.name, f"line {number} is not {expected}") from error


# --- Binary -----------------------------------------------------------------------------------------------


class _Bytes:
    """Little-endian numbers and names, one after another; running out of them is an error."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, format: str) -> tuple:
        found = struct.unpack_from("<" + format, self._data, self._at)
        self._at += struct.calcsize("<" + format)
        return found

    def name(self) -> str:
        end = self._data.index(b"\0", self._at)
        name = self._data[self._at : end].decode(errors="replace")
        self._at = end + 1
        return name

    def skip(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise ValueError("it ends too early")
        self._at += count

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over")


def _binary(path: Path, record: Callable[[_Bytes], Any]) -> list[Any]:
    """As many records as the file's first number has it."""
    data = _Bytes(path.read_bytes())
    try:
        found = [record(data) for _ in range(data.take("Q")[0])]
        data.end()
    except (ValueError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path.name, f"is no COLMAP binary file, or a damaged one ({error})") from error
    return found


def _binary_picture(data: _Bytes) -> Picture:
    _, *pose, camera = data.take("I7dI")
    name = data.name()
    data.skip(24 * data.take("Q")[0])  # two float64 and a number of 8 bytes a point
    return Picture(name, tuple(pose), camera)


def _binary_entry(data: _Bytes) -> tuple[int, CameraEntry]:
    camera, number, width, height = data.take("IiQQ")
    if number not in BY_NUMBER:
        raise InputError("cameras.bin", f"has a lens model of number {number}, which is not known")
    name = BY_NUMBER[number]
    return camera, CameraEntry(name, width, height, list(data.take(f"{LENS_MODELS[name].count}d")))
