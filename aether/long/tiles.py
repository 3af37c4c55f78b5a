"""Windows in space: a picture wider or taller than the model's, cut into tiles that overlap.

The picture is scaled so that a tile just covers it one way; tiles lie side by side the other way. Each is
reconstructed by itself, with a unit and a world of its own. Disparities are brought together by one factor
per tile, measured on the overlap, and faded over it like the colors; the tiles' cameras become one. Arrays
in, arrays out.

Source: ``process_with_sliding_window`` in the reference's evaluation/video_depth/launch_aether.py, which does
this for disparity. Otherwise than there, the last tile ends at the picture's edge, whatever the rounding; the
factor is that of :func:`aether.long.joining.fit_disparity`; and colors and cameras are put together as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, about
from ..generation.latents import Decoded
from ..geometry.cameras import Cameras
from ..geometry.raymap import SPATIAL_SCALE, from_cameras, to_cameras
from .joining import fit_disparity, fit_similarity

MIN_OVERLAP = 1 / 8
"""Share of a tile that neighbors share at least, as in the reference: 90 of 720 columns, 60 of 480 rows."""


@dataclass(frozen=True)
class Tiles:
    """Where tiles lie in a picture.

    Attributes:
        size: (height, width) of the whole picture in pixels, multiples of 8.
        tile: (height, width) of a tile; one of the two is the picture's.
        starts: first column of each tile, or first row where tiles lie one above the other.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    starts: tuple[int, ...]

    @property
    def axis(self) -> int:
        """0: one above the other. 1: side by side."""
        return int(self.tile[0] == self.size[0])

    def __len__(self) -> int:
        return len(self.starts)

    def cut(self, frames: np.ndarray) -> list[np.ndarray]:
        """The tiles (F, h, w, ...) of pictures (F, height, width, ...)."""
        side = self.tile[self.axis]
        return [frames.take(range(start, start + side), axis=1 + self.axis) for start in self.starts]


def plan_tiles(height: int, width: int, tile: tuple[int, int]) -> Tiles | None:
    """Tiles for a picture of any size and shape; None where it has the shape of one tile.

    Args:
        height, width: of the picture as it is.
        tile: (height, width) that the model takes.
    """
    axis = int(width * tile[0] > height * tile[1])
    long, side = (height, width)[axis], tile[axis]
    whole = int(long * tile[1 - axis] / (width, height)[axis] / SPATIAL_SCALE) * SPATIAL_SCALE
    if whole <= side:
        return None
    count = math.ceil((whole - side) / (side * (1 - MIN_OVERLAP))) + 1
    starts = tuple(round(index * (whole - side) / (count - 1)) for index in range(count))
    size = (tile[0], whole) if axis else (whole, tile[1])
    return Tiles(size, tile, starts)


def merge_tiles(tiles: Tiles, parts: Sequence[Decoded]) -> tuple[Decoded, list[float]]:
    """Put the tiles' results together.

    Every tile's raymap is read as a camera of its own in the one place where the picture's camera is, turned
    to the tile's middle. Turned back and brought into one world, their paths are averaged. The tile nearest
    to the middle gives the world; the unit is the tile's with the nearest depth.

    Args:
        parts: per tile rgb (F, h, w, 3), disparity (F, h, w) and raymap (F, 6, h / 8, w / 8).

    Returns:
        the whole picture's streams, and the factor of each tile's disparities.

    Raises:
        InputError: another number of results; an overlap that gives no scale, with the tiles' numbers.
    """
    if len(parts) != len(tiles):
        raise InputError("parts", f"{len(parts)} results do not fit {len(tiles)} tiles")
    disparity, factors = _join_disparities(tiles, [part.disparity for part in parts])
    rgb = parts[0].rgb
    for part, start in zip(parts[1:], tiles.starts[1:], strict=True):
        rgb = _fade(rgb, part.rgb, start, 1 + tiles.axis)
    middle = (tiles.size[tiles.axis] - tiles.tile[tiles.axis]) / 2
    base = int(np.abs(np.subtract(tiles.starts, middle)).argmin())
    factors = factors / factors[base]
    unit = factors.max()
    cameras = _join_cameras(tiles, [part.raymap for part in parts], factors, base).scaled(unit)
    raymap = from_cameras(cameras.poses, cameras.intrinsics, *tiles.size)
    scale = np.float32(1 / factors[0] * unit)
    return Decoded(rgb, disparity / scale, raymap), (factors / unit).tolist()


