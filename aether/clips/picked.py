"""A part of a source: from a frame on, one of every few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from .frame_plan import FramePlan, plan_frames


@dataclass(frozen=True)
class Picked:
    """Which frames of a source count.

    Args:
        start: the first of them, counted from 0.
        every: one of so many is taken, at least 1.

    Raises:
        InputError: numbers out of range.
    """

    start: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.start < 0:
            raise InputError("start_frame", f"{self.start} must be 0 or more")
        if self.every < 1:
            raise InputError("every_nth", f"{self.every} must be 1 or more")

    def notes(self) -> list[str]:
        """What of the source does not count."""
        found = [f"begins at frame {self.start} of the video"] if self.start else []
        return found + ([f"1 of {self.every} frames of the video counts"] if self.every > 1 else [])


EVERYTHING = Picked()


def plan_picked(
    times: Sequence[float], picked: Picked, fps: int | None, *, duration: float | None = None, **options: Any
) -> FramePlan:
    """As :func:`~.frame_plan.plan_frames`, of the frames that are picked; its indices are the source's.

    Where one of several frames is taken and ``fps`` is given, they are taken one by one and count as that
    rate.

    Raises:
        InputError: the source ends too soon, and what ``plan_frames`` refuses.
    """
    places = range(len(times))[picked.start :: picked.every]
    if len(places) < 2 <= len(times):
        field, value = (
            ("every_nth", picked.every) if len(times) > picked.start + 1 else ("start_frame", picked.start)
        )
        raise InputError(
            field, f"{value} leaves {len(places)} of the video's {len(times)} frames; give a smaller number"
        )
    seconds = [times[place] for place in places]
    if fps and picked.every > 1:
        seconds, duration = [number / fps for number in range(len(places))], None
    elif duration is not None:
        duration -= times[picked.start] - times[0]
    plan = plan_frames(seconds, fps, duration=duration, **options)
    indices = [places[index] for index in plan.indices]
    return replace(plan, indices=indices, notes=[*picked.notes(), *plan.notes])
