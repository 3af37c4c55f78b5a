"""The best step mask by a recording: dynamic programming over the gaps between full steps, then exchanges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..hero.config import HeroConfig
from ..optional import require
from ..step_mask import StepMask
from .propagation import bend, extrapolated, lasting_share
from .recording import Recording
from .sampled_steps import Steps
from .tables import SKETCH

LONGEST_GAP = 16
_MOVES = (-1, 1, -2, 2)
_ROUNDS = 6


def best_mask(recording: Recording, full: int, config: HeroConfig) -> StepMask:
    """A mask of so many full steps with a low predicted error. The first step is full.

    Args:
        recording: must predict errors.
        full: number of full steps, 2 to all.
        config: the other settings.
    """
    steps = recording.steps
    chosen = set(_shortest_path(_gap_costs(recording, config), max(2, min(full, steps))))
    return _exchanged(chosen, steps, lambda mask: _error(recording, config, mask))


def even_mask(steps: int, full: int) -> StepMask:
    """A mask of so many full steps, evenly spaced. The first and the last step are full."""
    return _mask(set(_even(steps, full)), steps)


def _error(recording: Recording, config: HeroConfig, mask: StepMask) -> float:
    error = recording.predict_error(replace(config, mask=str(mask)))
    return math.inf if error is None else error


def _gap_costs(recording: Recording, config: HeroConfig) -> dict[tuple[int, int], float]:
    """For each pair of full steps with none between them, the square of the error that the cached ones leave
    in the result.

    The gaps before are taken to be as long. Errors of several gaps are taken to be independent.
    """
    sampling, steps = require(recording.sampling), recording.steps
    return {
        (begin, end): _gap_cost(recording, sampling, config, begin, end)
        for begin in range(steps)
        for end in range(begin + 1, min(steps, begin + LONGEST_GAP + 1))
    }


def _gap_cost(recording: Recording, sampling: Steps, config: HeroConfig, begin: int, end: int) -> float:
    tables, times = recording.tables, sampling.timesteps
    corrected = config.feedback * sampling.trust
    if end >= recording.steps - sampling.uncorrected:
        corrected = 0.0
    before, earlier = (max(0, begin - back * (end - begin)) for back in (1, 2))
    damped = config.trend == "damped" and earlier < before
    share = lasting_share(tables.stale[begin], begin, before, earlier) if damped else 1.0
    left = np.zeros(SKETCH)
    for step in range(begin + 1, end):
        miss = extrapolated(tables.stale[step], step, begin, before if before < begin else None, share)
        place = (times[step] - times[begin]) / (times[end] - times[begin])
        bent = bend(tables, step, (begin, end), place)
        left = left + sampling.weights[step] * ((1 - corrected) * miss + corrected * bent)
    ratio = sampling.ratios[end] ** (2 if sampling.stochastic else 1)
    return float(left @ left) / ratio**2 if ratio > 0 else math.inf if left.any() else 0.0


def _shortest_path(costs: dict[tuple[int, int], float], full: int) -> list[int]:
    """So many steps, the first and the last among them, that the sum of their gaps' costs is the least."""
    last = max(end for _, end in costs)
    least = {0: (0.0, [0])}
    for _ in range(full - 1):
        after: dict[int, tuple[float, list[int]]] = {}
        for (begin, end), cost in costs.items():
            if begin in least and (end not in after or least[begin][0] + cost < after[end][0]):
                after[end] = least[begin][0] + cost, [*least[begin][1], end]
        least = after
    return least[last][1] if last in least else _even(last + 1, full)


def _even(steps: int, full: int) -> list[int]:
    """Evenly spaced, the first and the last among them."""
    return sorted({round(number * (steps - 1) / (full - 1)) for number in range(full)})


def _exchanged(full: set[int], steps: int, error: Callable[[StepMask], float]) -> StepMask:
    """Move single full steps while that lowers the error."""
    best, least = _mask(full, steps), error(_mask(full, steps))
    for _ in range(_ROUNDS):
        before = least
        for step in sorted(full - {0}):
            for move in _MOVES:
                if not 0 < step + move < steps or step + move in full:
                    continue
                moved = full - {step} | {step + move}
                tried = error(_mask(moved, steps))
                if tried < least:
                    best, least, full, step = _mask(moved, steps), tried, moved, step + move  # noqa: PLW2901
        if least > 0.99 * before:
            break
    return best


def _mask(full: set[int], steps: int) -> StepMask:
    return StepMask(tuple(step in full for step in range(steps)))
