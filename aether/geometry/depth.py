"""Depth and what it shows: disparity to depth, edges, points in the world."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import finite_array
from .cameras import Cameras

MIN_DISPARITY = 1e-3
"""Disparities below this count as this: nothing is farther than 1000 times the unit."""


def picture_to_disparity(picture: Any) -> Any:
    """Disparity (F, H, W) of a decoded disparity stream (3, F, H, W) in about [-1, 1], an array or a tensor.

    Every channel holds the square root of the disparity, moved to [-1, 1].
    Source: the end of ``__call__`` of the reference pipeline.
    """
    root = picture.mean(0) * 0.5 + 0.5
    return root * root


def disparity_to_depth(disparity: Any) -> np.ndarray:
    """Depth along z, float32, of any shape: 1 / disparity, the disparity limited to [0.001, 1].

    Aether's disparity is divided by its maximum, so depth is at least 1 and in units of the nearest depth.
    Source: ``postprocess_pointmap`` of the reference.
    """
    return (1.0 / np.clip(np.asarray(disparity, dtype=np.float32), MIN_DISPARITY, 1.0)).astype(np.float32)


def depth_edges(depth: np.ndarray, relative: float = 0.2) -> np.ndarray:
    """Where depth jumps: (F, H, W) bool, true where the 3x3 neighbourhood spans over ``relative`` of the
    depth.

    Points there lie between a near and a far surface and belong to neither.
    Source: ``depth_edge`` of the reference, with the tolerance of its demo.
    """
    depth = finite_array(depth, "depth", (None, None, None))
    edges = np.empty(depth.shape, dtype=bool)
    for frame, picture in enumerate(depth):
        edges[frame] = _span(picture) > relative * picture
    return edges


def edge_confidence(depth: np.ndarray, relative: float = 0.2) -> np.ndarray:
    """How far from a jump of the depth a pixel is: (H, W) float32, 1 on flat parts down to 0 at what
    :func:`depth_edges` finds.

    Args:
        depth: (H, W), positive.
        relative: the jump in the 3x3 neighbourhood, as a share of the depth, from which confidence is 0.
    """
    return np.clip(1 - _span(depth) / (relative * depth), 0, 1).astype(np.float32)


def _span(picture: np.ndarray) -> np.ndarray:
    """(H, W): largest minus smallest depth of the 3x3 neighbourhood."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return maximum_filter(picture, 3, mode="nearest") - minimum_filter(picture, 3, mode="nearest")


def point_map(depth: Any, cameras: Cameras) -> np.ndarray:
    """World position of every pixel, (F, H, W, 3) float32: depth times the pixel's ray (z = 1) plus the
    origin.

    Args:
        depth: (F, H, W) depth along z.
        cameras: F cameras of H x W pictures.

    Raises:
        InputError: shapes that do not fit, NaN or infinite depth.
    """
    depth = finite_array(depth, "depth", (len(cameras), cameras.height, cameras.width))
    points = np.empty((*depth.shape, 3), dtype=np.float32)
    # Frame by frame, so that only the result itself is large.
    for frame in range(len(cameras)):
        rays = pixel_rays(cameras, frame).astype(np.float32)
        np.multiply(rays, depth[frame, ..., None], out=points[frame])
        points[frame] += cameras.poses[frame, :3, 3].astype(np.float32)
    return points


def pixel_rays(cameras: Cameras, frame: int) -> np.ndarray:
    """(H, W, 3) float64 directions in the world through the pixel centres of one frame, 1 long along z."""
    intrinsics, rotation = cameras.intrinsics[frame], cameras.poses[frame, :3, :3]
    x = (np.arange(cameras.width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(cameras.height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return plane_rays(x, y, rotation)


def plane_rays(x: np.ndarray, y: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(len(y), len(x), 3): the points (x, y, 1) of a camera's z = 1 plane, turned by its rotation."""
    return x[None, :, None] * rotation[:, 0] + y[:, None, None] * rotation[:, 1] + rotation[:, 2]
