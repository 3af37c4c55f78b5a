"""Aether's raymap: cameras written as a picture, six numbers per latent cell.

Channels 0-2 hold the direction of the ray through the cell, in the world frame (that of the first camera),
where it meets the camera's z = 1 plane (not of unit length); channels 3-5 hold the ray's origin times ten as
sign(x) * log(1 + |x|), the same for the whole frame.
Source: ``camera_pose_to_raymap`` and ``raymap_to_poses`` in the reference's postprocess_utils.py, and the
packing in its pipeline.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from ..arrays import finite_array
from ..errors import InputError
from .cameras import FOUND, Cameras, cameras_from_fov
from .depth import plane_rays

SPATIAL_SCALE = 8
"""Pixels per raymap cell and axis."""
TEMPORAL_SCALE = 4
"""Video frames per latent frame."""
ORIGIN_SCALE = 10.0
"""Origins are multiplied by this before the logarithm."""

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def signed_log1p(x: np.ndarray) -> np.ndarray:
    """sign(x) * log(1 + |x|)."""
    return np.sign(x) * np.log1p(np.abs(x))


def signed_log1p_inverse(x: np.ndarray) -> np.ndarray:
    """sign(x) * (exp(|x|) - 1)."""
    return np.sign(x) * np.expm1(np.abs(x))


def from_cameras(
    poses: Any, intrinsics: Any, height: int, width: int, *, scale: float = 1.0, pixel_center: float = 0.5
) -> np.ndarray:
    """The raymap of a camera path.

    The reference makes full-size rays and resamples them bilinearly to an eighth. Rays of a pinhole are
    linear in the pixel, so a cell's value is the ray through the middle of its 8x8 pixels, which is what is
    computed here.

    Args:
        poses: (F, 4, 4) camera to world, OpenCV axes. Aether's raymaps are in the first camera's frame: see
            ``Cameras.relative_to_first``.
        intrinsics: (F, 3, 3) in pixels of a height x width picture.
        height, width: the picture's size in pixels, multiples of 8.
        scale: multiplies the positions: the largest disparity of the clip (1 / nearest depth) where its depth
            is known, since Aether's depth is in units of the nearest depth. 1 leaves them.
        pixel_center: where the intrinsics put a pixel's centre. 0.5 is this project's convention (middle of
            the picture at width / 2). 0 is what the reference's encoder assumes of its intrinsics (middle at
            (width - 1) / 2), although its reader and its point maps use 0.5; with 0 the result is the
            reference's for the same numbers.

    Returns:
        (F, 6, height / 8, width / 8) float32.

    Raises:
        InputError: cameras that :class:`Cameras` refuses, a size that is not a multiple of 8, a scale that is
            not positive and finite, another pixel centre.
    """
    cameras = Cameras(poses, intrinsics, height, width)
    if not (np.isfinite(scale) and scale > 0):
        raise InputError("scale", f"{scale} must be a positive number")
    if pixel_center not in (0, 0.5):
        raise InputError("pixel_center", f"{pixel_center} must be 0 or 0.5")
    columns, rows = _cells("width", width), _cells("height", height)
    raymap = np.empty((len(cameras), 6, rows, columns), dtype=np.float32)
    u = (np.arange(columns) + 0.5) * SPATIAL_SCALE - 0.5 + pixel_center
    v = (np.arange(rows) + 0.5) * SPATIAL_SCALE - 0.5 + pixel_center
    for frame, (pose, k) in enumerate(zip(cameras.poses, cameras.intrinsics, strict=True)):
        rays = plane_rays((u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], pose[:3, :3])
        raymap[frame, :3] = rays.transpose(2, 0, 1)
        raymap[frame, 3:] = signed_log1p(pose[:3, 3] * (scale * ORIGIN_SCALE))[:, None, None]
    return raymap


def to_cameras(
    raymap: Any, height: int | None = None, width: int | None = None, *, square_pixels: bool = False
) -> Cameras:
    """The camera path that a raymap describes.

    Position: mean of the origins. Viewing axis: mean of the directions. x axis: from the left to the right
    border column, made orthogonal to the viewing axis. Angles of view: from the extent between border columns
    and rows. Poses and angles of view are the reference's, on noisy raymaps too. They are exact where the
    raymap is that of pinhole cameras with the principal point in the middle of the picture; with the
    principal point elsewhere the viewing axis read is that through the middle of the picture, not the
    camera's. The angles of view take it that directions end on the z = 1 plane: where a prediction has them
    all too long, the angle is read too wide. They hang on the outer columns and rows alone, so noise there is
    not averaged out.

    Args:
        raymap: (F, 6, h, w) with h and w at least 2.
        height, width: of the pictures the intrinsics are for; default 8 h and 8 w.
        square_pixels: one focal length per frame, the mean of both axes', as the reference uses for its point
            maps. Right for what Aether predicts (its cameras have square pixels, its raymaps are noisy).
            False keeps both as read, exact where they truly differ.

    Raises:
        InputError: wrong shape, NaN or infinite values, directions that no camera can have.
    """
    raymap = finite_array(raymap, "raymap", (None, 6, None, None)).astype(np.float64)
    frames, _, rows, columns = raymap.shape
    if rows < 2 or columns < 2:
        raise InputError("raymap", f"is {rows} x {columns} cells; a camera can be read from 2 x 2 or more")
    height = SPATIAL_SCALE * rows if height is None else height
    width = SPATIAL_SCALE * columns if width is None else width

    rotations, span_x, span_y = _read_directions(raymap[:, :3])
    poses = np.zeros((frames, 4, 4))
    poses[:, :3, :3] = rotations
    with np.errstate(over="ignore"):
        poses[:, :3, 3] = signed_log1p_inverse(raymap[:, 3:]).mean(axis=(2, 3)) / ORIGIN_SCALE
    if not np.isfinite(poses).all():
        raise InputError("raymap", "the origins (channels 3-5, a logarithm) are too large for numbers")
    poses[:, 3, 3] = 1

    fovs = (2 * np.arctan(span / 2) for span in (span_x, span_y))
    cameras = cameras_from_fov(poses, *fovs, height, width, FOUND)
    if square_pixels:
        focals = cameras.intrinsics[:, [0, 1], [0, 1]]
        cameras.intrinsics[:, [0, 1], [0, 1]] = focals.mean(axis=1, keepdims=True)
    return cameras


def pack(raymap: Array) -> Array:
    """Raymap of F frames to the latent's channels: (F, 6, h, w) to (T, 24, h, w), T = ceil(F / 4).

    As in the reference: padded in front to a multiple of four by repeating the first frames in their order
    (41 become 44: frames 0, 1, 2, then all), then read as four runs of T frames: latent frame t holds frames
    t, T + t, 2T + t and 3T + t of the padded clip. So its 24 channels are **not** four consecutive frames.

    Raises:
        InputError: wrong shape, fewer frames than the padding repeats.
    """
    if raymap.ndim != 4 or raymap.shape[1] != 6:
        raise InputError(
            "raymap", f"has shape {tuple(raymap.shape)}; it must be (frames, 6, height / 8, width / 8)"
        )
    missing = -len(raymap) % TEMPORAL_SCALE
    if len(raymap) < max(missing, 1):
        raise InputError("raymap", f"{len(raymap)} frames are too few to be packed by fours")
    join = torch.cat if isinstance(raymap, torch.Tensor) else np.concatenate
    padded = join([raymap[:missing], raymap])
    rows, columns = raymap.shape[2:]
    runs = padded.reshape(TEMPORAL_SCALE, -1, 6, rows, columns)
    return runs.swapaxes(0, 1).reshape(-1, 6 * TEMPORAL_SCALE, rows, columns)


def unpack(packed: Array, frames: int) -> Array:
    """The last ``frames`` frames of a packed raymap: (T, 24, h, w) to (F, 6, h, w). Undoes :func:`pack`.

    Raises:
        InputError: wrong shape, more frames asked for than there are.
    """
    if packed.ndim != 4 or packed.shape[1] != 6 * TEMPORAL_SCALE:
        raise InputError(
            "raymap", f"packed shape {tuple(packed.shape)}; it must be (latent frames, 24, h, w)"
        )
    if not 1 <= frames <= TEMPORAL_SCALE * len(packed):
        raise InputError(
            "frames", f"{frames} is not within the 1 to {TEMPORAL_SCALE * len(packed)} that are packed"
        )
    rows, columns = packed.shape[2:]
    runs = packed.reshape(-1, TEMPORAL_SCALE, 6, rows, columns)
    return runs.swapaxes(0, 1).reshape(-1, 6, rows, columns)[-frames:]


def _read_directions(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations (F, 3, 3) and the picture's width and height on the z = 1 plane, (F,) each."""
    rows, columns = directions.shape[2:]
    forward = directions.mean(axis=(2, 3))
    right = (directions[..., -1] - directions[..., 0]).mean(axis=2)
    down = (directions[:, :, -1] - directions[:, :, 0]).mean(axis=2)
    length = np.linalg.norm(forward, axis=1, keepdims=True)
    z_axis = forward / np.maximum(length, 1e-12)
    # Spans run from the middle of the first cell to that of the last; the picture is one cell wider.
    span_x = np.linalg.norm(np.cross(z_axis, right), axis=1) * columns / (columns - 1)
    span_y = np.linalg.norm(np.cross(z_axis, down), axis=1) * rows / (rows - 1)
    unreadable = (length[:, 0] < 1e-6) | (span_x < 1e-6) | (span_y < 1e-6)
    if unreadable.any():
        frame = int(unreadable.argmax())
        raise InputError("raymap", f"the directions of frame {frame} all point one way or cancel out")
    y_axis = np.cross(z_axis, right)
    y_axis /= np.linalg.norm(y_axis, axis=1, keepdims=True)
    return np.stack([np.cross(y_axis, z_axis), y_axis, z_axis], axis=2), span_x, span_y


def _cells(field: str, pixels: int) -> int:
    if pixels % SPATIAL_SCALE:
        raise InputError(field, f"{pixels} is not a multiple of {SPATIAL_SCALE}")
    return pixels // SPATIAL_SCALE
