"""Which steps run in full: warm-up, fixed interval, adaptive threshold. No torch."""

from __future__ import annotations

import math
from enum import Enum


class Reason(str, Enum):
    """Why a step ran the way it did."""

    WARMUP = "warm-up"
    INTERVAL = "interval"
    THRESHOLD = "threshold"
    NO_CACHE = "nothing cached"
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
    """

    def __init__(self, interval: int, warmup: int, threshold: float = 0.0):
        self.interval = interval
        self.warmup = warmup
        self.threshold = threshold
        self._step = 0
        self._last_full = -1
        self._accumulated = 0.0

    @property
    def adaptive(self) -> bool:
        """Whether `next` needs the drift rate."""
        return self.threshold > 0

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

    def _decide(self, rate: float) -> Reason:
        if self._step < self.warmup:
            return Reason.WARMUP
        if self._step - self._last_full >= self.interval:
            return Reason.INTERVAL
        if self.adaptive:
            if self._step - 1 > self._last_full:
                self._accumulated += rate
            # Asked this way round, NaN computes.
            if not self._accumulated + rate < self.threshold:
                return Reason.THRESHOLD
        return Reason.CACHED


def full_steps(interval: int, warmup: int, steps: int) -> int:
    """Number of full steps among `steps` with a fixed interval."""
    schedule = Schedule(interval, warmup)
    return sum(schedule.next().full for _ in range(steps))
