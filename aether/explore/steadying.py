"""Depth that keeps its scale within a window.

What a window imagines farther along its path it tends to draw farther away than its first frame has it, by a
few percent a window, which adds up from one to the next. The path says how near a point must have come: what
the first frame shows is moved to every later camera, and the depth found there is compared.
"""

from __future__ import annotations

import numpy as np

from ..geometry.cameras import Cameras
from ..geometry.depth import MIN_DISPARITY, point_map
from ..geometry.metrics import weighted_median

_IN_FRONT = 0.05  # of the nearest depth
_FEWEST = 0.1
"""Share of the first frame's points that a frame must show to count."""


def scale_drift(disparity: np.ndarray, cameras: Cameras) -> np.ndarray:
    """By how much each frame's depth is too large against the first frame's, as a logarithm.

    Args:
        disparity: (F, H, W).
        cameras: F, in the same unit of length.

    Returns:
        (F,), 0 for the first frame; NaN where too little of it is seen.
    """
    points = first_points(disparity[0], cameras)
    found = np.full(len(cameras), np.nan)
    for frame in range(len(cameras)):
        depth, pixels = seen_from(points, cameras, frame)
        if len(depth) < _FEWEST * len(points):
            continue
        there = _depth(disparity[frame][pixels[:, 1], pixels[:, 0]])
        # Near surfaces count for more: the sky has no scale.
        found[frame] = weighted_median(np.log(there / depth), 1 / depth)
    return found


def first_points(disparity: np.ndarray, cameras: Cameras) -> np.ndarray:
    """(H * W, 3): where the first camera's picture, of that disparity (H, W), has its surfaces."""
    return point_map(_depth(disparity)[None], cameras.select([0])).reshape(-1, 3)


def seen_from(points: np.ndarray, cameras: Cameras, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N,) and pixel (N, 2), column and row, of the points (M, 3) that a camera has in view."""
    pose = cameras.poses[frame]
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    local = local[local[:, 2] > _IN_FRONT]
    pixels = np.floor(local @ cameras.intrinsics[frame].T / local[:, 2:])[:, :2]
    seen = ((pixels >= 0) & (pixels < [cameras.width, cameras.height])).all(axis=1)
    return local[seen, 2], pixels[seen].astype(int)


def _depth(disparity: np.ndarray) -> np.ndarray:
    """Unlike `disparity_to_depth` below 1, too: in the world's unit things may come nearer."""
    return 1 / np.maximum(disparity, MIN_DISPARITY)


def steadying(disparity: np.ndarray, cameras: Cameras) -> np.ndarray:
    """(F,) factors that take a steady drift out of a window's disparities: 1 for its first frame.

    Args as for :func:`scale_drift`.
    """
    drift = scale_drift(disparity, cameras)
    frames = np.arange(len(drift))
    known = np.isfinite(drift)
    slope = (frames[known] @ drift[known]) / max(frames[known] @ frames[known], 1)
    return np.exp(slope * frames).astype(np.float32)
