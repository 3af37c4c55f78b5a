"""How much noise a latent holds at a timestep, and how much a step of sampling weighs."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .errors import ConfigError

Factors = tuple[float, float]
ROUNDING = 1e-5
"""Timesteps that differ by less, relatively, are one: samplers may compute a step's time anew."""


class NoiseSchedule(ABC):
    """The noise of a model, as its sampler removes it.

    A noisy latent is x = a x_0 + s n, with signal a, noise s and clean latent x_0. What models predict (v, or
    the velocity of a flow) is linear in x_0 and n, and x_0 is linear in x and the prediction.

    Attributes:
        stochastic: whether the sampler adds fresh noise at every step.
        multistep: whether it also uses the answers of earlier steps.
        supports_feedback: whether steps weigh as :meth:`weight` says, closely enough for error feedback.
    """

    stochastic: bool
    multistep: bool
    supports_feedback: bool = True

    @staticmethod
    def of(scheduler: Any) -> NoiseSchedule:
        """The noise schedule of a diffusers scheduler.

        Args:
            scheduler: one that predicts v by a table ``alphas_cumprod`` (CogVideoXDDIMScheduler, or
                CogVideoXDPMScheduler with fresh noise at every step), or one of flow matching
                (FlowMatchEulerDiscreteScheduler, UniPC and DPM-Solver with flow sigmas). Those with a
                ``solver_order`` above 1 are taken as multistep.

        Raises:
            ConfigError: another kind (field ``"scheduler"``).
        """
        if isinstance(scheduler, NoiseSchedule):
            return scheduler
        config = getattr(scheduler, "config", None)
        kind = getattr(config, "prediction_type", None)
        algorithm = str(getattr(config, "algorithm_type", ""))
        multistep = getattr(config, "solver_order", 1) > 1
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if _is_flow(scheduler, kind):
            return _flow(scheduler, algorithm.startswith("sde"), multistep)
        if isinstance(alphas, Tensor) and kind == "v_prediction":
            # CogVideoX's adds noise and is of second order, and has no setting that says so.
            own = type(scheduler).__name__ == "CogVideoXDPMScheduler"
            stochastic = own or algorithm.startswith("sde")
            return VPredictionNoise(tuple(alphas.tolist()), stochastic, own or multistep)
        raise ConfigError(
            "scheduler",
            f"{type(scheduler).__name__} neither predicts v by a table alphas_cumprod nor is one of flow "
            "matching; pass the pipeline's, or a NoiseSchedule, or set feedback to 0",
        )

    @abstractmethod
    def ratio(self, timestep: float) -> float:
        """Signal over noise, a / s; infinite without noise."""

    @abstractmethod
    def factors(self, timestep: float) -> Factors:
        """The factors of the latent and of the prediction in the clean latent."""

    @abstractmethod
    def next(self, timestep: float, length: float) -> float:
        """The timestep of the next step, where the last step was of this length."""

    @abstractmethod
    def ends_within(self, steps: float, timestep: float, length: float) -> bool:
        """Whether the run is over within this many steps, the one at `timestep` included."""

    def clean(self, latent: Tensor, prediction: Tensor, timestep: float) -> Tensor:
        """The clean latent that a prediction of a noisy one stands for, float32."""
        of_latent, of_prediction = self.factors(timestep)
        return (latent.float() * of_latent).add_(prediction.float(), alpha=of_prediction)

    def corrected(self, prediction: Tensor, due: Tensor, timestep: float) -> Tensor:
        """The prediction whose clean latent is larger by `due`."""
        return (prediction.float() + due / self.factors(timestep)[1]).to(prediction.dtype)

    def weight(self, timestep: float, later: float) -> float:
        """What the clean latent of a step from one timestep to a later, smaller one weighs in the result.

        The step of DDIM, which is Euler's for a flow, is x'/s' = x/s + (a'/s' - a/s) x_0, and that of an SDE
        solver of first order (DPM-Solver++, arXiv 2211.01095)
        x' a'/s'^2 = x a/s^2 + (a'^2/s'^2 - a^2/s^2) x_0 + noise.
        """
        power = 2 if self.stochastic else 1
        return float(self.ratio(later) ** power - self.ratio(timestep) ** power)


