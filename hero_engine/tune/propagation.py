"""The error of cached steps on its way through the sampler to the result.

The latent's error e is followed as E = e / s (with a sampler that adds noise: e a / s^2), in which a step
adds its weight times the error of its clean latent (``NoiseSchedule.weight``). The clean latent of a full
step answers an error of the latent with a part of it: kappa e / a. Of errors along the data, which forecasts
make, more is kept the less noise there is: kappa = ratio^2 / (ratio^2 + OPENNESS). Errors across it, which
the refresh of tokens makes, are taken for noise and removed: kappa = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..hero.config import HeroConfig
from ..schedule import step_ages
from .sampled_steps import Steps
from .tables import SHARES, SKETCH, Tables

OPENNESS = 1.0
"""Chosen on the runs that docs/tuner.md gives figures of; see there for how much it depends on the clip."""

_Errors = tuple[np.ndarray, np.ndarray]
"""Of a clean latent: along the data and across it."""


@dataclass
class _Gap:
    """A full step and the cached ones since: errors of their clean latents, before any correction.

    Attributes:
        begin, before: numbers of the full step and of the one before it.
        first, given: errors of the full step, and of the cached ones by number.
    """

    begin: int
    first: _Errors
    given: dict[int, _Errors]
    before: int | None = None


def propagated(tables: Tables, sampling: Steps, config: HeroConfig, blocks: int, ratio: float) -> float:
    """The relative error of the result of a run.

    Args:
        tables, sampling: of the unaccelerated run.
        config: the settings.
        blocks: of the model.
        ratio: share of the tokens that was refreshed in the trials.
    """
    counts = config.resolve(blocks, tables.steps)
    ages = step_ages(config.schedule(counts), tables.steps)
    misses = _Misses(tables, config, counts.tau / blocks, ratio)
    return _Run(tables, sampling, misses, config.feedback * sampling.trust).error(ages)


class _Run:
    """One run, of errors alone.

    Two of them are followed: `along` the data and `across` it.
    """

    def __init__(self, tables: Tables, sampling: Steps, misses: _Misses, feedback: float):
        self._tables, self._sampling, self._misses, self._feedback = tables, sampling, misses, feedback

    def error(self, ages: list[int]) -> float:
        along, across = np.zeros(SKETCH), np.zeros(SKETCH)
        gap = _Gap(0, (along, across), {})
        for step, age in enumerate(ages):
            if age == 0:
                raw = self._response(step, along), np.zeros(SKETCH)
                off = self._corrected(step, raw, gap)
                gap = _Gap(step, raw, {}, gap.begin if step else None)
            else:
                miss, scatter = self._misses.at(step, gap.begin, gap.before)
                off = miss + gap.first[0], scatter
                gap.given[step] = off
            if step < len(self._sampling.weights):
                weight = self._sampling.weights[step]
                along, across = along + weight * off[0], across + weight * off[1]
        return math.hypot(float(np.linalg.norm(off[0])), float(np.linalg.norm(off[1])))

    def _response(self, step: int, along: np.ndarray) -> np.ndarray:
        """The error of a full step's clean latent."""
        ratio = self._sampling.ratios[step]
        if ratio <= 0:
            return np.zeros(SKETCH)
        return along * (ratio**2 / (ratio**2 + OPENNESS) / ratio**self._sampling.power)

    def _corrected(self, step: int, raw: _Errors, cached: _Gap) -> _Errors:
        """A full step's answer with error feedback, see :mod:`hero_engine.hero.feedback`."""
        weights, clean = self._sampling.weights, self._tables.clean
        if not self._feedback or not cached.given:
            return raw
        if step >= self._tables.steps - self._sampling.uncorrected:
            return raw
        times = self._sampling.timesteps
        owed = [np.zeros(SKETCH), np.zeros(SKETCH)]
        for number, given in cached.given.items():
            place = (times[number] - times[cached.begin]) / (times[step] - times[cached.begin])
            share = weights[number] / weights[step]
            bend = clean[cached.begin] + (clean[step] - clean[cached.begin]) * place - clean[number]
            for part, curved in ((0, bend), (1, 0.0)):
                line = cached.first[part] + (raw[part] - cached.first[part]) * place
                owed[part] = owed[part] + (line + curved - given[part]) * share
        return raw[0] + self._feedback * owed[0], raw[1] + self._feedback * owed[1]


class _Misses:
    """How far cached steps are off by themselves."""

    def __init__(self, tables: Tables, config: HeroConfig, share: float, ratio: float):
        self._tables, self._share = tables, share
        self._reuses = config.shallow == "reuse"
        self._ratio = config.ratio
        # The fewer tokens are left out, the less do those refreshed miss them.
        left_out = (1 - config.ratio) / max(1e-6, 1 - ratio)
        self._scatter = max(0.0, left_out) * math.sqrt(config.ratio / SKETCH)
        self._random = np.random.default_rng(config.seed)
        self._held = np.zeros(SKETCH)

    def at(self, step: int, last: int, before: int | None) -> _Errors:
        """Of a step, by the last full one and the one before that: (along, across)."""
        age = step - last
        miss = extrapolated(self._tables.stale[step], step, last, before)
        if self._reuses:
            shallow = self._stale_shallow(step)
            # Of tokens that are refreshed meanwhile, only the deep part is forecast.
            left = math.sqrt(max(0.0, 1 - self._ratio * age))
            miss = miss - extrapolated(shallow, step, last, before) + at_lag(shallow, age) * left
        return miss, self._scattered(step, age)

    def _scattered(self, step: int, age: int) -> np.ndarray:
        """What tokens refreshed so far are off by, as they see only each other: of a random direction."""
        if age == 1:
            self._held = np.zeros(SKETCH)
        if self._ratio * (age - 1) < 1:
            table = self._tables.refreshed
            size = np.interp(self._share, (0, *SHARES), (0, *table[step])) * self._scatter
            self._held = self._held + self._random.standard_normal(SKETCH) * size
        return self._held

    def _stale_shallow(self, step: int) -> np.ndarray:
        """By lag, between the shares that were recorded, and nothing and everything at the ends."""
        everything = self._tables.stale[step]
        known = [np.zeros_like(everything), *self._tables.stale_shallow[step], everything]
        places = (0.0, *SHARES, 1.0)
        right = min(int(np.searchsorted(places, self._share, side="right")), len(places) - 1)
        share = (self._share - places[right - 1]) / (places[right] - places[right - 1])
        between: np.ndarray = known[right - 1] * (1 - share) + known[right] * share
        return between


def extrapolated(table: np.ndarray, step: int, last: int, before: int | None) -> np.ndarray:
    """What an extrapolation from two full steps, or the reuse of one, is off by.

    Args:
        table: (lags, ``SKETCH``) of what reuse would be off by at the step.
        step: where it is used.
        last, before: the full steps; None where there is one only.
    """
    stale = at_lag(table, step - last)
    if before is None:
        return stale
    slope = (step - last) / (last - before)
    error: np.ndarray = (1 + slope) * stale - slope * at_lag(table, step - before)
    return error


def at_lag(table: np.ndarray, lag: int) -> np.ndarray:
    """The table at a lag from 1 on; in proportion to it behind the longest."""
    longest = len(table)
    row: np.ndarray = table[min(lag, longest) - 1]
    return row if lag <= longest else row * (lag / longest)
