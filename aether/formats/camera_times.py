"""Poses at times: even times where a file's are not, and what lies between its poses."""

from __future__ import annotations

import numpy as np

from ..geometry.trajectory import MOST_FRAMES

_SAMPLE_RATE = 24.0
"""Samples a second, at least, of a path that is sampled anew: Aether's highest rate."""


def even_times(times: np.ndarray, *, curved: bool = False) -> tuple[np.ndarray, list[str]]:
    """Even times to sample a path at, and what to report of them; the path's own where those will do, or do
    not rise.

    Args:
        times: (F,) seconds.
        curved: between its poses the path is not straight, so that these alone do not describe it.
    """
    steps = np.diff(times)
    if (steps <= 0).any():
        return times, ["the file's times do not rise: its poses were taken in order, at even gaps"]
    sparse = curved and bool(steps.max(initial=0) > 1.01 / _SAMPLE_RATE)
    if not sparse and (len(steps) < 2 or frame_rate(times)):
        return times, []
    length = float(times[-1] - times[0])
    count = round(min(length / min(float(np.median(steps)), 1 / _SAMPLE_RATE), MOST_FRAMES - 1))
    why = "path is not straight between its keys" if sparse else "times are uneven"
    how = "along its curves" if curved else "straight between its poses"
    note = f"the file's {why}: the path was sampled {count / length:.4g} times a second, {how}"
    return np.linspace(times[0], times[-1], count + 1), [note]


def frame_rate(times: np.ndarray) -> float | None:
    """Frames per second of evenly spaced times, None otherwise."""
    steps = np.diff(times)
    if not len(steps) or (steps <= 0).any() or np.ptp(steps) > 0.01 * steps.mean():
        return None
    return float(len(steps) / (times[-1] - times[0]))


def turns_at(times: np.ndarray, keys: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) at times, by Slerp between those of rising keys; the first and last one go on."""
    from scipy.spatial.transform import Rotation, Slerp

    if len(keys) == 1:
        return np.repeat(turns, len(times), axis=0)
    return Slerp(keys, Rotation.from_quat(turns))(np.clip(times, keys[0], keys[-1])).as_quat()


def values_at(times: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Vectors (N, D) at times, straight between those of rising keys; the first and last one go on."""
    return np.stack([np.interp(times, keys, column) for column in values.T], axis=1)
