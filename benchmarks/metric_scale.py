"""How well each way of finding meters works on what the miniature reconstructs, and what spread it reports.

    python -m benchmarks.metric_scale

Held-out scenes of the synthetic world, reconstructed in 30 steps; the true factor is the one that fits the
depth to the true depth up to eight times the nearest (least absolute error). What is known is taken from the
scene: the height of the first camera, the distance of two pixels of the first frame, the way from the first
camera to the last, the true depth. Printed are factors relative to the true one, and the reported spread.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from aether.errors import InputError
from aether.geometry.cameras import Cameras
from aether.geometry.depth import disparity_to_depth
from aether.geometry.metric_scale import (
    scale_by_baseline,
    scale_by_depth,
    scale_by_distance,
    scale_by_height,
)
from aether.geometry.metrics import depth_errors
from aether.miniature import build, random_scene, render
from aether.run import job
from hero_engine.command_options import whole_number

FRAMES, HEIGHT, WIDTH = 17, 64, 96
PIXELS = (20, 58), (76, 58)
"""Of the first frame: on the ground in these scenes."""
DEEPEST = 8.0


def measure(model: Any, seed: int, steps: int) -> dict[str, str]:
    """One scene: way to "factor (spread)"."""
    world = render(random_scene(seed), FRAMES, HEIGHT, WIDTH)
    own = render(random_scene(seed), 1, 8, 12, samples=1, first_camera_is_world=False)
    meters = np.where(world.sky, np.nan, world.depth)
    inputs = job.gather(model, "reconstruction", {"video": f"synthetic:{seed}"})
    result = job.run(model, inputs, job.Settings(steps=steps, seed=0))
    depth, cameras = disparity_to_depth(result.decoded.disparity), result.cameras
    limit = DEEPEST * float(world.depth.min())
    true = depth_errors(depth, meters, align="scale-l1", max_depth=limit).scale
    lens = Cameras(world.poses, world.intrinsics, HEIGHT, WIDTH)
    known = Cameras(cameras.poses, world.intrinsics, HEIGHT, WIDTH)
    ends = [_point(meters[0], lens, *pixel) for pixel in PIXELS]
    distance, way = np.linalg.norm(ends[0] - ends[1]), np.linalg.norm(world.poses[-1, :3, 3])
    height = float(-own.poses[0, 1, 3])
    ways = {
        "distance": lambda: scale_by_distance(depth, cameras, float(distance), *PIXELS),
        "distance, lens known": lambda: scale_by_distance(depth, known, float(distance), *PIXELS),
        "height": lambda: scale_by_height(depth, cameras, height),
        "height, lens known": lambda: scale_by_height(depth, known, height),
        "baseline": lambda: scale_by_baseline(cameras, float(way)),
        "metric depth": lambda: scale_by_depth(depth, meters),
    }
    return {name: _shown(find, true) for name, find in ways.items()}


def _point(meters: np.ndarray, cameras: Cameras, column: int, row: int) -> np.ndarray:
    k = cameras.intrinsics[0]
    x, y = (column + 0.5 - k[0, 2]) / k[0, 0], (row + 0.5 - k[1, 2]) / k[1, 1]
    return np.array([x, y, 1]) * meters[row, column]


def _shown(find: Any, true: float) -> str:
    try:
        scale = find()
    except InputError as error:
        return error.field
    return f"{scale.factor / true:.3f} ({100 * scale.spread:.1f} %)"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=whole_number, nargs="*", default=[501, 502, 503, 504])
    parser.add_argument("--steps", type=whole_number, default=30)
    arguments = parser.parse_args()
    model = build()
    rows = [measure(model, seed, arguments.steps) for seed in arguments.seeds]
    print(f"| known | {' | '.join(f'scene {seed}' for seed in arguments.seeds)} |")
    print("|---|" + "---|" * len(rows))
    for name in rows[0]:
        print(f"| {name} | {' | '.join(row[name] for row in rows)} |")


if __name__ == "__main__":
    main()
