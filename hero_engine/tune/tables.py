"""What a recording holds: how far the clean latents of a run would be off if earlier steps' work were reused.

With X_t the clean latent that step t answers (guided, of the tokens looked at), of each step

    X_t
    U_t,a        what X_t would be off by if all that the blocks add were reused from a steps before
    V_t,s,a      the same where only the shallow blocks' part is, for a few shares s of the blocks
    R_t,s        how far X_t is off on average through the refresh of tokens that see only each other

all of them as sketches (:mod:`.sketch`) and relative to the result. Errors are small, so that of an
extrapolation from steps f0 < f1 is linear in them: (1 + k) U_f1 - k U_f0, k = (t - f1) / (f1 - f0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

SKETCH = 512
LAGS = tuple(range(1, 17))
"""Steps between which all is reused in the trials of a recording. An extrapolation from a long gap has large
factors, so that nothing is left to interpolate between them."""
SHALLOW_LAGS = (1, 4)
SHARES = (0.25, 0.5, 0.75)
"""Shares of the blocks that are called shallow in them."""
_FLOAT = np.float32


def recorded_lags(number: int, lags: Sequence[int]) -> list[int]:
    """Lags that are tried at a step: those that lead to a step of the run, and back to its first."""
    most = min(number, max(lags))
    return sorted({lag for lag in lags if lag <= most} | ({most} if most else set()))


class Sums(NamedTuple):
    """X, U, V and R as a recorder has summed them up.

    Attributes:
        clean: by (step, part): of the parts that guidance combines.
        guidance: their weights.
        stale: by (step, lag).
        stale_shallow: by (step, share, lag).
        refreshed: by (step, share).
    """

    clean: dict[tuple[int, int], Tensor]
    guidance: dict[tuple[int, int], float]
    stale: dict[tuple[int, int], Tensor]
    stale_shallow: dict[tuple[int, int, int], Tensor]
    refreshed: dict[tuple[int, int], float]


@dataclass(frozen=True)
class Tables:
    """X, U, V and R of one run.

    Attributes:
        clean: (steps, parts, ``SKETCH``) what X is made of.
        guidance: (steps, parts) by which weights.
        stale: (steps, longest lag, ``SKETCH``) U, from lag 1 on.
        stale_shallow: (steps, shares, longest lag, ``SKETCH``) V.
        refreshed: (steps, shares) R.
    """

    clean: np.ndarray
    guidance: np.ndarray
    stale: np.ndarray
    stale_shallow: np.ndarray
    refreshed: np.ndarray

    @classmethod
    def of(cls, sums: Sums, steps: int) -> Tables:
        """From sums over the steps of a run.

        Raises:
            ConfigError: the run gave NaN or infinite values (field ``"model"``).
        """
        clean, guidance = _parts(sums, steps)
        size = float(np.linalg.norm(guidance[-1] @ clean[-1]))
        if not 0 < size < math.inf:
            raise ConfigError("model", "the unaccelerated run gives NaN, infinite values or nothing at all")
        shallow = [
            {(step, lag): value for (step, one, lag), value in sums.stale_shallow.items() if one == share}
            for share in range(len(SHARES))
        ]
        return cls(
            clean=clean / size,
            guidance=guidance,
            stale=_by_lag(sums.stale, steps, LAGS) / size,
            stale_shallow=np.stack([_by_lag(one, steps, SHALLOW_LAGS) for one in shallow], axis=1) / size,
            refreshed=_over_steps(sums.refreshed, steps) / size,
        )

    @property
    def steps(self) -> int:
        return len(self.clean)

    @property
    def finite(self) -> bool:
        """Whether all of it are numbers to reckon with."""
        return all(bool(np.isfinite(array).all()) for array in vars(self).values())

    def check(self) -> None:
        """
        Raises:
            ValueError: arrays that do not have the shapes above.
        """
        longest, parts = max(LAGS), self.guidance.shape[-1]
        wanted = {
            "clean": (self.steps, parts, SKETCH),
            "guidance": (self.steps, parts),
            "stale": (self.steps, longest, SKETCH),
            "stale_shallow": (self.steps, len(SHARES), longest, SKETCH),
            "refreshed": (self.steps, len(SHARES)),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype.kind != "f":
                raise ValueError(f"{name} is {array.dtype} {array.shape}, not floats {shape}")


def _parts(sums: Sums, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(steps, parts, SKETCH) and (steps, parts). A part that a step left out is as in the step before."""
    count = 1 + max(part for _, part in sums.clean)
    clean = np.zeros((steps, count, SKETCH), _FLOAT)
    guidance = np.zeros((steps, count), _FLOAT)
    for step in range(steps):
        clean[step] = clean[max(0, step - 1)]
        for part in range(count):
            if (step, part) in sums.clean:
                clean[step, part] = _numbers(sums.clean[step, part])
                guidance[step, part] = sums.guidance[step, part]
    return clean, guidance


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()


def _by_lag(recorded: Mapping[tuple[int, int], Tensor], steps: int, lags: Sequence[int]) -> np.ndarray:
    """(steps, longest lag, SKETCH) from what was recorded at some lags; linear in between and behind, as what
    is reused moves on evenly."""
    longest = max(LAGS)
    table = np.zeros((steps, longest, SKETCH), _FLOAT)
    for step in range(1, steps):
        known = [lag for lag in recorded_lags(step, lags) if (step, lag) in recorded]
        if not known:
            continue
        places = np.array([0, *known], float)
        values = np.stack([np.zeros(SKETCH, _FLOAT), *(_numbers(recorded[step, lag]) for lag in known)])
        for lag in range(1, longest + 1):
            right = min(int(np.searchsorted(places, lag)), len(places) - 1)
            share = (lag - places[right - 1]) / (places[right] - places[right - 1])
            table[step, lag - 1] = values[right - 1] + share * (values[right] - values[right - 1])
    return table


def _over_steps(recorded: Mapping[tuple[int, int], float], steps: int) -> np.ndarray:
    """(steps, shares) from what was recorded at some steps."""
    columns = []
    for share in range(len(SHARES)):
        known = sorted(step for step, one in recorded if one == share)
        values = [recorded[step, share] for step in known]
        columns.append(np.interp(np.arange(steps), known, values) if known else np.zeros(steps))
    return np.stack(columns, axis=1).astype(_FLOAT)
