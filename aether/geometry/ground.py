"""The ground in a clip: the lowest large plane below the camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from .cameras import Cameras
from .depth import pixel_rays
from .surfaces import FAR

_FRAMES, _ROWS, _TRIES = 9, 24, 500
_STEEPEST = np.cos(np.radians(50))
"""The ground's normal is at most this far from the camera's lower side."""
_CLOSE = 0.05
"""Points within this share of the camera's height from the plane belong to it."""
_ROUNDS = 8
_BELOW = 3.0
"""A point below the plane counts against it as much as this many on it: a table top is no ground."""
_LEAST = 0.05
"""Share of a frame's pixels that the ground must have."""


def camera_height(depth: Any, cameras: Cameras, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """The height of a frame's camera above the ground.

    Args:
        depth: (F, H, W) along z.
        cameras: F cameras of H x W pictures.
        frame: whose camera it is.

    Returns:
        (N,) heights in the depth's unit, one by each of the frames, nine at most, in which the ground is
        found; and (N,) the median distance of its points from the plane, as a share of the height.

    Raises:
        InputError: no frame shows ground.
    """
    frames = np.unique([frame, *np.linspace(0, len(cameras) - 1, _FRAMES).round().astype(int)])
    found = []
    for number in frames:
        plane = _ground(depth[number], cameras, int(number))
        if plane is None:
            continue
        normal, error = plane
        # normal @ (x - center) = 1 on the plane.
        way = cameras.poses[frame, :3, 3] - cameras.poses[number, :3, 3]
        found.append(((1 - normal @ way) / np.linalg.norm(normal), error))
    heights = np.array([one for one in found if one[0] > 0])
    if not len(heights):
        raise InputError(
            "height",
            "no ground was found: no large plane lies below the camera; take a distance or a baseline",
        )
    return heights[:, 0], heights[:, 1]


def _ground(depth: Any, cameras: Cameras, frame: int) -> tuple[np.ndarray, float] | None:
    """The plane of a frame in world axes, as the vector whose product with the way from the camera to its
    points is 1, and their median relative distance from it; None where there is none."""
    depth = finite_array(depth, "depth", (cameras.height, cameras.width))
    side = max(1, min(cameras.height // _ROWS, cameras.width // _ROWS))
    # Of each block of pixels the median, which leaves noise and edges out; 1 / depth is even on a plane.
    middle = 1 / np.median(_blocks(1 / np.maximum(depth, 1e-9), side), axis=(1, 3))
    rays = _blocks(pixel_rays(cameras, frame), side).mean(axis=(1, 3))
    counts = (middle > 1e-6) & (middle < FAR)
    points = (rays * middle[..., None])[counts].astype(np.float64)
    if len(points) < 10:
        return None
    down = cameras.poses[frame, :3, 1]
    normal = _best_plane(points, down)
    if normal is None:
        return None
    for _ in range(_ROUNDS):
        on_plane = np.abs(points @ normal - 1) < _CLOSE
        if on_plane.sum() < 3:
            return None
        normal = np.linalg.lstsq(points[on_plane], np.ones(int(on_plane.sum())), rcond=None)[0]
    errors = np.abs(points @ normal - 1)
    on_plane = errors < _CLOSE
    if counts.mean() * on_plane.mean() < _LEAST or normal @ down < _STEEPEST * np.linalg.norm(normal):
        return None
    return normal, float(np.median(errors[on_plane]))


def _blocks(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, ...) to (rows, side, columns, side, ...); what is over at the ends is left out."""
    rows, columns = (size // side for size in picture.shape[:2])
    whole = picture[: rows * side, : columns * side]
    return whole.reshape(rows, side, columns, side, *picture.shape[2:])


def _best_plane(points: np.ndarray, down: np.ndarray) -> np.ndarray | None:
    """Of planes through three points each, the one with most points on it and few below."""
    triples = np.random.default_rng(0).integers(len(points), size=(_TRIES, 3))
    corners = points[triples]
    solvable = np.abs(np.linalg.det(corners)) > 1e-9 * np.linalg.norm(corners, axis=2).prod(axis=1)
    if not solvable.any():
        return None
    normals = np.linalg.solve(corners[solvable], np.ones((int(solvable.sum()), 3, 1)))[..., 0]
    normals = normals[normals @ down > _STEEPEST * np.linalg.norm(normals, axis=1)]
    if not len(normals):
        return None
    heights = points @ normals.T
    votes = (np.abs(heights - 1) < _CLOSE).sum(axis=0) - _BELOW * (heights > 1 + 3 * _CLOSE).sum(axis=0)
    return normals[votes.argmax()] if votes.max() > 0 else None
