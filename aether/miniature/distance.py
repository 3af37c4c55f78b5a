"""How far points are from the synthetic world's surfaces: the truth that point clouds are held to."""

from __future__ import annotations

import numpy as np

from .world import Scene, Solid


def distance_to_surfaces(scene: Scene, points: np.ndarray, time: float = 0.0) -> np.ndarray:
    """(N,) distances in meters to the nearest of the ground and the solids as they are at `time`.

    Args:
        points: (N, 3) in scene axes.
    """
    nearest = np.abs(points[:, 1])
    for solid in scene.solids:
        local = (points - solid.motion.position(time)) @ solid.motion.rotation(time)
        nearest = np.minimum(nearest, _to_solid(solid, local))
    return nearest


def _to_solid(solid: Solid, points: np.ndarray) -> np.ndarray:
    if solid.shape == "sphere":
        return np.abs(np.linalg.norm(points, axis=1) - solid.radius)
    beyond = np.abs(points) - solid.half
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    return np.where(outside > 0, outside, -beyond.max(axis=1))
