"""Settings that are worth a run, by what a recording predicts of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..cost.prediction import cached_step_flops, full_step_flops, predict
from ..hero.config import PRESETS, HeroConfig
from ..schedule import step_ages
from ..step_mask import StepMask
from .masks import best_mask, even_mask
from .recording import Recording
from .trials import Trial

_TAUS = ("25%", "10%", "50%")
_WARMUPS = (1, 2, 3, 4, 6, 8)
_COOLDOWNS = (1, 2, 3, 5, 8)
_MOST_INTERVAL = 12
_COOLDOWN = 0.1
_LEAST_FULL = 2
_PUBLISHED = HeroConfig()
_UNUSED = {name: getattr(_PUBLISHED, name) for name in ("interval", "warmup", "cooldown")}
"""Beside a mask: as they are by default, so that a setting's text does not name them."""


@dataclass(frozen=True)
class Candidate:
    """A setting, its speed-up by FLOPs, and its predicted error without the recording's scale, infinite where
    nothing is predicted."""

    config: HeroConfig
    speedup: float
    error: float


class Candidates:
    """Settings for one recorded run.

    Args:
        recording: of the run; what was fitted to trials does not count, so that the order stays.
    """

    def __init__(self, recording: Recording):
        self._recording = replace(recording, openness=0.0, scale=1.0)
        self._masked: dict[int, Candidate] = {}

    @property
    def predicts(self) -> bool:
        return self._recording.sampling is not None

    def scale(self, trials: Sequence[Trial]) -> float:
        """Of predicted errors, by those of trials; 1 before there are any."""
        pairs = [(trial.config, trial.error) for trial in trials if not trial.failed]
        return self._recording.scaled(pairs).scale

    def judged(self, config: HeroConfig) -> Candidate:
        """A setting with what it costs and what is predicted of it."""
        cost = predict(config, self._recording.shape, self._recording.steps)
        error = self._recording.predict_error(config)
        return Candidate(config, cost.speedup_bound, math.inf if error is None else error)

    def at_speed(self, speed: float) -> list[Candidate]:
        """Settings that are at least so fast, the lowest predicted error first: the best mask and the best
        even rhythm of each kind, and the presets. No two of them run alike."""
        found = [candidate for base in self._bases() for candidate in self._of(base, speed)]
        found += [self.judged(self._usable(config)) for config in PRESETS.values()]
        fast = [candidate for candidate in found if candidate.speedup >= speed]
        # Of those that run alike the rhythm, which is shorter as text.
        ordered = sorted(fast, key=lambda one: (one.error, one.speedup, one.config.mask != ""))
        different: dict[HeroConfig, Candidate] = {}
        for one in ordered:
            different.setdefault(self.as_mask(one.config), one)
        return list(different.values())

    def as_mask(self, config: HeroConfig) -> HeroConfig:
        """A setting with its full steps as a mask: equal for settings that run alike."""
        if config.threshold > 0:
            return config
        ages = self._ages(config)
        return replace(config, mask=str(StepMask(tuple(age == 0 for age in ages))), **_UNUSED)

    def masked(self, full: int) -> Candidate:
        """The best mask of so many full steps; an even one where nothing is predicted."""
        if full not in self._masked:
            self._masked[full] = self._with_mask(self._bases()[0], full)
        return self._masked[full]

    def reach(self) -> float:
        """The highest speed-up that there is: two full steps."""
        low, high = 1.0, float(self._recording.steps)
        base = self._bases()[1]
        return max((s for s in _between(low, high) if self.most_full(base, s) >= _LEAST_FULL), default=low)

    def most_full(self, config: HeroConfig, speed: float) -> int:
        """How many steps may be full at a speed-up; below 2 where it is out of reach."""
        steps = self._recording.steps
        counts = replace(config, mask="", warmup=1, cooldown=0).resolve(self._recording.blocks, steps)
        share = cached_step_flops(self._recording.shape, config, counts) / full_step_flops(
            self._recording.shape
        )
        return math.floor((steps / speed - steps * share) / (1 - share) + 1e-9)

    def _bases(self) -> list[HeroConfig]:
        """This pack's own way, with several taus, without error feedback, and with a damped trend."""
        own = replace(self._recording.hero, trend="linear")
        bases = [replace(own, tau=tau, mask="") for tau in _TAUS]
        return [*bases, replace(bases[0], feedback=0.0), replace(bases[0], trend="damped")]

    def _of(self, base: HeroConfig, speed: float) -> Iterator[Candidate]:
        full = self.most_full(base, speed)
        if full < _LEAST_FULL:
            return
        if self.predicts:
            yield self._with_mask(base, full)
        even = [self.judged(config) for config in self._even(base, full)]
        if even:
            yield min(even, key=lambda one: (one.error, one.speedup))

    def _usable(self, config: HeroConfig) -> HeroConfig:
        """Without error feedback where the recorded run had none to give."""
        return config if self._recording.hero.feedback else replace(config, feedback=0.0)

    def _with_mask(self, base: HeroConfig, full: int) -> Candidate:
        if self.predicts:
            mask = best_mask(self._recording, full, base)
        else:
            mask = even_mask(self._recording.steps, full)
        return self.judged(replace(base, mask=str(mask), **_UNUSED))

    def _even(self, base: HeroConfig, full: int) -> Iterator[HeroConfig]:
        """Rhythms with that many full steps, or one less; those with the presets' cool-down first."""
        steps = self._recording.steps
        for cooldown in sorted(_COOLDOWNS, key=lambda one: abs(one - _COOLDOWN * steps)):
            for warmup in _WARMUPS:
                for interval in range(2, _MOST_INTERVAL + 1):
                    config = replace(base, interval=interval, warmup=warmup, cooldown=cooldown)
                    if full - 1 <= self._ages(config).count(0) <= full:
                        yield config

    def _ages(self, config: HeroConfig) -> list[int]:
        """Of each step, 0 for a full one."""
        steps = self._recording.steps
        return step_ages(config.schedule(config.resolve(self._recording.blocks, steps)), steps)


def _between(low: float, high: float) -> list[float]:
    """Speeds to try, a twentieth apart."""
    count = math.floor(math.log(high / low) / math.log(1.05))
    return [low * 1.05**number for number in range(count + 1)]
