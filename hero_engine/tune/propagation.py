"""The error of cached steps on its way through the sampler to the result.

The latent's error e is followed as E = e / s (with a sampler that adds noise: e a / s^2), in which a step
adds its weight times the error of its clean latent (``NoiseSchedule.weight``), or of what a multistep sampler
makes of it and the one before. A full step answers with a new error (:mod:`.response`). A cached one goes on
from the error of the full steps before it, as its forecast does, and adds its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..hero.config import HeroConfig
from ..schedule import step_ages
from .response import Response
from .sampled_steps import Steps
from .tables import SHARES, SKETCH, Tables


@dataclass
class _Gap:
    """A full step and the cached ones since. Errors are (2, ``SKETCH``), see :class:`.Response`.

    Attributes:
        begin, before: numbers of the full step and of the one before it.
        share: of the slope between those two that goes on.
        raw: error of the full step, before any correction.
        blocks, blocks_before: what of it comes from the blocks, in both full steps.
        given: errors of the cached ones by number.
    """

    begin: int
    raw: np.ndarray
    blocks: np.ndarray
    before: int | None
    blocks_before: np.ndarray
    share: float
    given: dict[int, np.ndarray]


def propagated(
    tables: Tables, sampling: Steps, config: HeroConfig, blocks: int, ratio: float, openness: float
) -> float:
    """The relative error of the result of a run.

    Args:
        tables, sampling: of the unaccelerated run.
        config: the settings.
        blocks: of the model.
        ratio: share of the tokens that was refreshed in the trials.
        openness: of the clip, see :class:`.Response`.
    """
    counts = config.resolve(blocks, tables.steps)
    ages = step_ages(config.schedule(counts), tables.steps)
    misses = _Misses(tables, config, counts.tau / blocks, ratio)
    response = Response(sampling, tables.guidance, openness)
    return _Run(tables, sampling, misses, response, config.feedback * sampling.trust).error(ages)


class _Run:
    """One run, of errors alone."""

    def __init__(self, tables: Tables, sampling: Steps, misses: _Misses, response: Response, feedback: float):
        self._tables, self._sampling, self._misses, self._feedback = tables, sampling, misses, feedback
        self._response = response

    def error(self, ages: list[int]) -> float:
        total, before = np.zeros((2, SKETCH)), np.zeros((2, SKETCH))
        gap: _Gap | None = None
        for step, age in enumerate(ages):
            error = self._of_latent(step, total)
            if gap is None or age == 0:
                raw = self._response.full(step, error)
                off = self._corrected(step, raw, gap)
                gap = self._begun(step, raw, error, gap)
            else:
                off = self._cached(step, error, gap)
            if step < len(self._sampling.weights):
                carry = self._sampling.carries[step]
                total = total + self._sampling.weights[step] * (off + carry * (off - before))
            before = off
        return float(np.linalg.norm(before))

    def _of_latent(self, step: int, total: np.ndarray) -> np.ndarray:
        """The latent's error, relative to its noise."""
        ratio = self._sampling.ratios[step]
        if not self._sampling.stochastic:
            return total
        return total / ratio if ratio > 0 else np.zeros_like(total)

    def _begun(self, step: int, raw: np.ndarray, error: np.ndarray, gap: _Gap | None) -> _Gap:
        blocks = raw - self._response.direct(step, error)
        if gap is None:
            return _Gap(step, raw, blocks, None, blocks, 1.0, {})
        share = self._misses.share(step, gap.begin, gap.before)
        return _Gap(step, raw, blocks, gap.begin, gap.blocks, share, {})

    def _cached(self, step: int, error: np.ndarray, gap: _Gap) -> np.ndarray:
        """The error of a cached step's clean latent."""
        blocks = gap.blocks
        # With fresh noise at every step the answers of two full steps have little in common.
        if gap.before is not None and not self._sampling.stochastic:
            slope = gap.share * (step - gap.begin) / (gap.begin - gap.before)
            blocks = blocks + slope * (gap.blocks - gap.blocks_before)
        own = np.stack(self._misses.at(step, gap.begin, gap.before, gap.share))
        off: np.ndarray = own + blocks + self._response.direct(step, error)
        gap.given[step] = off
        return off

    def _corrected(self, step: int, raw: np.ndarray, cached: _Gap | None) -> np.ndarray:
        """A full step's answer with error feedback, see :mod:`hero_engine.hero.feedback`."""
        if not self._feedback or cached is None or not cached.given:
            return raw
        if step >= self._tables.steps - self._sampling.uncorrected:
            return raw
        times, weights = self._sampling.timesteps, self._sampling.weights
        owed = np.zeros_like(raw)
        for number, given in cached.given.items():
            place = (times[number] - times[cached.begin]) / (times[step] - times[cached.begin])
            line = cached.raw + (raw - cached.raw) * place
            line[0] += bend(self._tables, number, (cached.begin, step), place)
            owed += (line - given) * (weights[number] / weights[step])
        return raw + self._feedback * owed


