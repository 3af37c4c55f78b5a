"""HERO under a flow's schedule, on a trained model: the bundled miniature, sampled as flow matching samples.

    python -m benchmarks.flow

A model that predicts v at a noise level is one of a flow at the same ratio of signal to noise: with sigma =
s / (a + s), its latent is the model's over (a + s). So the miniature takes Euler's steps over a flow's
sigmas, shifted as Wan's and HunyuanVideo's samplers shift them, and HERO goes by the flow's timesteps and
noise. Reconstruction of scenes; error |a - b| / |b| of the final latent, b being the run without HERO, as a
geometric mean over scenes, by share of error feedback.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from aether.miniature import build, random_scene, render
from aether.model.parts import AetherModel
from aether.model.rotary import rotary_embeddings
from evaluation.world import FPS, world_conditions
from hero_engine import HeroConfig, HeroRun, StepNoise, hero_session
from hero_engine.command_options import whole_number
from hero_engine.host import TimestepReader

RUNS = ((30, 1.0), (30, 3.0), (50, 5.0), (20, 8.0))
"""Steps and shift."""
SHARES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Level:
    """One step's noise: the flow's sigma, and the model's timestep, signal and noise at the same ratio."""

    sigma: float
    timestep: float
    signal: float
    noise: float


def levels(model: AetherModel, steps: int, shift: float) -> list[Level]:
    """Of a run of so many steps."""
    even = [1 - number / steps for number in range(steps)]
    return [_level(model, shift * place / (1 + (shift - 1) * place)) for place in even]


def _level(model: AetherModel, sigma: float) -> Level:
    ratio = (1 - sigma) / sigma
    kept = ratio**2 / (1 + ratio**2)
    table = model.scheduler.alphas_cumprod.double()
    behind = int((table > kept).sum().clamp(1, len(table) - 1))
    before, after = table[behind - 1 : behind + 1].tolist()
    timestep = behind - 1 + min(max((before - kept) / (before - after), 0.0), 1.0)
    return Level(sigma, timestep, kept**0.5, (1 - kept) ** 0.5)


class FlowTimesteps(TimestepReader):
    """Reads the model's timesteps as the flow's."""

    def __init__(self, steps: list[Level]):
        super().__init__()
        self._flow = {float(torch.tensor(step.timestep)): 1000 * step.sigma for step in steps}

    def read(self, timestep: Tensor | float) -> float:
        """See :class:`~hero_engine.host.TimestepReader`."""
        return self._flow[super().read(timestep)]


class FlowRun:
    """Reconstruction of a scene by Euler's steps of a flow."""

    def __init__(self, model: AetherModel, scene: int):
        clip = render(random_scene(scene), 17, 64, 96, FPS)
        generator = torch.Generator().manual_seed(scene)
        self._model = model
        self._condition = world_conditions(model, "reconstruction", clip, generator).cond
        _, frames, _, rows, columns = self._condition.shape
        self._noise = torch.randn(1, frames, model.spec.out_channels, rows, columns, generator=generator)
        self._rotary = rotary_embeddings(model.spec, frames, rows, columns, fps=FPS, device=model.device)

    @torch.no_grad()
    def sample(self, steps: list[Level]) -> Tensor:
        """The final latent."""
        latent = self._noise.clone()
        for level, later in zip(steps, [*(step.sigma for step in steps[1:]), 0.0], strict=True):
            noisy = latent * (level.signal + level.noise)
            clean = level.signal * noisy - level.noise * self._answer(noisy, level.timestep)
            latent = latent + (later - level.sigma) * (latent - clean) / level.sigma
        return latent

    def _answer(self, noisy: Tensor, timestep: float) -> Tensor:
        answer: Tensor = self._model.transformer(
            hidden_states=torch.cat([noisy, self._condition], dim=2),
            encoder_hidden_states=self._model.prompt_embeds,
            timestep=torch.tensor([timestep]),
            image_rotary_emb=self._rotary,
            return_dict=False,
        )[0]
        return answer

    def accelerated(self, steps: list[Level], config: HeroConfig) -> tuple[Tensor, HeroRun]:
        """The final latent under HERO, and the session's run."""
        factors = tuple((step.signal, -step.noise) for step in steps)
        sigmas = tuple(step.sigma for step in steps)
        ratios = tuple(step.signal / step.noise for step in steps)
        noise = StepNoise(tuple(1000 * sigma for sigma in sigmas), ratios, factors)
        with hero_session(self._model.transformer, config, len(steps), noise) as run:
            # The model is given its own timesteps; HERO is to go by the flow's.
            run._adapter._timesteps = FlowTimesteps(steps)
            return self.sample(steps), run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=whole_number, default=3, help="how many, from seed 1; default: 3")
    options = parser.parse_args(arguments)
    model = build()
    runs = [FlowRun(model, scene) for scene in range(1, options.scenes + 1)]
    print("steps  shift  preset    speed-up   error by share of feedback: " + ", ".join(map(str, SHARES)))
    for steps, shift in RUNS:
        schedule = levels(model, steps, shift)
        plain = [run.sample(schedule) for run in runs]
        for preset in ("balanced", "fast"):
            means = []
            for share in SHARES:
                errors = []
                for run, wanted in zip(runs, plain, strict=True):
                    found, session = run.accelerated(schedule, HeroConfig.preset(preset, feedback=share))
                    errors.append(float((found - wanted).norm() / wanted.norm()))
                means.append(statistics.geometric_mean(errors))
            bound = session.report.predicted_speedup
            shown = ", ".join(f"{mean:.5f}" for mean in means)
            print(f"{steps:>5} {shift:>6} {preset:>9} {bound:>9.2f}x   {shown}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