@dataclass(frozen=True)
class VPredictionNoise(NoiseSchedule):
    """That of a model that predicts v, trained with a table of noise.

    Args:
        alphas_cumprod: (T,) the signal's share of the variance at timesteps 0 to T - 1, in [0, 1], falling.
        stochastic, multistep: see :class:`NoiseSchedule`.

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

    def levels(self, timestep: float) -> tuple[float, float]:
        """Factors (signal, noise) in a latent at a timestep, of which fractions are interpolated."""
        last = len(self.alphas_cumprod) - 1
        place = min(max(timestep, 0.0), float(last))
        low = min(int(place), last - 1)
        share = place - low
        kept = (1 - share) * self.alphas_cumprod[low] + share * self.alphas_cumprod[low + 1]
        return math.sqrt(kept), math.sqrt(1 - kept)

    def ratio(self, timestep: float) -> float:
        """See :class:`NoiseSchedule`."""
        signal, noise = self.levels(timestep)
        return signal / noise

    def factors(self, timestep: float) -> Factors:
        """See :class:`NoiseSchedule`: x_0 = a x - s v."""
        signal, noise = self.levels(timestep)
        return signal, -noise

    def next(self, timestep: float, length: float) -> float:
        """See :class:`NoiseSchedule`: a step as long as the last, since steps are even or nearly so."""
        return timestep - length

    def ends_within(self, steps: float, timestep: float, length: float) -> bool:
        """See :class:`NoiseSchedule`."""
        return timestep < length * steps


@dataclass(frozen=True)
class StepNoise(NoiseSchedule):
    """That of one run, known at its steps. Between them it is interpolated.

    Args:
        timesteps: of the run's steps, falling.
        ratios: signal over noise at each; 0 for pure noise.
        steps: of the latent and of the prediction in the clean latent, at each.
        stochastic, multistep, supports_feedback: see :class:`NoiseSchedule`.

    Raises:
        ConfigError: not as many of each, no steps, or timesteps that rise (field ``"scheduler"``).
    """

    timesteps: tuple[float, ...]
    ratios: tuple[float, ...]
    steps: tuple[Factors, ...]
    stochastic: bool = False
    multistep: bool = False
    supports_feedback: bool = True

    def __post_init__(self) -> None:
        times = self.timesteps
        falling = all(later <= earlier for earlier, later in zip(times, times[1:], strict=False))
        if not times or not falling or not len(times) == len(self.ratios) == len(self.steps):
            raise ConfigError("scheduler", "its timesteps must fall, each with its noise")

    def ratio(self, timestep: float) -> float:
        """See :class:`NoiseSchedule`."""
        return self._at(self.ratios, timestep)

    def factors(self, timestep: float) -> Factors:
        """See :class:`NoiseSchedule`."""
        return (
            self._at([step[0] for step in self.steps], timestep),
            self._at([step[1] for step in self.steps], timestep),
        )

    def next(self, timestep: float, length: float) -> float:
        """See :class:`NoiseSchedule`; the last step has none behind it, and gives itself."""
        return max(self._later(timestep), default=timestep)

    def ends_within(self, steps: float, timestep: float, length: float) -> bool:
        """See :class:`NoiseSchedule`."""
        return 1 + len(self._later(timestep)) <= steps

    def _later(self, timestep: float) -> list[float]:
        """Timesteps of the steps to come, without that of the step itself, computed with another rounding."""
        return [
            time
            for time in self.timesteps
            if time < timestep and not math.isclose(time, timestep, rel_tol=ROUNDING)
        ]

    def _at(self, values: Sequence[float], timestep: float) -> float:
        # bisect needs rising numbers.
        place = bisect.bisect_left(self.timesteps, -timestep, key=lambda time: -time)
        if place == len(values):
            return values[-1]
        if place == 0 or self.timesteps[place] == timestep:
            return values[place]
        before, behind = self.timesteps[place - 1 : place + 1]
        share = (before - timestep) / (before - behind)
        return (1 - share) * values[place - 1] + share * values[place]


def _is_flow(scheduler: Any, kind: Any) -> bool:
    """Whether a scheduler mixes (1 - sigma) x_0 + sigma n."""
    return kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")


def _flow(scheduler: Any, stochastic: bool, multistep: bool) -> StepNoise:
    """From the timesteps that a flow's scheduler has set, those of training before it has set any."""
    times = [float(time) for time in scheduler.timesteps]
    known = getattr(scheduler, "sigmas", None)
    if known is None or len(known) < len(times):
        known = [time / scheduler.config.num_train_timesteps for time in times]
    sigmas = [float(sigma) for sigma in known][: len(times)]
    # Cosmos Predict2's go up to 80: x_0 + sigma n, of which its pipeline gives the model x / (1 + sigma).
    mixed = sigmas if max(sigmas) <= 1 else [sigma / (1 + sigma) for sigma in sigmas]
    ratios = tuple((1 - share) / share if share else math.inf for share in mixed)
    stochastic = stochastic or bool(getattr(scheduler.config, "stochastic_sampling", False))
    return StepNoise(tuple(times), ratios, tuple((1.0, -share) for share in mixed), stochastic, multistep)
