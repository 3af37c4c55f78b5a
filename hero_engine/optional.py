"""Values that exist only after something else has happened."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def require(value: T | None) -> T:
    """The value, which must be set by now.

    Raises:
        RuntimeError: it is None.
    """
    if value is None:
        raise RuntimeError("a value was used before it was set")
    return value
