"""One frame's pixels as a mesh, cut where the depth jumps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .cameras import NEAREST
from .surfaces import NOTHING_LEFT, Surfaces


@dataclass(frozen=True)
class Mesh:
    """Triangles with a picture on them.

    Attributes:
        vertices: (V, 3) float32 in the cameras' world.
        faces: (T, 3) uint32, counterclockwise as the camera sees them.
        uvs: (V, 2) float32, (0, 0) the picture's upper left corner.
        picture: (H, W, 3) uint8.
        unit: of the vertices, see `aether.geometry.cameras.Cameras`.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    picture: np.ndarray
    unit: str = NEAREST


def frame_mesh(surfaces: Surfaces, frame: int, step: int = 1) -> Mesh:
    """Two triangles between every four pixels of a frame that are not left out, nor any pixel among them.

    Args:
        frame: which one; -1 is the last.
        step: every so many pixels are a vertex; the picture keeps its size.

    Raises:
        InputError: no such frame; a step below 1; nothing left; what `Surfaces` refuses.
    """
    if step < 1:
        raise InputError("step", f"{step} must be at least 1")
    frame = surfaces.check_frame(frame)
    height, width = surfaces.size
    quads = _whole_quads(surfaces.confidence_of(frame) > 0, step)
    if not quads.any():
        raise InputError("frame", f"{frame}: {NOTHING_LEFT}")
    grid = np.arange((quads.shape[0] + 1) * (quads.shape[1] + 1)).reshape(np.add(quads.shape, 1))
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    a, b, c, d = (corner[quads] for corner in corners)
    used, faces = np.unique(
        np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), return_inverse=True
    )
    rows, columns = np.divmod(used, grid.shape[1])
    rows, columns = rows * step, columns * step
    return Mesh(
        surfaces.points_of(frame)[rows, columns],
        faces.reshape(-1, 3).astype(np.uint32),
        np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1).astype(np.float32),
        surfaces.colors_of(frame),
        surfaces.cameras.unit,
    )


def _whole_quads(kept: np.ndarray, step: int) -> np.ndarray:
    """Which squares of ``step`` pixels' side have all of their pixels, corners included."""
    rows, columns = (side // step for side in np.subtract(kept.shape, 1))
    whole = np.ones((rows, columns), bool)
    for down in range(step + 1):
        for right in range(step + 1):
            whole &= kept[down::step, right::step][:rows, :columns]
    return whole
