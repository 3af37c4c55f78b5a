"""Walks of the miniature through held-out scenes: is the path followed, does scale or color drift, is a place
the same when the camera comes back?

    OMP_NUM_THREADS=1 python -m benchmarks.explore [follow] [return] [continue] [memory]

Scenes 501 to 504 of the synthetic world, whose moving objects are left out, 17 frames of 64 x 96 a window.
The miniature has not seen them. Every scene's own camera path is followed over 8 windows, from its first
picture alone; the truth is rendered along the same path. What is measured stands beside each figure.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aether.defaults import BASE_FPS
from aether.explore.chain import Chain
from aether.explore.parts import Plan, longer, plan_windows
from aether.explore.steadying import scale_drift
from aether.explore.walk import Options, Walk, explore, explore_windows
from aether.formats.export import write_run
from aether.generation.latents import Decoded
from aether.geometry.cameras import Cameras
from aether.geometry.depth import disparity_to_depth
from aether.geometry.metrics import depth_errors, psnr
from aether.geometry.raymap import to_cameras
from aether.long.joining import fit_similarity
from aether.miniature import WorldClip, build, random_scene, render
from aether.run.job import Settings
from evaluation.world import DEEPEST, path_correlation
from hero_engine.command_options import number, whole_number

SCENES = (501, 502, 503, 504)
WINDOW, WINDOWS, HEIGHT, WIDTH = 17, 8, 64, 96
LARGE = (161, 41, 480, 720)


def still_world(seed: int, frames: int) -> WorldClip:
    """A held-out scene without what moves, along its own camera path."""
    scene = random_scene(seed)
    still = tuple(solid for solid in scene.solids if solid.motion.is_static)
    return render(replace(scene, solids=still), frames, HEIGHT, WIDTH, BASE_FPS)


def true_path(world: WorldClip) -> Cameras:
    """The world's cameras in the unit that a walk has: the nearest depth of its first window."""
    nearest = float(world.depth[:WINDOW].min())
    return Cameras(world.poses, world.intrinsics, HEIGHT, WIDTH).scaled(1 / nearest)


def read_path(walk: Walk) -> np.ndarray:
    """Poses (F, 4, 4) as read off the windows' raymaps alone, one window put behind the other by the frame
    that they share, in the world's unit. The path that was asked for has no part in it, but through the
    model."""
    poses = np.eye(4)[None]
    for window, alignment in enumerate(walk.merge.alignments):
        cameras = to_cameras(walk.chain.array(window, "raymap")[:], HEIGHT, WIDTH, square_pixels=True)
        way = cameras.relative_to_first().scaled(1 / alignment.disparity)
        poses = np.concatenate([poses, poses[-1] @ way.poses[1:]])
    return poses[: len(walk)]


