"""What a model reaches on held-out scenes of the synthetic world, whose truth is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aether.defaults import TASKS
from aether.generation.latents import Decoded, decode, decode_rgb, encode
from aether.generation.sampling import sample
from aether.generation.tasks import Conditions, condition
from aether.geometry.depth import disparity_to_depth
from aether.geometry.metrics import depth_errors, psnr
from aether.geometry.raymap import from_cameras, to_cameras
from aether.miniature import WorldClip
from aether.model.parts import AetherModel
from training.data import FPS

from .pose import rotation_error

DEEPEST = 8.0
"""Depth counts up to this many times the clip's nearest."""


def score_clip(model: AetherModel, clip: WorldClip, steps: dict[str, int], seed: int = 0) -> dict[str, float]:
    """All figures of one clip.

    Args:
        model: any Aether of 17 frames.
        clip: from `training.data.render_scene`.
        steps: per task; a task that is not in it is left out.
        seed: of the noise.

    Returns:
        vae_psnr: RGB encoded and decoded, dB.
        abs_rel, delta1: reconstruction's depth up to DEEPEST times the nearest, fitted by the median.
        rpe_rot: reconstruction's rotation error from frame to frame, degrees.
        prediction_first, planning_first, planning_last: the given pictures in the result, PSNR in dB.
        prediction_path, planning_path: correlation of the camera's way with the one asked for, see
            :func:`path_correlation`.
    """
    found = {"vae_psnr": psnr(_through_vae(model, clip.rgb), clip.rgb)}
    if "reconstruction" in steps:
        result = _run(model, "reconstruction", clip, steps, seed)
        depth = disparity_to_depth(result.disparity)
        errors = depth_errors(depth, clip.depth, max_depth=DEEPEST * float(clip.depth.min()))
        found |= {"abs_rel": errors.abs_rel, "delta1": errors.delta1}
        found["rpe_rot"] = rotation_error(_poses(result), clip.poses)
    if "prediction" in steps:
        result = _run(model, "prediction", clip, steps, seed)
        found["prediction_first"] = psnr(result.rgb[0], clip.rgb[0])
        found["prediction_path"] = path_correlation(_poses(result), clip.poses)
    if "planning" in steps:
        result = _run(model, "planning", clip, steps, seed)
        found["planning_first"] = psnr(result.rgb[0], clip.rgb[0])
        found["planning_last"] = psnr(result.rgb[-1], clip.rgb[-1])
        found["planning_path"] = path_correlation(_poses(result), clip.poses)
    return found


def path_correlation(poses: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation of two ways: of all coordinates of the positions together, each axis about its mean.

    Args:
        poses, wanted: (F, 4, 4) camera to world, first camera the world.

    Returns:
        -1 to 1; NaN where one of them stays in one place.
    """
    a, b = (path[:, :3, 3] - path[:, :3, 3].mean(axis=0) for path in (poses, wanted))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / size) if size else float("nan")


def world_conditions(
    model: AetherModel, task: str, clip: WorldClip, generator: torch.Generator
) -> Conditions:
    """A task's pictures of a clip; prediction and planning are given the true camera path, so that the
    right poses are known."""
    given = {"video": clip.rgb, "image": clip.rgb[0], "goal": clip.rgb[-1]}
    raymap = None
    if task != "reconstruction":
        scale = 1 / float(clip.depth.min())
        raymap = from_cameras(clip.poses, clip.intrinsics, *clip.depth.shape[1:], scale=scale)
    pictures = {name: given[name] for name in TASKS[task].inputs}
    return condition(model, task, **pictures, raymap=raymap, generator=generator)


def _run(model: AetherModel, task: str, clip: WorldClip, steps: dict[str, int], seed: int) -> Decoded:
    generator = torch.Generator(model.device).manual_seed(seed)
    conditions = world_conditions(model, task, clip, generator)
    return decode(model, sample(model, conditions, steps=steps[task], fps=FPS, generator=generator))


def _poses(result: Decoded) -> np.ndarray:
    return to_cameras(result.raymap, *result.disparity.shape[1:], square_pixels=True).poses


def _through_vae(model: AetherModel, rgb: np.ndarray) -> np.ndarray:
    spec = model.spec
    latent = encode(model, torch.from_numpy(rgb), torch.Generator(model.device).manual_seed(0))
    factor = spec.scaling_factor**2 if spec.divides_conditions else 1.0
    return decode_rgb(model, latent * factor)


def average(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Plain means over the scenes."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "name"}
