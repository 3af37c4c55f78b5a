"""What the presets do to a clip, beside another seed and beside fewer steps.

    python -m benchmarks.presets FOLDER [--samplers NAME ...] [--steps N ...] [--tasks TASK ...]
                                 [--scenes N ...] [--settings TEXT ...]

On the bundled miniature in a real ComfyUI (``$COMFYUI_PATH``), without and with the scene's camera path, with
Aether Sampler's two schedulers and core's samplers. Every run begins with the noise of the unaccelerated run
beside it. For each setting, over the scenes:

    error      |a - b| / |b| of the final latent against the unaccelerated run
    share      that error over the one of an unaccelerated run with another seed: 1 is another clip
    on clip    runs whose share is at most a tenth
    quality    against the scene itself: colors, sharpness, flicker, given pictures, and where a camera path
               is given depth and rotation, each minus the unaccelerated run's

A setting is a preset, with settings that differ if need be ("fast trend=linear"), or "fewer steps, as fast":
the unaccelerated model in as many steps as are as fast as the preset.

Runs are kept in FOLDER by code, settings and clip, and the same command makes only those that are missing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from aether.generation.latents import Decoded, decode
from aether.geometry.depth import disparity_to_depth
from aether.geometry.metrics import depth_errors, psnr
from aether.geometry.raymap import to_cameras
from aether.miniature import WorldClip, build
from evaluation.compare.contenders import shape_of
from evaluation.pose import rotation_error
from evaluation.world import DEEPEST
from hero_engine import HeroConfig
from hero_engine.command_options import whole_number
from hero_engine.cost import predict
from hero_engine.flops import ModelShape

from .comfyui import ROOT
from .sampled import Clip, Miniature

SAMPLERS = ("dpm", "ddim", "euler", "dpmpp_2m", "uni_pc", "res_multistep")
TASKS = ("prediction", "planning", "planning with camera")
SCENES = tuple(range(411, 419))
"""Nothing was chosen on them."""
ANOTHER_SEED, FEWER = "another seed", "fewer steps"
SETTINGS = ("balanced", "fast")
_SEEDS = 1000
_CODE = ("hero_engine", "aether", "nodes")


@dataclass(frozen=True)
class Case:
    """Runs that are compared with one unaccelerated run."""

    clip: Clip
    sampler: str
    steps: int


@dataclass(frozen=True)
class Found:
    """One run: its speed-up by FLOPs, error, and quality by name."""

    speedup: float
    error: float
    quality: dict[str, float]


class Bench:
    """Runs, each made once.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._code = code_digest()
        self._miniature = Miniature()
        self._model = build()

    def found(self, case: Case, setting: str) -> Found:
        """What was measured of a case with a setting, or with :data:`ANOTHER_SEED`."""
        plain = self._kept(case, "plain", lambda: self._sampled(case))
        other = self._kept(case, setting, lambda: self._other(case, setting))
        error = float((other.double() - plain.double()).norm() / plain.double().norm())
        return Found(speedup(setting, case.steps), error, self._quality(case, other))

    def quality(self, case: Case) -> dict[str, float]:
        """Of the unaccelerated run."""
        return self._quality(case, self._kept(case, "plain", lambda: self._sampled(case)))

    def _other(self, case: Case, setting: str) -> torch.Tensor:
        if setting == ANOTHER_SEED:
            return self._sampled(case, seed=case.clip.scene + _SEEDS)
        if setting.startswith(FEWER):
            return self._sampled(replace(case, steps=fewer_of(setting, case.steps)))
        return self._sampled(case, config_of(setting))

    def _sampled(self, case: Case, config: HeroConfig | None = None, seed: int | None = None) -> torch.Tensor:
        noise = case.clip.scene if seed is None else seed
        sampling = self._miniature.sampling(case.clip, case.sampler, case.steps, noise)
        print(case, config.to_text() if config else seed or "", flush=True)
        return self._miniature.sample(sampling, config)

    def _kept(self, case: Case, kind: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        key = hashlib.sha256(repr((self._code, case, kind)).encode()).hexdigest()[:24]
        path = self._folder / f"{key}.safetensors"
        if not path.exists():
            part = path.with_suffix(".part")
            save_file({"samples": make().cpu().contiguous()}, part)
            part.replace(path)
        return load_file(path)["samples"]

    def _quality(self, case: Case, samples: torch.Tensor) -> dict[str, float]:
        clip = decode(self._model, samples.transpose(1, 2))
        return {**appearance(case.clip, clip), **geometry(case.clip, clip)}


def code_digest() -> str:
    """Of all the code and weights that a run depends on."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".safetensors"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def config_of(setting: str) -> HeroConfig:
    """Of a preset's name, which may be followed by settings that differ: "fast trend=linear"."""
    name, _, changes = setting.partition(" ")
    given = HeroConfig.from_text(changes) if changes else HeroConfig()
    changed = [change.partition("=")[0] for change in changes.split()]
    return HeroConfig.preset(name, **{field: getattr(given, field) for field in changed})


def speedup(setting: str, steps: int) -> float:
    """By FLOPs, as HERO counts it; of fewer steps by their number."""
    if setting == ANOTHER_SEED:
        return 1.0
    if setting.startswith(FEWER):
        return steps / fewer_of(setting, steps)
    return predict(config_of(setting), _shape(), steps).speedup_bound


def fewer_of(setting: str, steps: int) -> int:
    """Steps of "fewer steps, as PRESET": the most that are as fast as the preset."""
    preset = setting.removeprefix(f"{FEWER}, as ")
    return max(1, math.floor(steps / speedup(preset, steps)))


@lru_cache(maxsize=1)
def _shape() -> ModelShape:
    return shape_of(build())


@lru_cache(maxsize=32)
def _world(clip: Clip) -> WorldClip:
    return clip.world()


def appearance(clip: Clip, found: Decoded) -> dict[str, float]:
    """How a clip looks beside its scene.

    Returns:
        colors: PSNR of all frames, dB. given: that of the frames that were given. sharpness: mean difference
        of neighbouring pixels, over the scene's. flicker: mean difference of neighbouring frames, over the
        scene's.
    """
    true = _world(clip).rgb
    given = [0, -1] if clip.task == "planning" else [0]
    return {
        "colors": psnr(found.rgb, true),
        "given": psnr(found.rgb[given], true[given]),
        "sharpness": _variation(found.rgb, 2) / _variation(true, 2),
        "flicker": _variation(found.rgb, 0) / _variation(true, 0),
    }


def _variation(rgb: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(rgb.astype(np.float64), axis=axis)).mean())


