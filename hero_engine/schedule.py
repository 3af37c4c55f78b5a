"""Which steps run in full: warm-up, fixed interval, adaptive threshold, cool-down, or a mask. No torch."""

from __future__ import annotations

import math
from enum import Enum

from .step_mask import StepMask


class Reason(str, Enum):
    """Why a step ran the way it did."""

    WARMUP = "warm-up"
    INTERVAL = "interval"
    THRESHOLD = "threshold"
    COOLDOWN = "cool-down"
    MASK = "mask"
    NO_CACHE = "nothing cached"
    STALE = "left out before"
    MEMORY = "out of memory"
    CACHED = "cached"

    @property
    def full(self) -> bool:
        return self is not Reason.CACHED


class Schedule:
    """Decides step by step between full and cached.

    After `warmup` full steps, every `interval`-th step is full, cached ones first: with interval 2 and
    warm-up 4, 27 of 50 and 17 of 30 steps are full; with interval 3 and a warm-up of 20 %, 23 and 14
    (the counts behind the paper's FLOPs, tables 1 and 2).

    With a threshold, a step is cached only while the drift accumulated since the last full step, carried
    forward by one step at the latest rate, stays below it. For any sequence of rates a smaller threshold
    never gives fewer full steps: the step at which a stretch ends is monotone both in the threshold and in
    the step at which the stretch began.

    Args:
        interval: N >= 1.
        warmup: leading full steps, >= 1.
        threshold: 0 for the fixed interval, else the bound on the accumulated drift.
        end: the cool-down's first step, counted from 0: from it on all are full. Infinite for none.
    """

    def __init__(self, interval: int, warmup: int, threshold: float = 0.0, end: float = math.inf):
        self.interval = interval
        self.warmup = warmup
        self.threshold = threshold
        self.end = end
        self._step = 0
        self._last_full = -1
        self._accumulated = 0.0

    @property
    def adaptive(self) -> bool:
        """Whether `next` needs the drift rate."""
        return self.threshold > 0

    @property
    def reused_until(self) -> float:
        """The first step from which on no cached step goes on from a full one."""
        return self.end if self.interval > 1 else 0

    def next(self, rate: float = math.nan) -> Reason:
        """Decide the next step.

        Args:
            rate: relative change per step that was measured last (NaN where nothing was measured yet).
                Read only by an adaptive schedule.
        """
        reason = self._decide(rate)
        if reason.full:
            self._last_full = self._step
            self._accumulated = 0.0
        self._step += 1
        return reason

    def promote(self) -> None:
        """The step just decided runs in full, whatever the decision was."""
        self._last_full = self._step - 1
        self._accumulated = 0.0

    def _decide(self, rate: float) -> Reason:
        planned = self._planned()
        if planned.full:
            return planned
        if self.adaptive:
            if self._step - 1 > self._last_full:
                self._accumulated += rate
            # Asked this way round, NaN computes.
            if not self._estimate(rate) < self.threshold:
                return Reason.THRESHOLD
        return Reason.CACHED

    def _planned(self) -> Reason:
        """What the step at hand is where nothing drifts."""
        if self._step < self.warmup:
            return Reason.WARMUP
        if self._step >= self.end:
            return Reason.COOLDOWN
        if self._step - self._last_full >= self._limit():
            return Reason.INTERVAL
        return Reason.CACHED

    def _limit(self) -> int:
        """The interval after the last full step."""
        return self.interval

    def _estimate(self, rate: float) -> float:
        """The drift that the step at hand would end with."""
        return self._accumulated + rate


class TaperedSchedule(Schedule):
    """A schedule whose interval shrinks over the run: round(N / (1 - taper + 2 taper p)) after a full step
    at share p of the run (ToCa).

    Args:
        interval, warmup, end: see :class:`Schedule`.
        taper: 0 (the interval stays) to below 1.
        steps: number of steps of the run.
    """

    def __init__(self, interval: int, warmup: int, taper: float, steps: int, end: float = math.inf):
        super().__init__(interval, warmup, end=end)
        self.taper = taper
        self.steps = steps

    def _limit(self) -> int:
        share = self._last_full / self.steps
        return max(1, round(self.interval / (1 - self.taper + 2 * self.taper * share)))


class ErrorSchedule(Schedule):
    """Cached steps go on while the error that they were estimated to make stays below the threshold
    (WorldCache). `next` is given the error of the step before.

    Args:
        interval, warmup, threshold, end: see :class:`Schedule`.
    """

    def _estimate(self, rate: float) -> float:
        return self._accumulated


class MaskSchedule(Schedule):
    """Full where a mask says so; with a threshold, where drift calls for it, too.

    Args:
        mask: of the run's steps. Steps beyond it, which nobody planned, are full.
        threshold: see :class:`Schedule`.
    """

    def __init__(self, mask: StepMask, threshold: float = 0.0):
        super().__init__(mask.longest_cached + 1, mask.leading, threshold)
        self.mask = mask

    @property
    def reused_until(self) -> float:
        """See :class:`Schedule`: the mask's last cached step."""
        return max((step for step, full in enumerate(self.mask.full) if not full), default=0)

    def _planned(self) -> Reason:
        full = self._step >= len(self.mask.full) or self.mask.full[self._step]
        return Reason.MASK if full else Reason.CACHED


def step_ages(schedule: Schedule, steps: int) -> list[int]:
    """Steps since the last full one, of each of `steps` steps (0 for a full one), where nothing drifts."""
    ages, age = [], 0
    for _ in range(steps):
        age = 0 if schedule.next(0.0).full else age + 1
        ages.append(age)
    return ages


def full_steps(interval: int, warmup: int, steps: int) -> int:
    """Number of full steps among `steps` with a fixed interval."""
    schedule = Schedule(interval, warmup)
    return sum(schedule.next().full for _ in range(steps))
