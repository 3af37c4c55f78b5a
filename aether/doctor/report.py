"""Lines, sections and the whole report, and finding a line without ever failing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_WIDEST = 44
"""Of the names' column; a longer name pushes its text to the right."""


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        text: what was found, and what to do where something is missing.
        blocking: whether the bundled miniature cannot run because of it.
    """

    name: str
    text: str
    blocking: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        width = min(max((len(line.name) for line in self.lines), default=0), _WIDEST)
        return "\n".join([self.title, *(f"  {line.name:<{width}}  {line.text}" for line in self.lines)])


@dataclass(frozen=True)
class Report:
    """All sections; as text it names no home directory."""

    sections: tuple[Section, ...]

    @property
    def ready(self) -> bool:
        """Whether the bundled miniature has all it needs."""
        return not any(line.blocking for section in self.sections for line in section.lines)

    def __str__(self) -> str:
        return without_home("\n\n".join(map(str, self.sections)))


def find(name: str, look: Callable[[], str | Iterable[Line]], blocking: bool = False) -> tuple[Line, ...]:
    """What ``look`` finds, as lines; where it fails, a line that says so.

    Args:
        name: of the line that is made where it gives text, or fails.
        look: gives a text, or lines.
        blocking: whether failing keeps the miniature from running.
    """
    try:
        found = look()
        return (Line(name, found),) if isinstance(found, str) else tuple(found)
    except Exception as error:  # whatever is wrong here is what the report is for
        return (Line(name, f"could not be examined: {reason(error)}", blocking),)


def reason(error: Exception) -> str:
    """An error in one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def without_home(text: str) -> str:
    """The text with ~ in place of the home directory."""
    try:
        home = Path.home()
        places = {str(home), home.as_posix(), str(home.resolve())}
    except (OSError, RuntimeError):
        return text
    for place in sorted(places - {"/"}, key=len, reverse=True):
        text = text.replace(place, "~")
    return text
