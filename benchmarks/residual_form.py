"""How far the residual form is from the paper's per-block HERO, and both from the untouched model.

    python -m benchmarks.residual_form

Every figure is |a - b| / |b| of the final unified latent, on the bundled miniature: planning in 50 steps with
guidance and reconstruction in 30 steps, with the reference's sampler (stochastic DPM, dynamic guidance) and
with a deterministic one (DDIM, constant guidance), for shares tau of the blocks and intervals N.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from aether.defaults import TASKS
from aether.generation.sampling import sample
from aether.generation.tasks import condition
from aether.miniature import build, random_scene, render
from aether.model.parts import AetherModel
from evaluation.models import with_sampler
from hero_engine import HeroConfig, hero_session
from hero_engine.command_options import whole_number
from tests.hero_engine.oracle import PerBlockHero

from .guidance import distance

STEPS = {name: TASKS[name].accelerated_steps for name in ("planning", "reconstruction")}


def prepare(task: str, deterministic: bool, seed: int) -> tuple[AetherModel, Callable[[], torch.Tensor]]:
    """The miniature, and a function that runs it and returns the final latent."""
    model = with_sampler(build(0), "deterministic" if deterministic else "reference")
    clip = render(random_scene(seed), 17, 64, 96).rgb
    given = {"video": clip} if task == "reconstruction" else {"image": clip[0], "goal": clip[-1]}

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        conditions = condition(model, task, **given, frames=17, generator=generator)
        dynamic = False if deterministic else None
        return sample(model, conditions, steps=STEPS[task], dynamic_guidance=dynamic, generator=generator)

    return model, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=whole_number, default=0, help="scene and noise (0)")
    parser.add_argument("--threads", type=whole_number, default=1, help="CPU threads (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| sampler | task | tau | N | residual form | per block | the two apart |")
    print("|---|---|---|---|---|---|---|")
    for deterministic in (False, True):
        for task in STEPS:
            model, run = prepare(task, deterministic, arguments.seed)
            truth = run()
            for tau in ("25%", "50%", "75%"):
                for interval in (2, 3):
                    config = HeroConfig(tau=tau, interval=interval, text="omit")
                    with hero_session(model.transformer, config, STEPS[task]):
                        residual = run()
                    with PerBlockHero(model.transformer, config, STEPS[task]):
                        per_block = run()
                    print(
                        f"| {'DDIM' if deterministic else 'DPM'} | {task} | {tau} | {interval} | "
                        f"{distance(residual, truth):.4f} | {distance(per_block, truth):.4f} | "
                        f"{distance(residual, per_block):.4f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
