"""Fusing a clip's exact depth and cameras: seconds, peak memory, and distance to the true surfaces.

    python -m benchmarks.point_cloud

41 frames of 480 x 720 of the synthetic world, rendered to a file first, so that the peak is that of a
process which only loads the clip and fuses it. Seconds are those of the clock and of the process's own work:
they differ where other programs run. Distances are to the analytic surfaces, as a share of the clip's median
depth. Moving objects are left out of the first clips; in the last ones they are kept, and the distance is to
where any surface was in any frame.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from aether.geometry import Cameras
from aether.miniature import Scene, random_scene, render
from aether.miniature.distance import distance_to_surfaces
from aether.point_cloud import PointCloud, fuse
from aether.raymap import from_cameras, to_cameras
from aether.surfaces import Surfaces

FRAMES, HEIGHT, WIDTH, FPS = 41, 480, 720, 12


def static(scene: Scene) -> Scene:
    """The scene without what moves in it."""
    return replace(scene, solids=tuple(solid for solid in scene.solids if solid.motion.is_static))


def render_to(path: str, scene: Scene) -> None:
    """Write a clip's arrays, in the unit of its nearest depth."""
    clip = render(scene, FRAMES, HEIGHT, WIDTH, FPS, samples=1, first_camera_is_world=False)
    near = clip.depth.min()
    poses = clip.poses.copy()
    poses[:, :3, 3] /= near
    np.savez(
        path, rgb=clip.rgb, depth=clip.depth / near, mask=clip.sky, poses=poses,
        intrinsics=clip.intrinsics, near=near,
    )  # fmt: skip


def fuse_file(path: str, queue: multiprocessing.Queue) -> None:
    """Load a clip and fuse it.

    Puts (cloud, seconds of clock and work, peak in GB, median depth) into the queue.
    """
    clip = np.load(path)
    surfaces = Surfaces(
        clip["depth"], clip["rgb"], Cameras(clip["poses"], clip["intrinsics"], HEIGHT, WIDTH), clip["mask"]
    )
    start = time.perf_counter(), time.process_time()
    cloud = fuse(surfaces)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak /= 1e9 if sys.platform == "darwin" else 1e6
    queue.put((cloud, seconds, peak, surfaces.middle_depth()))


def in_process(target: object, *arguments: object) -> object:
    """What ``target`` puts into the queue it is given, run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    found = queue.get()
    process.join()
    return found


def distances(scene: Scene, cloud: PointCloud, near: float, times: list[float]) -> np.ndarray:
    """(N,) distances in the unit of the nearest depth to the surfaces at the nearest of ``times``."""
    points = cloud.positions.astype(np.float64) * near
    return np.min([distance_to_surfaces(scene, points, moment) for moment in times], axis=0) / near


def camera_errors(path: str) -> tuple[float, float]:
    """Largest error of poses (any entry) and of angles of view (degrees) read off exact raymaps."""
    clip = np.load(path)
    cameras = Cameras(clip["poses"], clip["intrinsics"], HEIGHT, WIDTH).relative_to_first()
    read = to_cameras(from_cameras(cameras.poses, cameras.intrinsics, HEIGHT, WIDTH))
    angles = np.degrees(np.abs([read.fov_x - cameras.fov_x, read.fov_y - cameras.fov_y]).max())
    return float(np.abs(read.poses - cameras.poses).max()), float(angles)


def main() -> None:
    """Print a line of JSON per clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[9001, 9002, 9003, 9004])
    parser.add_argument("--moving", type=int, nargs="*", default=[9001, 9002])
    arguments = parser.parse_args()
    runs = [(seed, False) for seed in arguments.seeds] + [(seed, True) for seed in arguments.moving]
    with tempfile.TemporaryDirectory() as folder:
        for seed, moving in runs:
            scene = random_scene(seed) if moving else static(random_scene(seed))
            path = str(Path(folder, f"{seed}-{moving}.npz"))
            render_to(path, scene)
            cloud, seconds, peak, depth = in_process(fuse_file, path)
            times = [frame / FPS for frame in range(FRAMES)] if moving else [0.0]
            percent = 100 * distances(scene, cloud, float(np.load(path)["near"]), times) / depth
            poses, angles = camera_errors(path)
            row = {
                "seed": seed, "moving": moving, "points": len(cloud), "seconds": seconds[0],
                "work_seconds": seconds[1], "peak_gb": peak, "median_percent": np.median(percent),
                "p99_percent": np.percentile(percent, 99), "pose_error": poses,
                "fov_error_degrees": angles,
            }  # fmt: skip
            print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()}))


if __name__ == "__main__":
    main()
