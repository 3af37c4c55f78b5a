"""Which frames of a source make a clip at one of Aether's rates, and what is reported of the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..defaults import FPS
from ..errors import InputError
from ..spec import FRAMES

RATE_TOLERANCE = 0.07
"""A rate this close to one of Aether's is taken frame for frame: 25 as 24, 16 as 15."""
LEFT_OUT = "are left out"
"""How the note of a clip ends that is longer than what is used of it."""


@dataclass(frozen=True)
class FramePlan:
    """Which frames of a source make the clip: ``indices`` (repeats included), their rate, how many are
    real."""

    indices: list[int]
    fps: int
    real_frames: int
    notes: list[str]


def plan_frames(
    times: Sequence[float],
    fps: int | None = None,
    *,
    frames: int | None = None,
    max_frames: int = FRAMES[-1],
    duration: float | None = None,
) -> FramePlan:
    """Choose frames of a source for Aether.

    A rate is *even* where every k-th frame of the source is within 7 % of it; then every k-th frame is taken.
    Other rates take the frame nearest in time. Without ``fps`` the highest even rate is chosen, or else the
    highest one below the source's; if that gives fewer than ``frames`` (17), a rate that gives enough, or the
    most.

    Args:
        times: of the source's frames in seconds, increasing, at least two.
        fps, frames, max_frames: as for :func:`read_clip`.
        duration: of the whole source in seconds where ``times`` is only its beginning; infinite where that is
            not known.

    Raises:
        InputError: fewer than two frames, values that Aether does not take.
    """
    check_choice("fps", fps, FPS)
    check_choice("frames", frames, FRAMES)
    if max_frames < FRAMES[0]:
        raise InputError(
            "max_frames", f"{max_frames} is fewer than Aether's smallest clip, {FRAMES[0]} frames"
        )
    if len(times) < 2:
        raise InputError("video", f"has {len(times)} frame; at least 2 are needed")
    source_fps = frame_rate(times)
    needed = frames or FRAMES[0]
    fps, gap = choose_rate(times, needed, fps)
    available = count_frames(times, gap)
    length = frames or max((n for n in FRAMES if n <= min(available, max_frames)), default=FRAMES[0])
    real = min(length, available)
    indices = nearest_frames(np.asarray(times), gap, real)
    notes = [
        *rate_notes(fps, gap, source_fps, indices),
        *length_notes(real, length, gap, available, duration),
    ]
    return FramePlan(indices + [indices[-1]] * (length - real), fps, real, notes)


def frame_rate(times: Sequence[float]) -> float:
    """Frames per second of increasing time stamps; holes, where frames are missing, do not count."""
    gaps = np.diff(times)
    alike, steady = _alike(gaps)
    return float(1 / gaps[alike if steady else gaps < 1.5 * np.median(gaps)].mean())


def _alike(gaps: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which gaps are the usual one, up to time stamps rounded to milliseconds; whether nine in ten are."""
    usual = np.median(gaps)
    alike = np.abs(gaps - usual) <= max(0.1 * usual, 0.0015)
    return alike, float(alike.mean()) >= 0.9


def frame_gap(rate: int, times: Sequence[float]) -> float | None:
    """Seconds between frames taken, a whole number of source frames; None if too far from the rate."""
    source_fps = frame_rate(times)
    if not _alike(np.diff(times))[1]:
        return None
    stride = max(1, round(source_fps / rate))
    return stride / source_fps if abs(source_fps / (stride * rate) - 1) <= RATE_TOLERANCE else None


def choose_rate(times: Sequence[float], needed: int, fps: int | None = None) -> tuple[int, float]:
    """The rate, ``fps`` where it is given, and the seconds between frames; see :func:`plan_frames`."""
    if fps is not None:
        return fps, frame_gap(fps, times) or 1 / fps
    source_fps = frame_rate(times)
    gaps = {rate: frame_gap(rate, times) for rate in sorted(FPS, reverse=True)}
    even = [(rate, gap) for rate, gap in gaps.items() if gap]
    uneven = [(rate, 1 / rate) for rate, gap in gaps.items() if not gap and rate <= source_fps]
    # A source slower than all of Aether's rates is taken frame for frame: repeated frames would freeze the
    # motion.
    choices = even + uneven or [(min(FPS), 1 / source_fps)]
    enough = [choice for choice in choices if count_frames(times, choice[1]) >= needed]
    return enough[0] if enough else max(choices, key=lambda choice: count_frames(times, choice[1]))


def nearest_frames(times: np.ndarray, gap: float, count: int) -> list[int]:
    """Indices of the frames nearest to every ``gap`` seconds from the first; the earlier of two as near."""
    wanted = times[0] + gap * np.arange(count)
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    return (after - (wanted - times[after - 1] <= times[after] - wanted)).tolist()


def count_frames(times: Sequence[float], gap: float) -> int:
    """How many frames that are ``gap`` seconds apart these time stamps give."""
    # A tenth of a gap forgives time stamps that are rounded to milliseconds.
    return int((times[-1] - times[0]) / gap + 0.1) + 1


def rate_notes(fps: int, gap: float, source_fps: float, indices: list[int]) -> list[str]:
    """How the source was retimed, a frame every ``gap`` seconds being one of ``fps`` a second."""
    stride, repeats = round(gap * source_fps), len(indices) - len(set(indices))
    if abs(gap * source_fps - stride) > 1e-6:
        text = f"{source_fps:.4g} frames a second were taken as {fps} by the nearest in time"
        return [f"{text}, {repeats} of them twice or more" if repeats else f"{text}, so gaps are uneven"]
    ordinal = f"{stride}{ {2: 'nd', 3: 'rd'}.get(stride, 'th') }"
    notes = [] if stride == 1 else [f"every {ordinal} of {source_fps:.4g} frames a second was taken"]
    if repeats:
        notes.append(f"the source lacks frames: {repeats} are repeats of their neighbor")
    speed = gap * fps
    if abs(speed - 1) > 0.005:
        change = f"{abs(speed - 1):.0%} {'faster' if speed > 1 else 'slower'}"
        notes.append(f"{1 / gap:.4g} frames a second count as {fps}: motion is {change}")
    return notes


def length_notes(real: int, length: int, gap: float, available: int, duration: float | None) -> list[str]:
    """What is repeated to make ``length`` frames of ``real`` ones, or left out of ``available`` ones."""
    if real < length:
        return [
            f"the clip gives {real} frames: the last is repeated {length - real} times to make {length}; "
            f"only the first {real} are real"
        ]
    total = available * gap if duration is None else duration
    rest = total - length * gap
    if rest <= gap / 2:
        return []
    what = f"{rest:.1f} s after them" if math.isfinite(rest) else "all frames after them"
    return [f"the first {length * gap:.1f} s ({length} frames) are used, {what} {LEFT_OUT}"]


def check_choice(field_name: str, value: Any, choices: tuple[int, ...]) -> None:
    """
    Raises:
        InputError: a value that is not one of the choices, nor None.
    """
    if value is not None and (isinstance(value, bool) or value not in choices):
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        raise InputError(field_name, f"{value!r} is not one that Aether knows; use {listed}")
