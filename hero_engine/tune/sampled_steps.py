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
        power: of the ratio in these weights: 1, or 2 for a sampler that adds noise.
        trust: share of a measured error that error feedback corrects; 0 where it is left out.
        uncorrected: number of last steps that are not corrected.
    """

    timesteps: tuple[float, ...]
    ratios: tuple[float, ...]
    weights: tuple[float, ...]
    power: int
    trust: float
    uncorrected: int

    @classmethod
    def of(cls, noise: NoiseSchedule, timesteps: Sequence[float]) -> Steps:
        """Of a run that was sampled with this noise."""
        weights = [noise.weight(time, later) for time, later in zip(timesteps, timesteps[1:], strict=False)]
        rough = noise.stochastic or noise.multistep
        trust = (GUIDED_TRUST if noise.stochastic else 1.0) if noise.supports_feedback else 0.0
        return cls(
            timesteps=tuple(timesteps),
            ratios=tuple(noise.ratio(time) for time in timesteps),
            weights=tuple(weights),
            power=2 if noise.stochastic else 1,
            trust=trust,
            uncorrected=math.floor(LAST_STEPS) if rough else 1,
        )

    def check(self, steps: int) -> None:
        """
        Raises:
            ValueError: not of so many steps, or numbers that cannot be.
        """
        lengths = len(self.timesteps), len(self.ratios), len(self.weights)
        if lengths != (steps, steps, steps - 1):
            raise ValueError(f"sampling of {lengths} steps, not {steps}")
        if self.power not in (1, 2) or not 0 <= self.trust <= 1 or self.uncorrected not in range(steps + 1):
            raise ValueError("sampling that cannot be")

    @property
    def known(self) -> bool:
        """Whether all of them are numbers to reckon with."""
        return all(map(math.isfinite, (*self.timesteps, *self.ratios, *self.weights))) and all(
            w > 0 for w in self.weights
        )
