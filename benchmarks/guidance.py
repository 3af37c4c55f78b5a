"""What cheaper guidance changes: the unconditional pass left out where the scale is nearly 1, and the
difference of the two passes reused on other steps; beside HERO, which makes both passes cheaper.

    python -m benchmarks.guidance

Planning on the bundled miniature, with each sampler, and with Aether's dynamic scale and a
constant one. The error is |a - b| / |b| of the final unified latent, b being the run with both passes on
every step; the speed-up is that by FLOPs.

    skip T      the conditional pass alone where the scale is at most 1 + T
    reuse N     conditional + (scale - 1) * (conditional - unconditional) with the difference of the latest
                step that had both; on N - 1 of N steps, beginning after the fourth
    line N      the same with the difference extrapolated from the latest two
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from aether.defaults import TASKS
from aether.generation import sampling
from aether.generation.tasks import condition
from aether.miniature import build, random_scene, render
from aether.model.parts import AetherModel
from aether.model.schedulers import make_scheduler
from evaluation.compare.meter import counted
from hero_engine import HeroConfig, hero_session
from hero_engine.command_options import whole_number

WARMUP = 4


@contextmanager
def reuse(interval: int, line: bool) -> Iterator[None]:
    """Samples with the difference of the passes taken from earlier steps, for the time of the context."""
    original, number = sampling._Passes.output, 0
    known: list[tuple[float, torch.Tensor]] = []

    def difference_at(timestep: float) -> torch.Tensor:
        now, difference = known[-1]
        if not line or len(known) < 2:
            return difference
        before, older = known[-2]
        return difference + (difference - older) * ((timestep - now) / (now - before))

    def output(passes, latent, timestep, step) -> torch.Tensor:
        nonlocal number
        number += 1
        cond, uncond = passes.conditions.cond, passes.conditions.uncond
        if step.spared:
            return passes.transformed(latent, timestep, cond)
        if number > WARMUP and (number - WARMUP) % interval:
            conditional = passes.transformed(latent, timestep, cond)
            return conditional.add(difference_at(step.place), alpha=step.strength - 1)
        both = passes.transformed(latent, timestep, torch.cat([uncond, cond]))
        unconditional, conditional = both.chunk(2)
        known.append((step.place, conditional - unconditional))
        return unconditional + step.strength * (conditional - unconditional)

    sampling._Passes.output = output
    try:
        yield
    finally:
        sampling._Passes.output = original


def runner(
    model: AetherModel, pictures: dict[str, np.ndarray], seed: int, dynamic: bool, steps: int
) -> Callable[..., tuple[torch.Tensor, float]]:
    """A function that samples with options, and gives the latent and the FLOPs that ran."""

    def run(around: Any = None, **options: Any) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(seed)
        conditions = condition(model, "planning", **pictures, generator=generator)
        with counted(model.transformer) as counter, around or nullcontext():
            latent = sampling.sample(
                model, conditions, steps=steps, dynamic_guidance=dynamic, generator=generator, **options
            )
        return latent, counter.flops

    return run


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def attempts(model: AetherModel, dynamic: bool, steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and what to run them with."""
    for tolerance in (0.01, 0.05, 0.1) if dynamic else ():
        yield f"skip {tolerance:g}", {"guidance_skip": tolerance}
    for interval, line in ((2, False), (2, True), (3, False), (4, False)):
        yield f"{'line' if line else 'reuse'} {interval}", {"around": reuse(interval, line)}
    for preset in ("quality", "balanced", "fast"):
        for tolerance in (0.0, 0.05) if dynamic else (0.0,):
            session = hero_session(model.transformer, HeroConfig.preset(preset), steps, model.scheduler)
            name = f"HERO {preset}" + (f", skip {tolerance:g}" if tolerance else "")
            yield name, {"session": session, "guidance_skip": tolerance}


def table(model: AetherModel, pictures: dict[str, np.ndarray], seed: int, name: str, steps: int) -> None:
    """Print the rows of one model, whose scheduler is the sampler."""
    for dynamic in (True, False):
        run = runner(model, pictures, seed, dynamic, steps)
        truth, whole = run()
        for row, options in attempts(model, dynamic, steps):
            latent, flops = run(**options)
            kind, error = "dynamic" if dynamic else "constant", distance(latent, truth)
            print(f"| {name} | {kind} | {row} | {whole / flops:.2f}x | {error:.4f} |", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What cheaper guidance changes.")
    parser.add_argument("--seed", type=whole_number, default=0, help="scene and noise (0)")
    parser.add_argument(
        "--steps",
        type=whole_number,
        default=TASKS["planning"].default_steps,
        help="denoising steps (%(default)s)",
    )
    parser.add_argument("--threads", type=whole_number, default=1, help="CPU threads (1)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    clip = render(random_scene(arguments.seed), 17, 64, 96).rgb
    print("| sampler | scale | | speed-up | error |")
    print("|---|---|---|---|---|")
    for name in ("dpm", "ddim"):
        model = replace(build(), scheduler=make_scheduler(name))
        table(model, {"image": clip[0], "goal": clip[-1]}, arguments.seed, name, arguments.steps)


if __name__ == "__main__":
    main()
