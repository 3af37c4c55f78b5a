"""Counts and shares, distinguished by their form: 4 is a count, "25%" and "1/4" are shares. No torch."""

from __future__ import annotations

import re
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from .checks import real
from .errors import ConfigError

Amount = int | str
"""A count as a whole number, or a share as text: "25%", or "1/3" where no short percentage is equal to it."""

_COUNT = re.compile(r"[+-]?\d+", re.ASCII)
_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *%", re.ASCII)
_FRACTION = re.compile(r"(\d+) */ *(\d+)", re.ASCII)
_LONGEST = 40  # characters


def amount(field: str, value: Any, what: str, low: int = 1) -> Amount:
    """Check a setting that is a count of `what` or a share of them.

    Args:
        field: the setting's name.
        value: a whole number of at least `low`, or text: such a number, or a share above 0 % and up to 100 %
            ("25%", "1/4"). Where `low` is 0, a share of 0 is the count 0.
        what: what is counted, in the plural.
        low: the least count.

    Returns:
        the count, or the share in one form: equal shares are equal text.

    Raises:
        ConfigError: anything else. A float is refused: 1.0 could mean either.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return _count(field, int(value), what, low)
    if not isinstance(value, str):
        raise ConfigError(field, f"{value!r} is neither a count nor a share; {_advice(value, what)}")
    text = value.strip()
    if _COUNT.fullmatch(text) and len(text) <= _LONGEST:
        return _count(field, int(text), what, low)
    part = fraction(text)
    if part is None or part > 1 or (part == 0 and low > 0):
        raise ConfigError(field, f"{value!r} is neither a count nor a share; {_advice(value, what)}")
    return share(part) if part else 0


def share_of(field: str, value: Any) -> str:
    """A slider's number as a share: 0.25 is "25%".

    Raises:
        ConfigError: no number above 0 and up to 1.
    """
    return share(real(field, value, 0.0, 1.0, open_low=True))


def count(value: Amount, whole: int) -> int:
    """The count that an amount comes to: a share of `whole` is rounded half to even, to at least 1."""
    if isinstance(value, int):
        return value
    part = fraction(value)
    if part is None:
        raise ValueError(f"{value!r} is no amount")
    return max(1, round(part * whole))


def fraction(text: str) -> Fraction | None:
    """The number that "25%" or "1/4" stands for; None for other text."""
    if len(text) > _LONGEST:
        return None
    if match := _PERCENT.fullmatch(text):
        return Fraction(match[1].rstrip(".")) / 100
    if (match := _FRACTION.fullmatch(text)) and int(match[2]):
        return Fraction(int(match[1]), int(match[2]))
    return None


def share(part: Fraction | float) -> str:
    """A number from 0 to 1 as text: 0.25 is "25%", a third is "1/3". Floats are read to 10 digits."""
    if not isinstance(part, Fraction):
        part = Fraction(f"{part:.10g}")
    percent = f"{float(100 * part):.10g}"
    exact = "e" not in percent and Fraction(percent) == 100 * part
    return f"{percent}%" if exact else f"{part.numerator}/{part.denominator}"


def _count(field: str, number: int, what: str, low: int) -> int:
    if number < low:
        raise ConfigError(field, f"{number} is out of range; use {low} {what} or more, or a share ('25%')")
    return number


def _advice(value: Any, what: str) -> str:
    if isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) <= 1:
        return f"write {share(float(value))!r} for that share of the {what}, or a whole number of {what}"
    return f"use a whole number of {what}, or a share up to 100 % of them as text, such as '25%' or '1/4'"