def geometry(clip: Clip, found: Decoded) -> dict[str, float]:
    """Depth (Abs Rel, up to eight times the nearest) and rotation from frame to frame (degrees); only where
    the camera path was given: otherwise the model may go another way."""
    if not clip.with_camera:
        return {}
    world = _world(clip)
    height, width = world.depth.shape[1:]
    truth = np.where(world.sky, np.nan, world.depth)
    deepest = DEEPEST * float(np.nanmin(truth))
    depth = disparity_to_depth(found.disparity)
    errors = depth_errors(depth, truth, align="scale-l1", max_depth=deepest)
    poses = to_cameras(found.raymap, height, width, square_pixels=True).poses
    return {"depth": errors.abs_rel, "rotation": rotation_error(poses, world.poses)}


@dataclass(frozen=True)
class Row:
    """A setting over the scenes: one line of the table."""

    sampler: str
    steps: int
    task: str
    setting: str
    speedup: float
    errors: list[float]
    shares: list[float]
    quality: dict[str, list[float]]

    HEAD = ("sampler", "steps", "task", "setting", "speed-up", "error", "worst", "share", "worst", "on clip")

    def cells(self) -> list[str]:
        """As :attr:`HEAD`, then the quality's."""
        on_clip = sum(share <= 0.1 for share in self.shares)
        return [
            self.sampler,
            str(self.steps),
            self.task,
            self.setting,
            f"{self.speedup:.2f}x",
            f"{statistics.fmean(self.errors):.4f}",
            f"{max(self.errors):.4f}",
            f"{statistics.fmean(self.shares):.3f}",
            f"{max(self.shares):.3f}",
            f"{on_clip} of {len(self.shares)}",
            *(_with_spread(values) for values in self.quality.values()),
        ]


def _with_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):+.3f} ± {statistics.pstdev(values):.3f}"


def row(bench: Bench, cases: Sequence[Case], task: str, setting: str) -> Row:
    """A setting in cases that differ by their scene alone."""
    found = [bench.found(case, setting) for case in cases]
    seeds = [bench.found(case, ANOTHER_SEED).error for case in cases]
    plain = [bench.quality(case) for case in cases]
    quality = {
        name: [one.quality[name] - other[name] for one, other in zip(found, plain, strict=True)]
        for name in plain[0]
    }
    errors = [one.error for one in found]
    shares = [error / seed for error, seed in zip(errors, seeds, strict=True)]
    first = cases[0]
    return Row(first.sampler, first.steps, task, setting, found[0].speedup, errors, shares, quality)


def rows(bench: Bench, options: argparse.Namespace) -> Iterable[Row]:
    """All of what is asked for, one sampler, number of steps and task after the other."""
    for sampler in options.samplers:
        for steps in options.steps:
            for task in options.tasks:
                name, _, camera = task.partition(" with ")
                cases = [Case(Clip(scene, name, bool(camera)), sampler, steps) for scene in options.scenes]
                for setting in (ANOTHER_SEED, *options.settings):
                    yield row(bench, cases, task, setting)


def write(found: Sequence[Row], path: Path) -> None:
    """A CSV file of all runs: a line for each scene would hide what belongs together, so lists are joined."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*Row.HEAD[:5], "errors", "shares"])
        for one in found:
            lists = (" ".join(f"{value:.5f}" for value in values) for values in (one.errors, one.shares))
            table.writerow([one.sampler, one.steps, one.task, one.setting, f"{one.speedup:.3f}", *lists])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--steps", nargs="+", type=whole_number, default=[20, 50])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--scenes", nargs="+", type=whole_number, default=SCENES)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    options = parser.parse_args(arguments)
    found: list[Row] = []
    for one in rows(Bench(options.folder), options):
        if not found:
            head = [*one.HEAD, *one.quality]
            print("\n".join([_line(head), _line(["---"] * len(head))]))
        found.append(one)
        print(_line(one.cells()), flush=True)
    write(found, options.folder / "presets.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
