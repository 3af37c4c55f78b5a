"""A camera path drawn in space: a floor, the way, and pyramids that show where the camera looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry.cameras import Cameras
from .contact import ASKED
from .units import SQUARES

_PAPER, _FLOOR, _FAINT, _INK = (24, 24, 27), (52, 52, 58), (113, 113, 122), (228, 228, 231)
_START, _END = np.array((90, 200, 140)), np.array((250, 140, 60))
_YAW, _PITCH = np.radians((-55.0, 26.0))
"""Seen from above, behind and to the right of the first camera, without perspective."""
_SHARPER = 3
"""Drawn larger by this and then scaled down, for smooth lines."""


def draw_frustums(
    cameras: Cameras, width: int = 768, height: int = 512, pyramids: int = 9, *, asked: Cameras | None = None
) -> Any:
    """The path as a PIL picture; the first camera green, the last one orange.

    The floor lies below the path, its squares as large as the caption says; thin lines stand on it under the
    pyramids. Pyramids are the cameras' fields of view, evenly spaced over the frames, their bar on top.

    Args:
        asked: another path from the same first camera, drawn in blue.
    """
    from PIL import Image, ImageDraw

    path = cameras.relative_to_first()
    other = None if asked is None else asked.relative_to_first()
    places = path.poses[:, :3, 3]
    others = places[:0] if other is None else other.poses[:, :3, 3]
    extent = float(np.ptp(np.concatenate([places, others]), axis=0).max())
    reach = 0.18 * extent if extent > 1e-3 else 0.3
    chosen = _spaced(len(path), pyramids)
    shapes = [_pyramid(path, frame, reach) for frame in chosen]
    asked_shapes = [_pyramid(other, frame, reach) for frame in _spaced(len(others), pyramids)]
    everything = np.concatenate([places, others, *shapes, *asked_shapes])
    floor, square = _floor(everything)

    size = np.array([width, height]) * _SHARPER
    picture = Image.new("RGB", tuple(size), _PAPER)
    draw = ImageDraw.Draw(picture)
    place = _projection(np.concatenate([everything, floor.reshape(-1, 3)]), size)
    for line in floor:
        draw.line(place(line), fill=_FLOOR, width=_SHARPER)
    for frame in chosen:
        foot = places[frame] * [1, 0, 1] + [0, floor[0, 0, 1], 0]
        draw.line(place(np.stack([places[frame], foot])), fill=_FLOOR, width=_SHARPER)
    if len(others):
        draw.line(place(others), fill=ASKED, width=2 * _SHARPER, joint="curve")
    for shape in asked_shapes:
        _draw_pyramid(draw, place, shape, ASKED, _SHARPER)
    draw.line(place(places), fill=_INK, width=2 * _SHARPER, joint="curve")
    for frame, shape in zip(chosen, shapes, strict=True):
        share = frame / max(1, len(path) - 1)
        color = tuple(int(c) for c in _START + share * (_END - _START))
        ends = frame in (chosen[0], chosen[-1])
        _draw_pyramid(draw, place, shape, color, (2 if ends else 1) * _SHARPER)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    _caption(picture, len(path), square, cameras.unit, asked is not None)
    return picture


def _spaced(frames: int, count: int) -> np.ndarray:
    """Frames evenly spaced from the first to the last of so many."""
    return np.unique(np.linspace(0, frames - 1, count).round().astype(int)) if frames else np.empty(0, int)


_EDGES = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1], [5, 6]]


def _draw_pyramid(draw: Any, place: Any, shape: np.ndarray, color: Any, width: int) -> None:
    for edge in _EDGES:
        draw.line(place(shape[edge]), fill=color, width=width)


def _pyramid(path: Cameras, frame: int, reach: float) -> np.ndarray:
    """(7, 3): the camera, its picture's corners from the upper left clockwise, and a bar above."""
    x, y = np.tan(path.fov_x[frame] / 2), np.tan(path.fov_y[frame] / 2)
    shape = np.array(
        [
            [0, 0, 0],
            [-x, -y, 1],
            [x, -y, 1],
            [x, y, 1],
            [-x, y, 1],
            [-x / 3, -1.2 * y, 1],
            [x / 3, -1.2 * y, 1],
        ]
    )
    pose = path.poses[frame]
    return shape * (reach / max(x, y, 1)) @ pose[:3, :3].T + pose[:3, 3]


def _floor(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Lines (N, 2, 3) of a grid under the points, and its squares' side: about a tenth of the whole, and
    1, 2 or 5 times a power of ten."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max())
    ten = 10.0 ** np.floor(np.log10(span / 10))
    square = float(ten * next(step for step in (1, 2, 5, 10) if ten * step >= span / 10))
    (x0, _, z0), (x1, _, z1) = np.floor(low / square) * square, np.ceil(high / square) * square
    y = high[1] + 0.1 * span
    across = [[[x0, y, z], [x1, y, z]] for z in np.arange(z0, z1 + square / 2, square)]
    along = [[[x, y, z0], [x, y, z1]] for x in np.arange(x0, x1 + square / 2, square)]
    return np.array(across + along), square


def _projection(points: np.ndarray, size: np.ndarray) -> Any:
    """A function from (N, 3) to a list of pixels that brings all ``points`` into the picture."""
    right = np.array([np.cos(_YAW), 0, -np.sin(_YAW)])
    down = np.array([-np.sin(_YAW) * np.sin(_PITCH), np.cos(_PITCH), -np.cos(_YAW) * np.sin(_PITCH)])
    view = np.stack([right, down], axis=1)
    flat = points @ view
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = (0.88 * size / np.maximum(high - low, 1e-9)).min()
    return lambda some: [tuple(p) for p in (some @ view - (low + high) / 2) * scale + size / 2]


def _caption(picture: Any, frames: int, square: float, unit: str, has_asked: bool) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    if has_asked:
        draw.text((82, 22), "asked for", fill=ASKED)
    draw.text((10, 8), f"{frames} frames", fill=_FAINT)
    draw.text((10, 22), "first", fill=tuple(int(c) for c in _START))
    draw.text((44, 22), "last", fill=tuple(int(c) for c in _END))
    draw.text((10, picture.height - 20), f"a square is {square:g} {SQUARES[unit]}", fill=_FAINT)
