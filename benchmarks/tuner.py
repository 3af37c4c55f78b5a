"""How well a recording predicts errors, and what tuning gains.

    python -m benchmarks.tuner FOLDER [--samplers NAME ...] [--steps N ...] [--parts judge tune carry]

On the bundled miniature in a real ComfyUI (``$COMFYUI_PATH``): Aether Sampler with its two schedulers, and
core's euler and dpmpp_2m. For each sampler and number of steps, on a scene of its own:

    judge      one recorded run; settings drawn at random (step masks, rhythms, tau, ratio, shallow, feedback,
               trend) and run; Spearman's rank correlation of predicted and real errors
    tune       tuned for 2x, 2.5x and 3x with 6 runs each; beside it even rhythms of that speed
    carry      the masks it chose, and the even rhythms, on more scenes

Runs are kept in FOLDER as they end, and the same command goes on from there. Errors are those of the final
latent, |a - b| / |b|.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hero_engine import PRESETS, HeroConfig
from hero_engine.command_options import whole_number

from .comfyui import part
from .sampled import Clip, Miniature

SAMPLERS = ("dpm", "ddim", "euler", "dpmpp_2m")
"""Aether Sampler's, and core's."""
TASKS = {30: ("planning", True, 405), 20: ("prediction", False, 406)}
"""By steps: the task, whether it is given the scene's camera path, and the scene. Constants of
`hero_engine.tune.response` were chosen on scenes 401 and 402."""
MORE_SCENES = (403, 404)
SPEEDS = (2.0, 2.5, 3.0)
SETTINGS, BUDGET, EVEN = 40, 6, 6
DRAWS = 20
PARTS = ("judge", "tune", "carry")


@dataclass(frozen=True)
class Group:
    """Runs that are compared with one unaccelerated run."""

    sampler: str
    steps: int
    scene: int

    @property
    def name(self) -> str:
        return f"{self.sampler}-{self.steps}-{self.scene}"


class Bench:
    """Runs of the miniature in ComfyUI, each made once.

    Args:
        folder: where results are kept.
    """

    def __init__(self, folder: Path):
        self._miniature = Miniature()
        self._folder = folder

    def judged(self, group: Group) -> Any:
        """What was measured of settings drawn at random: predicted and real errors."""
        return self._tried(group, "judge", drawn_settings(group.steps))

    def tuned(self, group: Group, speed: float) -> Any:
        """What `tune` finds on the group's clip for a speed."""
        folder = self._begun(group, f"tune-{speed:g}")
        tune = part("hero_engine.tune")
        return tune.tune(self._runner(group), tune.Target(speed=speed), BUDGET, folder=folder)

    def even(self, group: Group, speed: float) -> Any:
        """What was measured of even rhythms of a speed."""
        return self._tried(group, f"even-{speed:g}", even_settings(self._recording(group), speed))

    def carried(self, group: Group, config: Any, speed: float) -> Any:
        """The same of a setting found on another clip, for a speed."""
        return self._tried(group, f"carry-{speed:g}", [config])

    def _tried(self, group: Group, kind: str, configs: Sequence[Any]) -> Any:
        store = part("hero_engine.tune.store").Store(self._begun(group, kind))
        runs = part("hero_engine.tune.compared_runs").ComparedRuns(self._runner(group))
        measured = store.read()
        for config in configs:
            own = part("hero_engine").HeroConfig.from_text(config.to_text())
            if all(trial.config != own for trial in measured.trials):
                trial = runs.trial(measured, own)
                measured.trials.append(trial)
                store.keep(measured)
                print(
                    f"{group.name} {kind} {trial.speedup:.2f}x {trial.error:.4f} {own.to_text()}", flush=True
                )
        return measured

    def _begun(self, group: Group, kind: str) -> Path:
        """A folder with the group's unaccelerated run in it."""
        plain, folder = self._folder / group.name / "plain", self._folder / group.name / kind
        store = part("hero_engine.tune.store").Store(plain)
        if store.read() is None:
            print(f"{group.name} unaccelerated", flush=True)
            store.begin(part("hero_engine.tune.compared_runs").ComparedRuns(self._runner(group)).record())
        if not folder.exists():
            shutil.copytree(plain, folder)
        return folder

    def _recording(self, group: Group) -> Any:
        return part("hero_engine.tune.store").Store(self._begun(group, "plain")).read().recording

    def _runner(self, group: Group) -> Any:
        task, with_camera, _ = TASKS[group.steps]
        clip = Clip(group.scene, task, with_camera)
        sampling = self._miniature.sampling(clip, group.sampler, group.steps, group.scene)
        return self._miniature.runner(sampling)


def drawn_settings(steps: int) -> list[HeroConfig]:
    """The presets, and settings of all kinds drawn at random: the same for every sampler and scene."""
    draw = random.Random(steps)
    found = list(PRESETS.values())
    while len(found) < SETTINGS:
        rhythm = draw.choice((_even_rhythm, _random_mask, _uneven_mask))(draw, steps)
        found.append(replace(HeroConfig.preset("balanced"), **rhythm, **_drawn_options(draw)))
    return found


