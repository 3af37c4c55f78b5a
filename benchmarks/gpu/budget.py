"""Parts one after another, each within its time and all within theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .parts import Part
from .record import Found, Record

Measure = Callable[[str, float], Iterator[Found]]
"""Measures a part, by name and in so many seconds; yields all that it has found, again and again."""


class PartError(Exception):
    """A part came to nothing, or to no end; its text says why."""


class Deadline:
    """A time that comes.

    Args:
        seconds: until then.
        clock: the time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]):
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds until then, not below 0."""
        return max(0.0, self._end - self._clock())


def run_parts(
    parts: Iterable[Part],
    record: Record,
    measure: Measure,
    deadline: Deadline,
    say: Callable[[str], object],
) -> None:
    """Measure the parts that the record lacks, and write down what each finds as it finds it."""
    for part in parts:
        seconds = min(part.limit, deadline.left())
        if record.is_done(part.name):
            say(f"{part.name}: measured before")
        elif seconds < part.least:
            record.skip(part.name, f"it needs {part.least:.0f} s, and {seconds:.0f} s were left")
            say(f"{part.name}: skipped; {record.why(part.name)}")
        else:
            say(f"{part.name}: at most {seconds:.0f} s ...")
            _run(part, record, measure, seconds, deadline)
            say(f"{part.name}: {record.outcome(part.name)}")


def _run(part: Part, record: Record, measure: Measure, seconds: float, deadline: Deadline) -> None:
    before = deadline.left()
    record.begin(part.name)
    try:
        for found in measure(part.name, seconds):
            record.keep(part.name, found, before - deadline.left())
    except PartError as error:
        record.fail(part.name, str(error))
    else:
        record.finish(part.name, before - deadline.left())
