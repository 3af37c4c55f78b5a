"""Views seen before: where a path comes back to one, the known frame is what its window must end with."""

from __future__ import annotations

import numpy as np

from .parts import angles

NEAR, NEAR_TURN = 0.15, 6.0
"""A camera within this many units of the nearest depth, and degrees, has the same view for our purpose."""
AWAY = 3.0
"""It comes back only if it was this many times as far away between: a slow camera returns nowhere."""


def known_view(poses: np.ndarray, way: np.ndarray, unit: float) -> int | None:
    """The known frame whose view a window's last camera has, or None.

    Args:
        poses: (F, 4, 4) of the frames known, up to the one that the window begins with.
        way: (N, 4, 4) of the window, in the same world.
        unit: of the world over that of the window's nearest depth.

    Returns:
        The frame; of several, the nearest, earlier ones having drifted less.
    """
    off = distance(poses, way[-1], unit)
    # The farthest that the camera is from the window's end, from each frame on to that end.
    between = np.concatenate([off, distance(way[1:], way[-1], unit)])
    farthest = np.maximum.accumulate(between[::-1])[::-1][: len(poses)]
    fits = (off <= 1) & (farthest >= AWAY)
    if not fits.any():
        return None
    frames = np.flatnonzero(fits)
    return int(frames[(off[frames] + frames / len(poses) / 10).argmin()])


def distance(poses: np.ndarray, pose: np.ndarray, unit: float) -> np.ndarray:
    """(F,) how far cameras are from one: 1 at the border of what counts as the same view."""
    moves = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1) * unit / NEAR
    turns = np.degrees(angles(poses, pose[None])) / NEAR_TURN
    return np.maximum(moves, turns)
