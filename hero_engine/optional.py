"""Values that are there only after something else has happened."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value, for callers who only ask once it is there.

    Raises:
        RuntimeError: there is none yet.
    """
    if value is None:
        raise RuntimeError("asked for before it was there")
    return value
