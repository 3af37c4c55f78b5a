"""What cheaper guidance changes: the unconditional pass left out where the scale is nearly 1, and the
difference of the two passes reused on other steps.

    python -m benchmarks.guidance

Planning on the bundled miniature in 50 steps. Every figure is |a - b| / |b| of the final unified latent, b
being the run with both passes on every step, of the same sampler; beside it the passes of a step, on average.

    skip T      the conditional pass alone where the scale is at most 1 + T
    reuse N     conditional + (scale - 1) * (conditional - unconditional) with the difference of the latest
                step that had both; on N - 1 of N steps, beginning after the fourth
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from aether import sampling
from aether.miniature import build, random_scene, render
from aether.model import AetherModel
from aether.tasks import condition
from hero_engine import HeroConfig, hero_session

STEPS = 50
WARMUP = 4


@contextmanager
def reuse(interval: int) -> Iterator[None]:
    """Samples with the difference of the passes taken from an earlier step, for the time of the context."""
    original, step, difference = sampling._guided_output, 0, None

    def guided(pass_with, conditions, strength, branch, apart) -> torch.Tensor:
        nonlocal step, difference
        step += 1
        if strength is None or (step > WARMUP and (step - WARMUP) % interval):
            conditional = pass_with(conditions.cond)
        else:
            both = torch.cat([conditions.uncond, conditions.cond])
            unconditional, conditional = pass_with(both).chunk(2)
            difference = conditional - unconditional
        return conditional if strength is None else conditional + (strength - 1) * difference

    sampling._guided_output = guided
    try:
        yield
    finally:
        sampling._guided_output = original


def runner(
    model: AetherModel, pictures: dict[str, np.ndarray], seed: int, dynamic: bool
) -> Callable[..., tuple[torch.Tensor, float]]:
    """A function that samples with options, and gives the latent and the passes per step."""

    def run(around: Any = None, **options: Any) -> tuple[torch.Tensor, float]:
        generator = torch.Generator().manual_seed(seed)
        conditions = condition(model, "planning", **pictures, generator=generator)
        passes = 0

        def count(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            nonlocal passes
            passes += len(kwargs["hidden_states"])

        hook = model.transformer.register_forward_pre_hook(count, with_kwargs=True)
        try:
            with around or nullcontext():
                latent = sampling.sample(
                    model, conditions, steps=STEPS, dynamic_guidance=dynamic, generator=generator, **options
                )
        finally:
            hook.remove()
        return latent, passes / STEPS

    return run


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def table(model: AetherModel, pictures: dict[str, np.ndarray], seed: int, name: str) -> None:
    """Print the rows of one model, whose scheduler is the sampler."""
    for dynamic in (True, False):
        run = runner(model, pictures, seed, dynamic)
        truth, _ = run()
        rows: dict[str, tuple[Any, dict[str, Any]]] = {}
        if dynamic:
            rows = {f"skip {t:g}": (None, {"guidance_skip": t}) for t in (1e-5, 0.01, 0.05, 0.1)}
            for t in (0.0, 0.05, 0.1):
                session = hero_session(model.transformer, HeroConfig.preset("paper"), STEPS)
                rows[f"HERO paper, skip {t:g}"] = (None, {"guidance_skip": t, "session": session})
        rows |= {f"reuse {n}": (reuse(n), {}) for n in (2, 3)}
        for row, (around, options) in rows.items():
            latent, passes = run(around, **options)
            kind = "dynamic" if dynamic else "constant"
            print(f"| {name} | {kind} | {row} | {passes:.2f} | {distance(latent, truth):.5f} |", flush=True)


def main() -> None:
    from aether.loading import make_scheduler

    parser = argparse.ArgumentParser(description="What cheaper guidance changes.")
    parser.add_argument("--seed", type=int, default=0, help="scene and noise (0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clip = render(random_scene(arguments.seed), 17, 64, 96, 12).rgb
    print("| sampler | scale | | passes a step | distance |")
    print("|---|---|---|---|---|")
    for name in ("dpm", "ddim"):
        model = AetherModel(**{**vars(build()), "scheduler": make_scheduler(name)})
        table(model, {"image": clip[0], "goal": clip[-1]}, arguments.seed, name)


if __name__ == "__main__":
    main()
