"""A camera path cut into windows, and what each is asked to do.

A window's part of the path hangs on the frames it covers and on none after them, so that a longer path asks
the same of every window that it fills: this is what makes going on bit for bit what one go is. Where a path
ends within a window, the camera keeps its last pose to the window's end, and the frames after it are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from ..errors import InputError
from ..geometry.cameras import NEAREST, Cameras
from ..spec import FRAMES

SHORTEST = 2
"""Frames of a path."""
FAST_TURN, FAST_MOVE = 60.0, 3.0
"""Degrees, and units of the nearest depth, in one window: beyond these little is left of what was seen."""
JUMP = 8.0
"""A step between two frames this many times as long as the path's 90th percentile is a cut, not a move."""


@dataclass(frozen=True)
class Plan:
    """Windows of a path.

    Attributes:
        path: (F cameras) as asked for, relative to the first, of the pictures' size.
        length: frames of a window.
        overlap: frames that a window shares with the one before.
    """

    path: Cameras
    length: int
    overlap: int = 1

    @property
    def starts(self) -> tuple[int, ...]:
        """First frame of each window."""
        stride = self.length - self.overlap
        return tuple(range(0, max(len(self.path) - self.overlap, 1), stride))

    def part(self, window: int) -> Cameras:
        """A window's cameras, ``length`` of them, in the path's world; after the path's end its last."""
        frames = np.arange(self.starts[window], self.starts[window] + self.length)
        return self.path.select(np.minimum(frames, len(self.path) - 1))

    def notes(self) -> list[str]:
        """What a person should know of the path: windows in which the camera is too fast, jumps, frames that
        are computed and cut off."""
        found = [note for window in range(len(self.starts)) if (note := self._too_fast(window))]
        found += _jumps(self.path)
        spare = self.starts[-1] + self.length - len(self.path)
        if spare:
            found.append(
                f"the path ends {spare} frames before the last window does; {len(self.path) + spare} frames "
                "cost the same"
            )
        return found

    def _too_fast(self, window: int) -> str:
        part = self.part(window).relative_to_first()
        turn = np.degrees(angles(part.poses, part.poses[:1])).max()
        move = np.linalg.norm(part.poses[:, :3, 3], axis=1).max()
        if turn <= FAST_TURN and move <= FAST_MOVE:
            return ""
        first = self.starts[window] + 1
        return (
            f"window {window + 1} (frames {first} to {first + self.length - 1}) turns by {turn:.0f} degrees "
            f"and moves by {move:.1f} units: too fast to be followed well; give the move more frames"
        )


def plan_windows(path: Cameras, length: int | None, overlap: int = 1, *, default: int = FRAMES[-1]) -> Plan:
    """Cut a path into windows.

    A path shorter than a window gets the shortest window that holds it.

    Args:
        path: one camera per frame, of the size of the pictures.
        length: frames of a window: 17, 25, 33 or 41; None for the shortest that holds the path, up to
            ``default``.
        overlap: frames that windows share, 1 to 8.
        default: the model's own number of frames.

    Raises:
        InputError: a path of fewer than 2 frames, another length, an overlap out of range.
    """
    if len(path) < SHORTEST:
        raise InputError("camera", f"{len(path)} frame is no path; give at least {SHORTEST}")
    if length is None:
        length = min((n for n in FRAMES if n >= min(len(path), default)), default=FRAMES[-1])
    elif length not in FRAMES:
        raise InputError("window", f"{length!r} is not one of {', '.join(map(str, FRAMES))} frames")
    if isinstance(overlap, bool) or not isinstance(overlap, Integral) or not 1 <= overlap <= 8:
        raise InputError("overlap", f"{overlap!r} is not from 1 to 8 frames")
    return Plan(from_first(path), int(length), int(overlap))


def from_first(path: Cameras) -> Cameras:
    """The path in its first camera's frame, so that doing it again changes no bit: that camera is exactly the
    identity, where `Cameras.relative_to_first` leaves rounding, and no zero is negative. Whatever unit its
    file states, a walk takes its lengths as depths."""
    poses = path.relative_to_first().poses + 0.0
    poses[0] = np.eye(4)
    return replace(path, poses=poses, unit=NEAREST)


def longer(path: Cameras, piece: Cameras, at: int | None = None) -> Cameras:
    """A path with another piece behind it.

    Args:
        piece: its first camera is where the path is at that frame, so that it adds one frame less.
        at: frame of the path to go on from, what comes after it being dropped; the last by default.

    Raises:
        InputError: no such frame; a piece of one frame.
    """
    at = len(path) - 1 if at is None else at
    if isinstance(at, bool) or not isinstance(at, Integral) or not 0 <= at < len(path):
        raise InputError("at", f"{at!r} is not a frame of the earlier path, 0 to {len(path) - 1}")
    if len(piece) < SHORTEST:
        raise InputError("camera", f"{len(piece)} frame is no path; give at least {SHORTEST}")
    path = from_first(path)
    added = path.poses[at] @ piece.relative_to_first().poses[1:]
    return replace(
        path,
        poses=np.concatenate([path.poses[: at + 1], added]),
        intrinsics=np.concatenate([path.intrinsics[: at + 1], piece.intrinsics[1:]]),
    )


def bent(part: Cameras, start: np.ndarray, end: np.ndarray | None = None) -> Cameras:
    """A part of a path that begins at a given pose, and ends at one.

    The way is kept; what it is off by at its ends is spread evenly over its frames.

    Args:
        start: (4, 4) pose of the first camera.
        end: (4, 4) of the last; by default where the path has it.
    """
    from scipy.spatial.transform import Rotation

    shares = np.linspace(0, 1, len(part))
    poses = part.poses.copy()
    offsets = (np.linalg.inv(poses[0]) @ start, None if end is None else np.linalg.inv(poses[-1]) @ end)
    for offset, share in zip(offsets, (1 - shares, shares), strict=True):
        if offset is None or np.array_equal(offset, np.eye(4)):
            continue
        turns = np.tile(np.eye(4), (len(part), 1, 1))
        vector = Rotation.from_matrix(offset[:3, :3]).as_rotvec()
        turns[:, :3, :3] = Rotation.from_rotvec(share[:, None] * vector).as_matrix()
        turns[:, :3, 3] = share[:, None] * offset[:3, 3]
        poses = poses @ turns
    return replace(part, poses=poses)


def angles(poses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Radians between the orientations of poses (F, 4, 4) and of others, (F or 1, 4, 4)."""
    chords = np.linalg.norm(poses[:, :3, :3] - others[:, :3, :3], axis=(1, 2)) / np.sqrt(8)
    return 2 * np.arcsin(np.minimum(chords, 1))


def _jumps(path: Cameras) -> Sequence[str]:
    moves = np.linalg.norm(np.diff(path.poses[:, :3, 3], axis=0), axis=1)
    turns = angles(path.poses[1:], path.poses[:-1])
    for steps, what in ((moves, "moves"), (turns, "turns")):
        usual = max(float(np.percentile(steps, 90)), 1e-3)
        if len(steps) > 10 and steps.max() > JUMP * usual:
            frame = int(steps.argmax()) + 1
            return [
                f"the camera jumps between frames {frame} and {frame + 1} (it {what} "
                f"{steps.max() / usual:.0f} times as far as usual): a cut cannot be followed"
            ]
    return []
