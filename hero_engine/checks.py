"""Checks of single settings: each returns the value in its plain type, or raises a ConfigError naming it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from .errors import ConfigError


def integer(field: str, value: Any, low: int, high: int | None = None) -> int:
    bounds = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(field, f"{value!r} is not {bounds}")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ConfigError(field, f"{number} is out of range; use {bounds}")
    return number


def real(field: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    bounds = f"a number {'above' if open_low else 'from'} {low:g} {'and up ' if open_low else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(field, f"{value!r} is not {bounds}")
    number = float(value)
    if math.isnan(number) or number < low or number > high or (open_low and number == low):
        raise ConfigError(field, f"{number} is out of range; use {bounds}")
    return number


def choice(field: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(field, f"{value!r} is not one of {', '.join(map(repr, choices))}")
    return value


def integers(
    field: str, value: Any, what: str, low: int, high: int, count: int | None = None
) -> tuple[int, ...]:
    """`count` whole numbers (at least one where that is None)."""
    return tuple(integer(field, number, low, high) for number in _entries(field, value, what, count))


def reals(field: str, value: Any, what: str) -> tuple[float, ...]:
    """At least one number of a size up to a million."""
    limit = 1e6
    return tuple(real(field, number, -limit, limit) for number in _entries(field, value, what))


def _entries(field: str, value: Any, what: str, count: int | None = None) -> Sequence[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if count in (None, len(value)):
            return value
    raise ConfigError(field, f"{value!r} is not {what}")
