"""How much noise a latent holds at a timestep, and how much a step of sampling weighs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .errors import ConfigError


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise of a v-predicting model, as its sampler takes it away.

    Args:
        alphas_cumprod: (T,) the signal's share of the variance at timesteps 0 to T - 1, in [0, 1], falling.
        stochastic: whether the sampler puts fresh noise in at every step.
        multistep: whether it goes by the answers of earlier steps as well.

    Raises:
        ConfigError: another shape, numbers out of range or rising (field ``"scheduler"``).
    """

    alphas_cumprod: tuple[float, ...]
    stochastic: bool = False
    multistep: bool = False

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.alphas_cumprod)
        falling = all(0 <= later <= earlier < 1 for earlier, later in zip(values, values[1:], strict=False))
        if len(values) < 2 or not falling:
            raise ConfigError(
                "scheduler",
                "its alphas_cumprod must be at least two numbers that fall, from below 1 to 0 or more",
            )
        object.__setattr__(self, "alphas_cumprod", values)

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """That of a diffusers scheduler.

        Args:
            scheduler: CogVideoXDPMScheduler (fresh noise at every step), CogVideoXDDIMScheduler, or another
                with ``alphas_cumprod`` that predicts v. Those with a ``solver_order`` above 1 are taken as
                multistep.

        Raises:
            ConfigError: it has no such table, or predicts something else (field ``"scheduler"``).
        """
        if isinstance(scheduler, NoiseSchedule):
            return scheduler
        alphas = getattr(scheduler, "alphas_cumprod", None)
        kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
        if not isinstance(alphas, Tensor) or kind != "v_prediction":
            raise ConfigError(
                "scheduler",
                f"{type(scheduler).__name__} is no scheduler that predicts v by a table alphas_cumprod; "
                "pass the pipeline's, or a NoiseSchedule",
            )
        algorithm = str(getattr(scheduler.config, "algorithm_type", ""))
        stochastic = type(scheduler).__name__ == "CogVideoXDPMScheduler" or algorithm.startswith("sde")
        multistep = getattr(scheduler.config, "solver_order", 1) > 1
        return cls(tuple(alphas.tolist()), stochastic, multistep)

    def levels(self, timestep: float) -> tuple[float, float]:
        """Factors (signal, noise) in a latent at a timestep, of which fractions are interpolated."""
        last = len(self.alphas_cumprod) - 1
        place = min(max(timestep, 0.0), float(last))
        low = min(int(place), last - 1)
        share = place - low
        kept = (1 - share) * self.alphas_cumprod[low] + share * self.alphas_cumprod[low + 1]
        return math.sqrt(kept), math.sqrt(1 - kept)

    def clean(self, latent: Tensor, velocity: Tensor, timestep: float) -> Tensor:
        """The clean latent that a prediction v of a noisy one stands for, float32."""
        signal, noise = self.levels(timestep)
        return (latent.float() * signal).sub_(velocity.float(), alpha=noise)

    def weight(self, timestep: float, later: float) -> float:
        """What the clean latent of a step from one timestep to a later, smaller one weighs in the result.

        With a and s the levels, DDIM's step is x'/s' = x/s + (a'/s' - a/s) x_0, and that of an SDE solver of
        first order (DPM-Solver++, arXiv 2211.01095) x' a'/s'^2 = x a/s^2 + (a'^2/s'^2 - a^2/s^2) x_0 + noise.
        """
        return self._ratio(later) - self._ratio(timestep)

    def _ratio(self, timestep: float) -> float:
        signal, noise = self.levels(timestep)
        return (signal / noise) ** (2 if self.stochastic else 1)
