"""Point clouds of a clip: one frame's pixels, or all frames fused in a grid of voxels; and PLY files of them.

Fusing holds the grid and one frame. A voxel's point is the mean of the pixels in it, weighted by their
confidence. All frames count alike: what moves is where it was in every frame, and leaves a trail;
``min_views`` takes out what few frames have seen in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from .cameras import NEAREST, points_to_gltf
from .surfaces import Surfaces

VOXEL_SHARE = 0.005
"""A voxel's side as a share of the scene's middle depth, where none is given."""
MAX_POINTS = 5_000_000
"""About 0.9 GB while they are fused."""
_BITS = 21
_REACH = 1 << (_BITS - 1)
"""Voxels to each side of the origin: three whole numbers of 21 bits make one of 63."""


@dataclass(frozen=True)
class PointCloud:
    """Colored points.

    Attributes:
        positions: (N, 3) float32.
        colors: (N, 3) uint8.
        confidence: (N,) float32 in (0, 1].
        unit: of the positions, see `aether.geometry.cameras.Cameras`.
    """

    positions: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    unit: str = NEAREST

    def __len__(self) -> int:
        return len(self.positions)

    def to_gltf(self) -> PointCloud:
        """The same points with glTF's axes, y up and z backwards, as 3D viewers have them."""
        return replace(self, positions=points_to_gltf(self.positions))


def frame_cloud(surfaces: Surfaces, frame: int) -> PointCloud:
    """Every pixel of one frame that is not left out; -1 is the last frame.

    Raises:
        InputError: no such frame, and what `Surfaces` refuses.
    """
    frame = surfaces.check_frame(frame)
    confidence = surfaces.confidence_of(frame)
    kept = confidence > 0
    points, colors = surfaces.points_of(frame)[kept], surfaces.colors_of(frame)[kept]
    return PointCloud(points, colors, confidence[kept], surfaces.cameras.unit)


def fuse(
    surfaces: Surfaces,
    voxel_size: float | None = None,
    *,
    min_views: int = 1,
    max_points: int = MAX_POINTS,
    progress: Callable[[int], None] | None = None,
) -> PointCloud:
    """All frames in one cloud, a point per voxel.

    Args:
        voxel_size: a voxel's side, in the unit of the depth. None: 0.5 % of the scene's middle depth, doubled
            for as long as that makes too many points.
        min_views: voxels that fewer frames have seen are left out.
        max_points: most voxels at any time, which bounds the memory.
        progress: called with the number of frames done.

    Returns:
        The cloud, sorted by place; empty where all pixels are left out.

    Raises:
        InputError: voxel_size not positive, or too small for the scene's extent or for ``max_points``;
            min_views below 1; what `Surfaces` refuses.
    """
    if voxel_size is not None and not (np.isfinite(voxel_size) and voxel_size > 0):
        raise InputError("voxel_size", f"{voxel_size} must be a positive length")
    if not 1 <= min_views <= len(surfaces):
        raise InputError("min_views", f"{min_views} is not within 1 to the {len(surfaces)} frames there are")
    grid = VoxelGrid(voxel_size or VOXEL_SHARE * (surfaces.middle_depth() or 1))
    for frame in range(len(surfaces)):
        cloud = frame_cloud(surfaces, frame)
        while voxel_size is None and grid.reach(cloud) >= 1:
            grid.coarsen()
        grid.add(cloud)
        while len(grid) > max_points:
            if voxel_size is not None:
                times = np.sqrt(len(grid) / (frame + 1) * len(surfaces) / max_points)
                raise InputError(
                    "voxel_size",
                    f"makes more than {max_points:,} points by frame {frame + 1} of {len(surfaces)}, too "
                    f"many for the memory; take it about {np.ceil(10 * times) / 10:g} times as large",
                )
            grid.coarsen()
        if progress:
            progress(frame + 1)
    return replace(grid.cloud(min_views), unit=surfaces.cameras.unit)