def path_errors(poses: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Correlation of the positions, and the ATE after one similarity as percent of the way's length."""
    fit, _ = fit_similarity(poses, asked, 1.0)
    off = np.linalg.norm(fit.apply(poses)[:, :3, 3] - asked[:, :3, 3], axis=1)
    length = np.linalg.norm(np.diff(asked[:, :3, 3], axis=0), axis=1).sum()
    return {
        "correlation": path_correlation(poses, asked),
        "ate_percent": 100 * float(np.sqrt(np.mean(off**2)) / length),
    }


def scale_jumps(walk: Walk, reach: int = 8) -> list[float]:
    """For every pair of windows: how many times farther one of the later's frames has the points that one of
    the earlier's shows, less 1. The frames lie ``reach`` before and behind the one they share."""
    found = []
    for start in walk.plan.starts[1:]:
        pair = [start - reach, min(start + reach, len(walk) - 1)]
        disparity = np.stack([walk.disparity[frame] for frame in pair])
        found.append(float(np.expm1(scale_drift(disparity, walk.cameras.select(pair))[1])))
    return found


def true_scales(walk: Walk, world: WorldClip) -> list[float]:
    """For every window: the scale that fits its depth to the true one, median over its frames."""
    nearest = float(world.depth[:WINDOW].min())
    scales = []
    for start in walk.plan.starts:
        frames = range(start, start + WINDOW)
        depth = [disparity_to_depth(walk.disparity[frame]) for frame in frames]
        errors = [
            depth_errors(one[None], world.depth[frame][None], max_depth=DEEPEST * nearest).scale
            for one, frame in zip(depth, frames, strict=True)
        ]
        scales.append(float(np.median(errors) / nearest * walk.merge.unit))
    return scales


def follow(model: Any, seed: int, settings: Settings, options: Options, work: Path) -> dict[str, Any]:
    """One scene's walk over all windows against its truth."""
    frames = WINDOWS * (WINDOW - 1) + 1
    world = still_world(seed, frames)
    path = true_path(world)
    walk = explore(model, world.rgb[0], plan_windows(path, WINDOW), settings, work, options)
    last = range(frames - WINDOW + 1, frames)
    drift = [walk.rgb[frame].mean((0, 1)) / 255 - world.rgb[frame].mean((0, 1)) for frame in last]
    spread = [walk.rgb[frame].std() / 255 / world.rgb[frame].std() for frame in last]
    windows = walk.report["windows"]
    return {
        "scene": seed,
        "read": path_errors(read_path(walk), path.poses),
        "result": path_errors(walk.cameras.poses, path.poses),
        "followed": sum(window["following"]["followed"] for window in windows),
        "window_correlation": [window["following"]["correlation"] for window in windows],
        "window_scale": [window["following"]["scale"] for window in windows],
        "units": [window["disparity_scale"] for window in windows],
        "units_asked": [window["unit_asked"] for window in windows],
        "spread": [window["disparity_spread"] for window in windows],
        "scale_jumps_percent": [100 * jump for jump in scale_jumps(walk)],
        "true_scales": true_scales(walk, world),
        "color_drift_percent": 100 * float(np.abs(np.mean(drift, axis=0)).mean()),
        "contrast": float(np.mean(spread)),
    }


def come_back(model: Any, seed: int, settings: Settings, options: Options, work: Path) -> dict[str, Any]:
    """Half of the windows along the scene's path and the same way back, with and without known views. The
    color drift is that of the last frame, which must look like the first picture."""
    out = true_path(still_world(seed, WINDOWS // 2 * (WINDOW - 1) + 1))
    both = out.select([*range(len(out)), *reversed(range(len(out) - 1))])
    first = still_world(seed, 1).rgb[0]
    found: dict[str, Any] = {"scene": seed}
    for name, returns in (("blind", False), ("known", True)):
        chosen = replace(options, returns=returns)
        walk = explore(model, first, plan_windows(both, WINDOW), settings, work, chosen)
        rgb, last = walk.rgb, len(walk) - 1
        pairs = [(frame, last - frame) for frame in range(len(out) - 1)]
        off = np.log(disparity_to_depth(walk.disparity[last]) / disparity_to_depth(walk.disparity[0]))
        found[name] = {
            "last_psnr": psnr(rgb[last] / 255, first),
            "way_back_psnr": float(np.mean([psnr(rgb[a] / 255, rgb[b] / 255) for a, b in pairs])),
            "depth_off_percent": 100 * float(np.expm1(np.median(np.abs(off)))),
            "color_drift_percent": 100
            * float(np.abs(rgb[last].mean((0, 1)) / 255 - first.mean((0, 1))).mean()),
            "contrast": float(rgb[last].std() / 255 / first.std()),
            "goals": [window["goal"] for window in walk.report["windows"]],
        }
    return found


def go_on(model: Any, seed: int, settings: Settings, options: Options, work: Path) -> dict[str, Any]:
    """Three windows in one go, and two that are continued by a third: how many bytes differ."""
    world = still_world(seed, 3 * (WINDOW - 1) + 1)
    path = true_path(world)
    first, rest = path.select(slice(0, 25)), path.select(slice(24, None))

    def walk(way: Cameras, folder: str) -> Walk:
        return explore(model, world.rgb[0], plan_windows(way, WINDOW), settings, work / folder, options)

    whole, begun = walk(longer(first, rest), "whole"), walk(first, "parts")
    later = walk(longer(begun.plan.path, rest), "parts")
    differ = 0
    for name in ("rgb", "disparity", "raymap"):
        for one, other in zip(getattr(whole, name), getattr(later, name), strict=True):
            differ += int(np.count_nonzero(one != other))
    differ += int(np.count_nonzero(whole.cameras.poses != later.cameras.poses))
    return {"scene": seed, "reused": later.resumed, "numbers_that_differ": differ}


def memory(work: Path) -> dict[str, Any]:
    """Joining, fusing and writing 161 frames of 480 x 720, whose windows hold noise and a flat world."""
    frames, window, height, width = LARGE
    lens = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 2, frames)
    plan = Plan(Cameras(poses, np.tile(lens, (frames, 1, 1)), height, width), window)
    walk = _walk_of_noise(plan, work)
    before = peak_gb()
    write_run(work / "out", walk, walk.cameras, BASE_FPS, report=walk.report)
    return {"frames": frames, "size": f"{width} x {height}", "before_gb": before, "peak_gb": peak_gb()}


def _walk_of_noise(plan: Plan, work: Path) -> Walk:
    def compute(inputs: Any, callback: Any) -> tuple[Decoded, dict[str, Any]]:
        rng = np.random.default_rng(0)
        shape = (inputs.frames, inputs.height, inputs.width)
        ramp = np.linspace(0.1, 1, inputs.height, dtype=np.float32)[:, None]
        disparity = np.broadcast_to(ramp, shape) * np.float32(1)
        rgb = rng.random((*shape, 3), dtype=np.float32)
        report = {"settings": {}, "seconds": {"window": 0.0}, "hero": None}
        return Decoded(rgb, disparity, inputs.raymap), report

    picture = np.zeros((plan.path.height, plan.path.width, 3), np.uint8)
    chain = Chain(work / "windows", {}, picture, plan)
    return explore_windows(picture, chain, plan, compute, 1, Options(colors=False))


def peak_gb() -> float:
    """Of this process's memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


PARTS = {"follow": follow, "return": come_back, "continue": go_on}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print JSON, a line per scene."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explore", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}, memory; default: all")
    parser.add_argument("--steps", type=whole_number, default=10)
    parser.add_argument("--guidance", type=number, default=None)
    parser.add_argument("--seed", type=whole_number, default=42)
    parser.add_argument("--scenes", type=whole_number, nargs="+", default=SCENES)
    parser.add_argument("--post-steps", type=whole_number, default=None)
    parser.add_argument("--no-colors", action="store_true", help="do not correct colors")
    parser.add_argument("--no-steady", action="store_true", help="do not correct a drift of depth")
    parser.add_argument("--work", type=Path, help="folder to keep windows in")
    arguments = parser.parse_args(argv)
    parts = arguments.parts or [*PARTS, "memory"]
    settings = Settings(arguments.steps, arguments.guidance, arguments.seed)
    options = Options(
        colors=not arguments.no_colors, steady=not arguments.no_steady, post_steps=arguments.post_steps
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        if "memory" in parts:  # first: the peak is the process's
            print(json.dumps({"part": "memory", **memory(work / "memory")}), flush=True)
        model = build() if set(parts) - {"memory"} else None
        for part in (part for part in PARTS if part in parts):
            for seed in arguments.scenes:
                figures = PARTS[part](model, seed, settings, options, work / str(seed))
                print(json.dumps({"part": part, **figures}), flush=True)


if __name__ == "__main__":
    main()
