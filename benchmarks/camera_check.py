"""How well the miniature follows camera paths, and what the camera check finds.

    python -m benchmarks.camera_check

Predictions of held-out scenes along moves of the camera. First table: errors by move, and how many paths the
check calls followed. Second table: the same results checked against a path with a mistake in it, as if that
had been asked for; found is a warning whose causes name it. The limits of `aether.geometry.path_check` were
chosen from the first table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aether.geometry import trajectory
from aether.geometry.cameras import Cameras, cameras_from_fov
from aether.geometry.path_check import PathCheck, check_path
from aether.miniature import build, random_scene, render
from aether.model.parts import AetherModel
from aether.run import job
from hero_engine.command_options import whole_number

FRAMES, HEIGHT, WIDTH = 17, 64, 96
MOVES = (
    ("true path", 1.0), ("dolly in", 0.3), ("dolly out", 0.3), ("truck left", 0.3), ("truck right", 1.5),
    ("pedestal up", 0.3), ("pan right", 0.3), ("orbit left", 0.3), ("true path", 4.0), ("orbit right", 1.0),
    ("handheld", 1.0),
)  # fmt: skip
"""The true path is the scene's own, in units of its nearest depth."""
Pair = tuple[str, Cameras, Cameras]


def predict(model: AetherModel, seed: int, steps: int) -> Iterator[Pair]:
    """Move, asked and obtained path of each move."""
    scene = random_scene(seed)
    world = render(scene, FRAMES, HEIGHT, WIDTH)
    true = Cameras(world.poses, world.intrinsics, HEIGHT, WIDTH).scaled(1 / float(world.depth.min()))
    fov = float(np.degrees(scene.fov_x))
    for move, amount in MOVES:
        if move == "true path":
            asked = true.scaled(amount)
        else:
            asked = trajectory.preset(move, amount, frames=FRAMES, fov=fov, height=HEIGHT, width=WIDTH)
        action = trajectory.action(asked, FRAMES, HEIGHT, WIDTH)
        pictures = {"image": world.rgb[0]}
        inputs = job.Inputs("prediction", {}, pictures, FRAMES, HEIGHT, WIDTH, 12, raymap=action)
        result = job.run(model, inputs, job.Settings(steps=steps, seed=0))
        yield f"{move} {amount:g}", asked, result.cameras


def mistakes(asked: Cameras) -> Iterator[tuple[str, str, Cameras]]:
    """Name, a word of its cause, and the wrong path, where the mistake makes another path of this one."""
    poses = asked.poses
    turned = poses.copy()
    turned[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    changed = {
        "scale halved": ("positions 0.", asked.scaled(2).poses),
        "axes y and z flipped": ("flipped", _flipped(poses, (1, -1, -1, 1))),
        "axis x flipped": ("flipped", _flipped(poses, (-1, 1, 1, 1))),
        "world to camera": ("world", np.linalg.inv(poses)),
        "rotation transposed": ("transposed", turned),
    }
    for name, (word, wrong) in changed.items():
        path = replace(asked, poses=wrong)
        if not check_path(asked, path).followed:
            yield name, word, path
    narrow = cameras_from_fov(poses, asked.fov_x / 2, asked.fov_y / 2, HEIGHT, WIDTH)
    yield "field of view halved", "field of view", narrow


def _flipped(poses: np.ndarray, signs: tuple[int, ...]) -> np.ndarray:
    return np.diag(signs) @ poses @ np.diag(signs)


def print_paths(checks: dict[str, list[PathCheck]]) -> None:
    """The first table."""
    print("| move | ATE / length | rotation, degrees | scale | speed | followed |\n|---|---|---|---|---|---|")
    for move, found in checks.items():
        shares = [check.ate_share for check in found if check.ate_share is not None]
        scales = [check.scale for check in found if check.scale is not None]
        cells = [
            f"{np.mean(shares):.2f}" if shares else "-",
            f"{np.mean([check.rotation for check in found]):.1f}",
            f"{np.mean(scales):.2f}" if scales else "-",
            f"{np.mean([check.speed for check in found]):.2f}",
            f"{sum(check.followed for check in found)} of {len(found)}",
        ]
        print(f"| {move} | {' | '.join(cells)} |")


def print_mistakes(pairs: list[Pair]) -> None:
    """The second table, of the paths that were followed."""
    counts: dict[str, list[tuple[bool, bool]]] = {}
    for _, asked, obtained in pairs:
        if not check_path(asked, obtained).followed:
            continue
        for name, word, wrong in mistakes(asked):
            check = check_path(wrong, obtained)
            named = any(word in cause for cause in check.causes)
            counts.setdefault(name, []).append((not check.followed, named))
    print("\n| mistake | warning | cause named |\n|---|---|---|")
    for name, rows in counts.items():
        warned, named = np.sum(rows, axis=0)
        print(f"| {name} | {warned} of {len(rows)} | {named} of {len(rows)} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=whole_number, nargs="*", default=[501, 502, 503, 504])
    parser.add_argument("--steps", type=whole_number, default=16)
    arguments = parser.parse_args()
    model = build()
    pairs = [pair for seed in arguments.seeds for pair in predict(model, seed, arguments.steps)]
    checks: dict[str, list[PathCheck]] = {}
    for move, asked, obtained in pairs:
        checks.setdefault(move, []).append(check_path(asked, obtained))
    print_paths(checks)
    print_mistakes(pairs)


if __name__ == "__main__":
    main()
