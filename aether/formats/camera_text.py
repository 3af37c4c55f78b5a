"""Tables of poses as text: TUM, KITTI, RealEstate10K, EuRoC, and 4x4 matrices in lines; TUM written.

========== ===================== ======================================== ===========================
format     numbers in a line     a pose is                                times
========== ===================== ======================================== ===========================
TUM        8                     camera to world; quaternion w last       seconds, or nanoseconds
EuRoC      8 or 17, with a head  body to world; quaternion w first        nanoseconds
KITTI      12                    camera to world, 3 x 4 row by row        none
matrices   16, or 4 in 4 lines   camera to world, 4 x 4 row by row        none
RE10K      19                    world to camera, 3 x 4; lens before it   microseconds
========== ===================== ======================================== ===========================

All have OpenCV axes. Numbers are separated by spaces, tabs, commas or semicolons; # begins a comment.
Source: the data sets' own pages on their formats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from ..geometry.cameras import Cameras, from_quaternions, to_quaternions
from .camera_parts import (
    CameraFile,
    Lens,
    inverted,
    number_row,
    read_text,
    relative_intrinsics,
    square_poses,
    text_file,
)
from .camera_times import even_times, frame_rate, turns_at, values_at
from .lens_models import PinholeLens, distortion_notes
from .units import SCALE_NOTES

_EXPECTED = (
    "expected are 8 numbers a line (TUM: time tx ty tz qx qy qz qw), 12 (KITTI: 3 x 4 camera to world), 16 "
    "(4 x 4 camera to world) or 19 (RealEstate10K)"
)
_STRANGERS = {
    "# Bundle file": "a Bundler file; convert it with COLMAP, or export transforms.json",
    "NVM_V3": "a VisualSFM file (NVM); import it into COLMAP, and export its model",
    "# Image list": "COLMAP's images.txt under another name; call it that, and put cameras.txt beside it",
    "# Camera list": "COLMAP's cameras.txt under another name; choose images.txt",
    "extrinsic": "one camera of MVSNet's; put the poses of all into a .npz as w2c and intrinsics",
    "<?xml": "an XML file; export COLMAP's format or transforms.json instead",
}
"""How text files of other programs begin, and what to do with them."""
_COLUMNS = {
    "time": ("timestamp", "time", "t", "stamp", "timestamp_ns"),
    "tx": ("tx", "x", "px", "p_x", "p_rs_r_x"),
    "ty": ("ty", "y", "py", "p_y", "p_rs_r_y"),
    "tz": ("tz", "z", "pz", "p_z", "p_rs_r_z"),
    "qx": ("qx", "q_x", "q_rs_x"),
    "qy": ("qy", "q_y", "q_rs_y"),
    "qz": ("qz", "q_z", "q_rs_z"),
    "qw": ("qw", "q_w", "q_rs_w"),
}
"""In TUM's order; what heads of tables call them."""
_LONGEST_HEAD = 1000
_SEPARATORS = r"[,;\s]+"
_EPOCHS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
"""Stamps of this size, since 1970, are nano-, micro- or milliseconds."""


class Table(NamedTuple):
    """(rows, columns), and the words of the comments and of the line of names before them."""

    numbers: np.ndarray
    heads: list[list[str]]


def encode_tum(cameras: Cameras, fps: float) -> bytes:
    """TUM: seconds, camera to world, quaternion w last."""
    quaternions, positions = to_quaternions(cameras.poses)
    rows = [
        f"{number_row([index / fps])} {number_row(position)} {number_row(turn)}"
        for index, (position, turn) in enumerate(zip(positions, quaternions, strict=True))
    ]
    head = "# timestamp tx ty tz qx qy qz qw (camera to world, OpenCV axes)"
    return text_file(f"{head}\n# {SCALE_NOTES[cameras.unit]}", rows).encode()


def read(path: Path, lens: Lens) -> CameraFile:
    """Any of the tables, by the number of their columns and by their head.

    Raises:
        InputError: another number of columns, lines of unlike length, words; files of other programs.
    """
    text = read_text(path)
    for beginning, what in _STRANGERS.items():
        if text.lstrip().startswith(beginning):
            raise InputError("file", f"{path.name} is {what}")
    table = _table(path.name, text)
    if table.numbers.shape[1] in (4, 12, 16):
        return CameraFile(lens.cameras(row_poses(table.numbers)), None, [lens.note])
    if table.numbers.shape[1] == 19:
        return _realestate(table.numbers, lens)
    return _timed_poses(path.name, table, lens)


def row_poses(numbers: np.ndarray) -> np.ndarray:
    """(F, 12) or (F, 16), matrices row by row, or (4 F, 4), one below another, to (F, 4, 4)."""
    numbers = finite_array(numbers, "poses", (None, None))
    if numbers.shape[1] != 4:
        return square_poses(numbers.reshape(len(numbers), -1, 4))
    if len(numbers) % 4 or (numbers[3::4] != [0, 0, 0, 1]).any():
        raise InputError(
            "poses", f"4 numbers a line are no 4 x 4 matrices, which end in 0 0 0 1; {_EXPECTED}"
        )
    return square_poses(numbers.reshape(-1, 4, 4))


# --- Lines ------------------------------------------------------------------------------------------------