def _drawn_options(draw: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if draw.random() < 0.25:
        options["feedback"] = draw.choice((0.0, 0.5))
    if draw.random() < 0.25:
        options["shallow"] = "reuse"
    if draw.random() < 0.35:
        options["tau"] = draw.choice(("10%", "50%", "75%"))
    if draw.random() < 0.2:
        options["ratio"] = draw.choice((1 / 3, 1 / 2, 1.0))
    if draw.random() < 0.25:
        options["trend"] = "damped"
    return options


def _even_rhythm(draw: random.Random, steps: int) -> dict[str, Any]:
    warmup, cooldown = draw.choice((2, 4, 8, 16)), draw.choice((0, 4, 10, 16))
    shares = {"warmup": f"{warmup}%", "cooldown": f"{cooldown}%" if cooldown else 0}
    return {"interval": draw.randint(2, 6), **shares}


def _random_mask(draw: random.Random, steps: int) -> dict[str, Any]:
    while True:
        full = {0, *draw.sample(range(1, steps), round(draw.uniform(0.26, 0.6) * steps) - 1)}
        bits = "".join("1" if step in full else "0" for step in range(steps))
        if max(map(len, bits.split("1"))) < 10:
            return {"mask": bits}


def _uneven_mask(draw: random.Random, steps: int) -> dict[str, Any]:
    """Denser in some part of the run."""
    begin, middle, end = (0.2 + draw.random() for _ in range(3))
    places = [step / (steps - 1) for step in range(steps)]
    weights = [begin * (1 - p) ** 2 + 4 * middle * p * (1 - p) + end * p**2 for p in places]
    full = draw.uniform(0.26, 0.6) * steps / sum(weights)
    bits, total = "1", weights[0] * full
    for weight in weights[1:]:
        bits += "1" if math.ceil(total + weight * full) > math.ceil(total) else "0"
        total += weight * full
    return {"mask": bits}


def even_settings(recording: Any, speed: float) -> list[HeroConfig]:
    """Even rhythms of a speed: of this pack's presets' kind, those with the lowest predicted error."""
    predict = part("hero_engine.cost").predict
    own = part("hero_engine").HeroConfig.preset("balanced")
    found = []
    for interval in range(2, 9):
        for warmup in ("4%", "6%", "8%", "12%"):
            for cooldown in ("4%", "8%", "10%", "16%", "20%"):
                config = replace(own, interval=interval, warmup=warmup, cooldown=cooldown)
                if speed <= predict(config, recording.shape, recording.steps).speedup_bound < 1.15 * speed:
                    found.append((recording.predict_error(config), config))
    found.sort(key=lambda one: one[0])
    different = {_strip(config, recording): config for _, config in reversed(found)}
    return list(reversed(list(different.values())))[:EVEN]


def _strip(config: Any, recording: Any) -> tuple[bool, ...]:
    predict = part("hero_engine.cost").predict
    strip: tuple[bool, ...] = predict(config, recording.shape, recording.steps).strip
    return strip


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Rank correlation of predicted and real errors."""
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def after_trials(recording: Any, trials: Sequence[Any]) -> float:
    """Mean rank correlation over draws of as many settings as a tuning runs, for the settings not drawn."""
    draw, found = random.Random(0), []
    for _ in range(DRAWS):
        tried = draw.sample(trials, BUDGET - 1)
        fitted = recording.fitted([(trial.config, trial.error) for trial in tried])
        others = [trial for trial in trials if trial not in tried]
        found.append(spearman([(fitted.predict_error(trial.config), trial.error) for trial in others]))
    return statistics.fmean(found)


def judge_rows(bench: Bench, groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        measured = bench.judged(group)
        pairs = [(t.predicted_error, t.error) for t in measured.trials]
        steps = [(-t.full_steps, t.error) for t in measured.trials]
        later = after_trials(measured.recording, measured.trials)
        off = [abs(math.log(predicted / error)) for predicted, error in pairs]
        middle = statistics.median(math.log(error / predicted) for predicted, error in pairs)
        spread = math.exp(statistics.fmean(abs(math.log(e / p) - middle) for p, e in pairs))
        yield (
            f"{group.name:>18}  {len(pairs)} settings  Spearman {spearman(pairs):.3f} ({later:.3f} after "
            f"{BUDGET - 1} trials, {spearman(steps):.3f} by full steps alone)  off by a factor of "
            f"{math.exp(statistics.fmean(off)):.2f}, {spread:.2f} after one scale"
        )


def tune_rows(bench: Bench, groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        judged = bench.judged(group).trials
        for speed in SPEEDS:
            choice, even = bench.tuned(group, speed).choice, bench.even(group, speed).trials
            known = [trial.error for trial in (*judged, *even) if trial.speedup >= speed]
            yield (
                f"{group.name:>18}  {speed:g}x  tuned {choice.error:.4f}  best even "
                f"{min(trial.error for trial in even):.4f}  best of {len(known)} others {min(known):.4f}"
            )


def carry_rows(bench: Bench, groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        for speed in SPEEDS:
            config = bench.tuned(group, speed).choice.config
            for scene in MORE_SCENES:
                there = replace(group, scene=scene)
                (trial,) = bench.carried(there, config, speed).trials
                best = min(one.error for one in bench.even(there, speed).trials)
                yield f"{there.name:>18}  {speed:g}x  tuned elsewhere {trial.error:.4f}  best even {best:.4f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--steps", nargs="+", type=whole_number, choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args(arguments)
    bench = Bench(options.folder)
    groups = [
        Group(sampler, steps, TASKS[steps][2]) for sampler in options.samplers for steps in options.steps
    ]
    rows = {"judge": judge_rows, "tune": tune_rows, "carry": carry_rows}
    for name in options.parts:
        print("\n".join([f"\n{name}", *rows[name](bench, groups)]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
