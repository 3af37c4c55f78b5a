"""Fusing a clip's exact depth and cameras: seconds, peak memory, and distance to the true surfaces.

    python -m benchmarks.point_cloud

41 frames of 480 x 720 of the synthetic world. Seconds are those of the clock and of the process's own work,
which differ where other programs run. The peak is the process's, rendering included. Distances are to the
analytic surfaces, as a share of the clip's median depth. Moving objects are left out of the first clips; in
the last ones they are kept, and the distance is to where any surface was in any frame.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from aether.defaults import BASE_FPS
from aether.geometry.cameras import Cameras
from aether.geometry.point_cloud import fuse
from aether.geometry.raymap import from_cameras, to_cameras
from aether.geometry.surfaces import Surfaces
from aether.miniature import random_scene, render
from aether.miniature.distance import distance_to_surfaces
from hero_engine.command_options import whole_number

FRAMES, HEIGHT, WIDTH, FPS = 41, 480, 720, BASE_FPS


def measure(seed: int, moving: bool) -> dict[str, Any]:
    """One clip's numbers."""
    scene = random_scene(seed)
    if not moving:
        scene = replace(scene, solids=tuple(solid for solid in scene.solids if solid.motion.is_static))
    clip = render(scene, FRAMES, HEIGHT, WIDTH, FPS, samples=1, first_camera_is_world=False)
    near = float(clip.depth.min())
    poses = clip.poses.copy()
    poses[:, :3, 3] /= near
    cameras = Cameras(poses, clip.intrinsics, HEIGHT, WIDTH)
    surfaces = Surfaces(clip.depth / near, clip.rgb, cameras, clip.sky)
    start = time.perf_counter(), time.process_time()
    cloud = fuse(surfaces)
    seconds, work = time.perf_counter() - start[0], time.process_time() - start[1]
    points = near * cloud.positions.astype(np.float64)
    times = [frame / FPS for frame in range(FRAMES)] if moving else [0.0]
    distances = np.min([distance_to_surfaces(scene, points, moment) for moment in times], axis=0)
    percent = 100 * distances / near / surfaces.middle_depth()
    pose_error, fov_error = camera_errors(cameras.relative_to_first())
    return {
        "seed": seed,
        "moving": moving,
        "points": len(cloud),
        "seconds": seconds,
        "work_seconds": work,
        "peak_gb": peak_gb(),
        "median_percent": np.median(percent),
        "p99_percent": np.percentile(percent, 99),
        "pose_error": pose_error,
        "fov_error_degrees": fov_error,
    }


def camera_errors(cameras: Cameras) -> tuple[float, float]:
    """Largest error of poses (any entry) and of angles of view (degrees) read off exact raymaps."""
    read = to_cameras(from_cameras(cameras.poses, cameras.intrinsics, HEIGHT, WIDTH))
    angles = np.abs([read.fov_x - cameras.fov_x, read.fov_y - cameras.fov_y]).max()
    return float(np.abs(read.poses - cameras.poses).max()), float(np.degrees(angles))


def peak_gb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def main() -> None:
    """Print a line of JSON per clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=whole_number, nargs="*", default=[9001, 9002, 9003, 9004])
    parser.add_argument("--moving", type=whole_number, nargs="*", default=[9001, 9002])
    arguments = parser.parse_args()
    for seed, moving in [(s, False) for s in arguments.seeds] + [(s, True) for s in arguments.moving]:
        row = measure(seed, moving)
        print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()}))


if __name__ == "__main__":
    main()