class VoxelGrid:
    """Sums over the points in each occupied voxel.

    Args:
        size: of a voxel, in the points' unit.
    """

    # Rows of the sums: weight, position times weight, color times weight, points, frames.
    _ROWS = 9

    def __init__(self, size: float) -> None:
        self.size = size
        self._keys = np.empty(0, np.int64)
        self._sums = np.empty((self._ROWS, 0), np.float32)

    def __len__(self) -> int:
        return len(self._keys)

    def reach(self, cloud: PointCloud) -> float:
        """How far out the points lie; from 1 on the grid does not hold them."""
        return float(np.abs(cloud.positions).max(initial=0)) / (self.size * (_REACH - 1))

    def add(self, cloud: PointCloud) -> None:
        """Add a frame's points.

        Raises:
            InputError: a point too many voxels away from the origin.
        """
        if self.reach(cloud) >= 1:
            times = np.ceil(10 * self.reach(cloud) + 0.1) / 10
            raise InputError(
                "voxel_size",
                f"is too small for how far the points reach; take it at least {times:g} times as large",
            )
        cells = np.floor(cloud.positions / self.size).astype(np.int64)
        keys, inverse = np.unique(_pack(cells.T), return_inverse=True)
        weights = cloud.confidence
        columns = [weights, *(cloud.positions * weights[:, None]).T, *(cloud.colors * weights[:, None]).T]
        sums = [np.bincount(inverse, column, len(keys)) for column in columns]
        sums += [np.bincount(inverse, minlength=len(keys)), np.ones(len(keys))]
        self._merge(keys, np.stack(sums).astype(np.float32))

    def coarsen(self) -> None:
        """Make voxels twice as large; eight become one."""
        self.size *= 2
        part, held = (1 << _BITS) - 1, self._keys
        cells = np.stack([held >> 2 * _BITS, held >> _BITS & part, held & part]) - _REACH
        keys, inverse = np.unique(_pack(cells >> 1), return_inverse=True)
        # A voxel's frames are at least those of the most seen of the eight.
        frames = np.zeros(len(keys), np.float32)
        np.maximum.at(frames, inverse, self._sums[-1])
        sums = [np.bincount(inverse, row, len(keys)) for row in self._sums[:-1]]
        self._keys, self._sums = keys, np.stack([*sums, frames]).astype(np.float32)

    def cloud(self, min_views: int = 1) -> PointCloud:
        """A point for every voxel that at least so many frames have seen."""
        sums = self._sums[:, self._sums[-1] >= min_views]
        weight, (positions, colors), points = sums[0], sums[1:7].reshape(2, 3, -1), sums[7]
        return PointCloud(
            (positions / weight).T.astype(np.float32),
            np.clip(colors / weight + 0.5, 0, 255).T.astype(np.uint8),
            weight / points,
        )

    def _merge(self, keys: np.ndarray, sums: np.ndarray) -> None:
        """Add voxels, sorted by key, to those there are."""
        place = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == keys[inside]
        self._sums[:, place[known]] += sums[:, known]
        self._keys = np.insert(self._keys, place[~known], keys[~known])
        self._sums = np.insert(self._sums, place[~known], sums[:, ~known], axis=1)


def write_ply(target: str | Path | IO[bytes], cloud: PointCloud) -> None:
    """A binary PLY file: x, y, z, red, green, blue and confidence of every point; a comment states the unit.

    Args:
        target: a path, or a stream to write into.
    """
    from plyfile import PlyData, PlyElement

    kinds = {"f4": ("x", "y", "z"), "u1": ("red", "green", "blue")}
    fields = [(name, f"<{kind}") for kind, names in kinds.items() for name in names]
    vertices = np.empty(len(cloud), dtype=[*fields, ("confidence", "<f4")])
    columns = [*cloud.positions.T, *cloud.colors.T, cloud.confidence]
    for name, column in zip(vertices.dtype.names, columns, strict=True):
        vertices[name] = column
    stream = str(target) if isinstance(target, Path) else target
    element = PlyElement.describe(vertices, "vertex")
    PlyData([element], byte_order="<", comments=[f"unit of length: {cloud.unit}"]).write(stream)


def _pack(cells: np.ndarray) -> np.ndarray:
    """(3, N) voxels to (N,) keys."""
    x, y, z = cells + _REACH
    return (x << 2 * _BITS) | (y << _BITS) | z
