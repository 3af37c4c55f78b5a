"""How a sampler weighs the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..hero.feedback import GUIDED_TRUST, LAST_STEPS
from ..noise import NoiseSchedule


@dataclass(frozen=True)
class Steps:
    """How a sampler weighs the steps of a run.

    Attributes:
        timesteps: (steps,) of the run, falling.
        ratios: (steps,) signal over noise of the latent.
        weights: (steps - 1,) of a step's clean latent in the latent of the next one, see
            ``NoiseSchedule.weight``.
        carries: (steps - 1,) by which share of what the clean latent has changed since the step before a
            multistep sampler goes beyond it.
        direct: (steps,) of the latent, relative to its noise, in the clean latent.
        stochastic: whether the sampler adds noise. Then the weights are of squared ratios.
        trust: share of a measured error that error feedback corrects; 0 where it is left out.
        uncorrected: number of last steps that are not corrected.
    """

    timesteps: tuple[float, ...]
    ratios: tuple[float, ...]
    weights: tuple[float, ...]
    carries: tuple[float, ...]
    direct: tuple[float, ...]
    stochastic: bool
    trust: float
    uncorrected: int

    @classmethod
    def of(cls, noise: NoiseSchedule, timesteps: Sequence[float]) -> Steps:
        """Of a run that was sampled with this noise."""
        weights = [noise.weight(time, later) for time, later in zip(timesteps, timesteps[1:], strict=False)]
        rough = noise.stochastic or noise.multistep
        trust = (GUIDED_TRUST if noise.stochastic else 1.0) if noise.supports_feedback else 0.0
        ratios = [noise.ratio(time) for time in timesteps]
        factors = [noise.factors(time) for time in timesteps]
        return cls(
            timesteps=tuple(timesteps),
            ratios=tuple(ratios),
            weights=tuple(weights),
            carries=_carries(ratios, noise.multistep),
            # The noise in a latent is as large as the prediction's factor, for v and the velocity of a flow.
            direct=tuple(of_latent * abs(of_prediction) for of_latent, of_prediction in factors),
            stochastic=noise.stochastic,
            trust=trust,
            uncorrected=math.floor(LAST_STEPS) if rough else 1,
        )

    def check(self, steps: int) -> None:
        """
        Raises:
            ValueError: not of so many steps, or numbers that cannot be.
        """
        each = {len(numbers) for numbers in (self.timesteps, self.ratios, self.direct)}
        between = {len(numbers) for numbers in (self.weights, self.carries)}
        if (each, between) != ({steps}, {steps - 1}):
            raise ValueError(f"sampling of {each} and {between} steps, not {steps}")
        sound = isinstance(self.stochastic, bool) and 0 <= self.trust <= 1
        if not sound or self.uncorrected not in range(steps + 1):
            raise ValueError("sampling that cannot be")

    @property
    def known(self) -> bool:
        """Whether all of them are numbers to reckon with."""
        numbers = (*self.timesteps, *self.ratios, *self.weights, *self.carries, *self.direct)
        return all(map(math.isfinite, numbers)) and all(w > 0 for w in self.weights)


def _carries(ratios: Sequence[float], multistep: bool) -> tuple[float, ...]:
    """Half the step in the ratio's logarithm over that of the step before (DPM-Solver++ 2M, arXiv 2211.01095,
    algorithm 2); none from pure noise on."""
    found = [0.0] * max(0, len(ratios) - 1)
    for step in range(1, len(found)):
        before, now, later = ratios[step - 1 : step + 2]
        if multistep and before > 0:
            found[step] = math.log(later / now) / math.log(now / before) / 2
    return tuple(found)