def _table(name: str, text: str) -> Table:
    rows: list[list[float]] = []
    heads: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        content, _, comment = line.partition("#")
        if re.search(r"\d,\d", content) and re.search(r"\d\s+[-+\d]", content):
            raise InputError("poses", f"line {number} has decimal commas; write decimal points")
        words = [word for word in re.split(_SEPARATORS, content) if word]
        address = content.lstrip().startswith("http")  # of RealEstate10K's clip
        if words and not address and (rows or any(map(_is_number, words))):
            rows.append(_numbers(words, number, rows))
        elif not rows:
            # Without units and remarks in brackets.
            head = re.sub(r"\[[^]]*\]|\([^)]*\)", "", (content if words else comment)[:_LONGEST_HEAD])
            heads.append(re.split(_SEPARATORS, head.strip().lower()))
    if not rows:
        raise InputError("poses", f"{name} has no lines of numbers; {_EXPECTED}")
    return Table(np.array(rows), heads)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(words: list[str], number: int, before: Sequence[Sequence[float]]) -> list[float]:
    stranger = next((word for word in words if not _is_number(word)), None)
    if stranger is not None:
        raise InputError("poses", f"line {number}: {stranger[:40]} is not a number; {_EXPECTED}")
    if before and len(before[0]) != len(words):
        raise InputError("poses", f"line {number} has {len(words)} numbers, those before {len(before[0])}")
    return [float(word) for word in words]


# --- Poses with times -------------------------------------------------------------------------------------


def _timed_poses(name: str, table: Table, lens: Lens) -> CameraFile:
    named = _named_columns(table)
    columns = named or list(range(8))
    if named is None and table.numbers.shape[1] != 8:
        found = f"{table.numbers.shape[1]} numbers a line"
        raise InputError("poses", f"{name} is no TUM trajectory: it has {found}; {_EXPECTED}")
    numbers = finite_array(table.numbers[:, columns], "poses", (None, 8))
    own, notes = _seconds(numbers[:, 0])
    are_numbers = named is None and len(own) > 2 and bool((np.diff(own) == 1).all())
    if are_numbers:
        notes.append("the stamps 0, 1, 2 and so on were read as frame numbers: the file has no rate")
    if any(word.startswith("p_rs_r") for head in table.heads for word in head):
        notes.append("EuRoC's poses are those of the body, not of a camera: apply the camera's T_BS to them")
    places, turns = numbers[:, 1:4], numbers[:, 4:]
    poses = from_quaternions(turns, places)
    times, more = even_times(own)
    if times is not own:
        poses = from_quaternions(turns_at(times, own, turns), values_at(times, own, places))
    rate = None if are_numbers else frame_rate(times)
    return CameraFile(lens.cameras(poses), rate, [lens.note, *notes, *more])


def _named_columns(table: Table) -> list[int] | None:
    """Where time, place and turn stand, by the last head that says it."""
    width = table.numbers.shape[1]
    for head in reversed(table.heads):
        places = [_place(head[:width], names) for names in _COLUMNS.values()]
        if len(head) >= width and None not in places:
            return [place for place in places if place is not None]
    return None


def _place(head: list[str], names: tuple[str, ...]) -> int | None:
    return next((place for place, word in enumerate(head) if word in names), None)


def _seconds(stamps: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Stamps in seconds since the first, and what to report of their unit.

    Those since 1970 show their unit by their size. Others are whole nano- or microseconds where no two are
    less than 1000 apart, which as seconds would be no path.
    """
    gaps = np.diff(np.unique(stamps))
    unit = next((unit for least, unit in _EPOCHS if np.abs(stamps).max() >= least), 1.0)
    whole = bool((stamps == np.round(stamps)).all())
    if unit == 1.0 and whole and len(gaps) and gaps.min() >= 1000:
        unit = 1e-9 if np.median(gaps) >= 1e6 else 1e-6
    names = {1e-9: "nanoseconds", 1e-6: "microseconds", 1e-3: "milliseconds"}
    return (stamps - stamps[0]) * unit, [f"the stamps were read as {names[unit]}"] if unit in names else []


# --- RealEstate10K ----------------------------------------------------------------------------------------


def _realestate(numbers: np.ndarray, lens: Lens) -> CameraFile:
    """Stamp; fx fy cx cy as shares of width and height; k1 k2; world to camera, 3 x 4."""
    numbers = finite_array(numbers, "poses", (None, 19))
    poses = inverted(row_poses(numbers[:, 7:]), "poses")
    own = (numbers[:, 0] - numbers[0, 0]) * 1e-6
    times, notes = even_times(own)
    lenses = numbers[:, 1:5]
    if times is not own:
        turns, places = to_quaternions(poses)
        poses = from_quaternions(turns_at(times, own, turns), values_at(times, own, places))
        lenses = values_at(times, own, lenses)
    cameras, sizes = relative_intrinsics(poses, lenses, lens)
    bent = [
        PinholeLens("RADIAL", cameras.intrinsics[0], {"k1": k1, "k2": k2})
        for k1, k2 in np.unique(numbers[:, 5:7], axis=0)
    ]
    found = distortion_notes(bent, cameras.height, cameras.width)
    return CameraFile(cameras, frame_rate(times), [*sizes, *notes, *found])