def bend(tables: Tables, step: int, ends: tuple[int, int], place: float) -> np.ndarray:
    """How far the clean latent of a step is from a line between those of two others, guided as it is."""
    first, last = tables.clean[ends[0]], tables.clean[ends[1]]
    off: np.ndarray = tables.guidance[step] @ (first + (last - first) * place - tables.clean[step])
    return off


class _Misses:
    """How far cached steps are off by themselves."""

    def __init__(self, tables: Tables, config: HeroConfig, share: float, ratio: float):
        self._tables, self._share = tables, share
        self._reuses = config.shallow == "reuse"
        self._damped = config.trend == "damped"
        self._ratio = config.ratio
        # The fewer tokens are left out, the less do those refreshed miss them.
        left_out = (1 - config.ratio) / max(1e-6, 1 - ratio)
        self._scatter = max(0.0, left_out) * math.sqrt(config.ratio / SKETCH)
        self._random = np.random.default_rng(config.seed)
        self._held = np.zeros(SKETCH)

    def share(self, step: int, last: int, before: int | None) -> float:
        """Of the slope at a full step, by the two full ones before it."""
        if not self._damped or before is None:
            return 1.0
        table = self._tables.stale[step]
        return lasting_share(table - self._stale_shallow(step) if self._reuses else table, step, last, before)

    def at(self, step: int, last: int, before: int | None, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Of a step, by the last full one, the one before that and the share of the slope between them that
        goes on: (along, across)."""
        age = step - last
        miss = extrapolated(self._tables.stale[step], step, last, before, share)
        if self._reuses:
            shallow = self._stale_shallow(step)
            # Of tokens that are refreshed meanwhile, only the deep part is forecast.
            left = math.sqrt(max(0.0, 1 - self._ratio * age))
            miss = miss - extrapolated(shallow, step, last, before, share) + at_lag(shallow, age) * left
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


def lasting_share(table: np.ndarray, step: int, last: int, before: int) -> float:
    """The share of a slope that goes on, as a full step finds it (:func:`hero_engine.hero.residuals.
    share_of_change`), by the answers that residuals lead to in place of the residuals.

    Args: as for :func:`extrapolated`; `step` is full.
    """
    change = -at_lag(table, step - last)
    expected = (at_lag(table, step - last) - at_lag(table, step - before)) * ((step - last) / (last - before))
    size = float(expected @ expected)
    return min(max(float(change @ expected) / size, 0.0), 1.0) if size > 0 else 0.0


def extrapolated(
    table: np.ndarray, step: int, last: int, before: int | None, share: float = 1.0
) -> np.ndarray:
    """What an extrapolation from two full steps, or the reuse of one, is off by.

    Args:
        table: (lags, ``SKETCH``) of what reuse would be off by at the step.
        step: where it is used.
        last, before: the full steps; None where there is one only.
        share: of the slope between them.
    """
    stale = at_lag(table, step - last)
    if before is None:
        return stale
    slope = share * (step - last) / (last - before)
    error: np.ndarray = (1 + slope) * stale - slope * at_lag(table, step - before)
    return error


def at_lag(table: np.ndarray, lag: int) -> np.ndarray:
    """The table at a lag from 1 on; in proportion to it behind the longest."""
    longest = len(table)
    row: np.ndarray = table[min(lag, longest) - 1]
    return row if lag <= longest else row * (lag / longest)
