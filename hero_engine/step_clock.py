"""The steps of one pass: which one it is, and whether it runs in full."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .host import AsyncScalar
from .method import Moment
from .schedule import Reason, Schedule


class StepClock:
    """Counts the steps of a pass by their timesteps, and asks a schedule what each of them is.

    Args:
        schedule: a fresh one.

    Attributes:
        timestep: of the step at hand; infinite before the first.
        moment: its number and age.
        planned: why it is full or cached.
        full_steps: how many were full, the one at hand included.
    """

    def __init__(self, schedule: Schedule):
        self._schedule = schedule
        self._rates: list[AsyncScalar] = []
        self.timestep = math.inf
        self.moment = Moment(-1, 0)
        self.planned = Reason.WARMUP
        self.full_steps = 0

    @property
    def feeds_cached_steps(self) -> bool:
        """Whether the step at hand is a full one from which cached ones go on."""
        return self.planned.full and self.moment.number < self._schedule.reused_until

    def enter(self, timestep: float) -> None:
        """The next step, at a lower timestep than the one at hand."""
        self.timestep = timestep
        self.planned = self._schedule.next(self._rate() if self._schedule.adaptive else math.nan)
        self._rates = []
        age = 0 if self.planned.full else self.moment.age + 1
        self.moment = Moment(self.moment.number + 1, age)
        self.full_steps += self.planned.full

    def promote(self) -> None:
        """The step at hand was to be cached, and runs in full."""
        self.planned = Reason.STALE
        self._schedule.promote()
        self.moment = Moment(self.moment.number, 0)
        self.full_steps += 1

    def drifted(self, rate: Tensor | None) -> None:
        """A branch of the step at hand has drifted at this rate, which an adaptive schedule goes by."""
        if rate is not None and self._schedule.adaptive:
            self._rates.append(AsyncScalar(rate))

    def _rate(self) -> float:
        """Drift of the branch that drifted most in the step before (waits until it is known)."""
        # torch's maximum, because that of a NaN is NaN.
        return float(torch.tensor([rate.read() for rate in self._rates]).max()) if self._rates else math.nan