def _join_disparities(tiles: Tiles, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """In the first tile's unit, and the factors that brought the others there."""
    axis, factors = 1 + tiles.axis, [1.0]
    joined = parts[0]
    for number, start in enumerate(tiles.starts[1:], start=1):
        overlap = joined.shape[axis] - start
        shared = parts[number].take(range(overlap), axis=axis)
        with about(f"tiles {number} and {number + 1}"):
            factor, _ = fit_disparity(shared, joined.take(range(start, start + overlap), axis=axis))
        factors.append(factor)
        joined = _fade(joined, parts[number] * np.float32(factor), start, axis)
    return joined, np.array(factors)


def _fade(joined: np.ndarray, part: np.ndarray, start: int, axis: int) -> np.ndarray:
    """A part that begins at ``start`` of an axis added to what is joined, faded over what both have."""
    joined, part = np.moveaxis(joined, axis, -1), np.moveaxis(part, axis, -1)
    overlap = joined.shape[-1] - start
    share = np.linspace(0, 1, overlap, dtype=np.float32)
    faded = (1 - share) * joined[..., start:] + share * part[..., :overlap]
    return np.moveaxis(np.concatenate([joined[..., :start], faded, part[..., overlap:]], axis=-1), -1, axis)


def _join_cameras(tiles: Tiles, raymaps: Sequence[np.ndarray], factors: np.ndarray, base: int) -> Cameras:
    from scipy.spatial.transform import Rotation

    paths, focals = [], []
    for raymap, start in zip(raymaps, tiles.starts, strict=True):
        cameras = to_cameras(raymap, *tiles.tile, square_pixels=True)
        focal = cameras.intrinsics[:, 0, 0]
        off = start + (tiles.tile[tiles.axis] - tiles.size[tiles.axis]) / 2
        paths.append(_turned(cameras.poses, np.arctan(off / focal), tiles.axis))
        focals.append(focal)
    fits = [
        fit_similarity(path, paths[base], fallback_scale=1 / factor)[0]
        for path, factor in zip(paths, factors, strict=True)
    ]
    aligned = np.stack([fit.apply(path) for fit, path in zip(fits, paths, strict=True)])
    poses = aligned[base].copy()
    poses[:, :3, 3] = aligned[:, :, :3, 3].mean(axis=0)
    for frame in range(len(poses)):
        poses[frame, :3, :3] = Rotation.from_matrix(aligned[:, frame, :3, :3]).mean().as_matrix()
    height, width = tiles.size
    intrinsics = np.tile(np.diag([1.0, 1.0, 1.0]), (len(poses), 1, 1))
    intrinsics[:, [0, 1], [0, 1]] = np.mean(focals, axis=0)[:, None]
    intrinsics[:, [0, 1], [2, 2]] = width / 2, height / 2
    return Cameras(poses, intrinsics, height, width).relative_to_first()


def _turned(poses: np.ndarray, angles: np.ndarray, axis: int) -> np.ndarray:
    """The picture's camera, of one that is turned from it by angles (F,), to the right or down."""
    from scipy.spatial.transform import Rotation

    back = np.outer(angles, [0, -1, 0] if axis else [1, 0, 0])
    turned = poses.copy()
    turned[:, :3, :3] = poses[:, :3, :3] @ Rotation.from_rotvec(back).as_matrix()
    return turned
