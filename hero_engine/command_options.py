"""What the command lines of this project share: option types, and errors that name the option. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping


def whole_number(text: str) -> int:
    """``"30"``.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, such as 2") from None


def number(text: str) -> float:
    """``"1.5"`` or ``"2"``.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, such as 1.5") from None


def share(text: str) -> float:
    """``"0.25"`` or ``"1/4"``.

    Raises:
        argparse.ArgumentTypeError: neither, or a fraction of 0.
    """
    try:
        above, slash, below = text.partition("/")
        return float(above) / float(below) if slash else float(above)
    except ZeroDivisionError:
        raise argparse.ArgumentTypeError(f"{text!r} divides by zero") from None
    except ValueError:
        problem = f"{text!r} is neither a number nor a fraction, such as 0.25 or 1/4"
        raise argparse.ArgumentTypeError(problem) from None


def count_or_share(text: str) -> int | float:
    """``"21"`` is a count; ``"0.5"`` and ``"1/2"`` are shares.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return share(text)
    except argparse.ArgumentTypeError:
        problem = f"{text!r} is neither a count, such as 2, nor a share, such as 0.5 or 1/2"
        raise argparse.ArgumentTypeError(problem) from None


def sides(text: str, names: str, example: str) -> tuple[int, ...]:
    """Whole numbers with an x between them.

    Args:
        names: what they are, such as "HEIGHTxWIDTH"; there are as many.

    Raises:
        argparse.ArgumentTypeError: another number of them, or something else.
    """
    parts = text.lower().split("x")
    if len(parts) != names.count("x") + 1 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not {names}, such as {example}")
    return tuple(map(whole_number, parts))


def error_text(
    error: Exception,
    arguments: argparse.Namespace,
    *,
    positionals: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> str:
    """An error's text with what was typed in place of the field it names.

    Args:
        error: with a ``field``, as ``ConfigError`` and ``InputError`` have it; others stay as they are.
        arguments: of the command line: fields that are there are options.
        positionals: arguments without dashes.
        renamed: field to argument, where a library has another name for it.
    """
    field = getattr(error, "field", None)
    if field is None:
        return str(error)
    name = (renamed or {}).get(field, field)
    if name in vars(arguments) and name not in positionals:
        name = f"--{name.replace('_', '-')}"
    return f"{name}: {str(error).removeprefix(f'{field}: ')}"
