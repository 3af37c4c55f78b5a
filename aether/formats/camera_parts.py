"""What readers and writers of camera files share: results, numbers, sizes, names and order of pictures."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from ..files import number_order
from ..geometry.cameras import ASSUMED, GIVEN, Cameras, cameras_from_fov
from .units import LENS_NOTES, SCALE_NOTES, check_rate, known_label

PICTURE_NAME = "frame_{:05d}.png"
"""Of a frame, in files that name pictures."""


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
        return cameras_from_fov(poses, np.radians(self.fov), fov_y, self.height, self.width, ASSUMED)

    def known(self) -> Cameras:
        """A camera with this angle as a known one."""
        return replace(self.cameras(np.eye(4)[None]), lens=GIVEN)

    @property
    def note(self) -> str:
        return f"the file has no lens: {self.fov:g} degrees and {self.width} x {self.height} were taken"


def read_text(path: Path) -> str:
    """UTF-8, or UTF-16 as Windows' shell writes it, without the byte-order mark."""
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")


def as_floats(value: Any, name: str) -> np.ndarray:
    """A float64 array.

    Raises:
        InputError: not numbers, or not of one shape.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind != "c":
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(name, "are not numbers, or not of one shape") from None
    raise InputError(name, "are complex numbers")


def square_poses(poses: np.ndarray, name: str = "poses") -> np.ndarray:
    """(F, 3, 4) or (F, 4, 4), with or without dimensions of 1 before, to (F, 4, 4).

    Raises:
        InputError: another shape, NaN or infinite values.
    """
    while poses.ndim > 3 and poses.shape[0] == 1:
        poses = poses[0]
    if poses.ndim == 3 and poses.shape[1:] == (3, 4):
        poses = np.concatenate([poses, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(poses), 1, 4))], axis=1)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise InputError(name, f"has shape {poses.shape}; it must be (frames, 4, 4) or (frames, 3, 4)")
    return finite_array(poses, name, (None, 4, 4))


def inverted(matrices: np.ndarray, name: str) -> np.ndarray:
    """The inverse matrices.

    Raises:
        InputError: there is none.
    """
    try:
        return np.linalg.inv(matrices)
    except np.linalg.LinAlgError:
        raise InputError(name, "cannot be inverted; it must be a rotation and a shift") from None


def pinhole_matrices(numbers: np.ndarray) -> np.ndarray:
    """(F, 4), fx fy cx cy, to (F, 3, 3)."""
    matrices = np.tile(np.eye(3), (len(numbers), 1, 1))
    matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]] = numbers
    return matrices


def one_size(sizes: Sequence[tuple[int, int]], field: str) -> tuple[int, int]:
    """The size that all pictures have.

    Raises:
        InputError: there are several.
    """
    unlike = sorted(set(sizes))
    if len(unlike) > 1:
        shown = ", ".join(f"{width} x {height}" for height, width in unlike[:3])
        raise InputError(field, f"pictures have {len(unlike)} sizes ({shown}); a path has one")
    return unlike[0]


def size_of(
    found: Mapping[str, Any], first: np.ndarray, sides: tuple[str, str]
) -> tuple[int, int, list[str]]:
    """Height and width, as ``found`` calls the two ``sides``, where missing by the first frame's intrinsics;
    and what to report of that."""
    middle = dict(zip(sides, first[[1, 0], 2], strict=True))
    missing = [side for side in middle if found.get(side) is None]
    names = " and ".join(missing)
    if any(middle[side] <= 0 for side in missing):
        raise InputError(
            "intrinsics", f"have no positive principal point to derive {names} from; add {names}"
        )
    height, width = (round(2 * middle[side]) if side in missing else whole(found[side]) for side in sides)
    taken = f"{width} x {height} was taken, with the principal point in the middle"
    return height, width, [f"the file has no {names}: {taken}"] if missing else []


def labelled(cameras: Cameras, document: Mapping[str, Any], prefix: str = "") -> Cameras:
    """Cameras with the unit and the origin of the lens that a file of ours states.

    Args:
        prefix: of the names of its fields.
    """
    unit = known_label(document.get(f"{prefix}unit"), tuple(SCALE_NOTES), cameras.unit)
    lens = known_label(document.get(f"{prefix}lens"), tuple(LENS_NOTES), cameras.lens)
    return replace(cameras, unit=unit, lens=lens)


def whole(value: Any) -> int:
    """A picture's side, which some write as 480.0 or as an array of one."""
    return round(float(np.reshape(value, -1)[0]))


def relative_intrinsics(
    poses: np.ndarray, numbers: np.ndarray, lens: Lens, size: tuple[int, int] | None = None
) -> tuple[Cameras, list[str]]:
    """Cameras of intrinsics that are shares of the picture's width and height.

    Args:
        numbers: (F, 4): fx and cx in widths, fy and cy in heights.
        size: height and width, where known; else square pixels give the shape, and ``lens`` the height.
    """
    if (numbers[:, :2] <= 0).any():
        raise InputError("intrinsics", "the focal lengths must be positive")
    notes = []
    if size is None:
        width = max(1, round(lens.height * float(numbers[0, 1] / numbers[0, 0])))
        size = lens.height, width
        notes = [f"the file has no picture size: {width} x {lens.height} was taken, by square pixels"]
    height, width = size
    matrices = pinhole_matrices(numbers * [width, height, width, height])
    return Cameras(poses, matrices, height, width), notes


def picture_order(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Indices of pictures by the numbers in their names, and what to report of them."""
    order = sorted(range(len(names)), key=lambda index: number_order(names[index]))
    folders = sorted({str(PurePosixPath(name).parent) for name in names}, key=number_order)
    if len(folders) < 2:
        return order, []
    shown = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    return order, [
        f"pictures lie in {len(folders)} folders ({shown}): the path goes through one after another"
    ]


def number_row(numbers: Any) -> str:
    """Numbers in a line, with as many digits as matter."""
    return " ".join(f"{number:.12g}" for number in numbers)


def text_file(head: str, rows: Sequence[str]) -> str:
    """A text file of a comment and rows."""
    return "\n".join([head, *rows]) + "\n"
