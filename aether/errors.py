"""Errors that a caller may want to catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .memory_errors import is_out_of_memory

_LONGEST = 200  # characters of another library's message, which may quote the file
_TOO_LARGE = "out of memory: it is larger than this computer can hold, or damaged"


class InputError(ValueError):
    """A value that cannot be used, with the name of the field it came in.

    Prints as ``field: what is wrong; what to do``.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """So that it can be sent from another process."""
        return type(self), (self.field, self.message)


@contextmanager
def reading(field: str, problem: str) -> Iterator[None]:
    """Around the parsing of a file that somebody else made: whatever a parser stumbles over is an InputError.

    Parsers of damaged files raise nearly everything (struct.error, RecursionError, zlib.error, OverflowError,
    ...), none of which a caller could act on. A missing package stays an ImportError.

    Args:
        problem: what the error says, before the parser's own words.

    Raises:
        InputError: any other exception, which stays attached as its cause.
    """
    try:
        yield
    except (InputError, ImportError):
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0][:_LONGEST]
        reason = _TOO_LARGE if is_out_of_memory(error) else words
        raise InputError(field, f"{problem} ({reason})") from error


@contextmanager
def about(what: object, advice: str = "") -> Iterator[None]:
    """InputErrors in the block say what they are about before their own words, and what to do behind them."""
    try:
        yield
    except InputError as error:
        raise InputError(error.field, f"{what}: {error.message}{advice}") from error


class SamplingStopped(RuntimeError):
    """The step callback asked for an end by returning False. ``step`` counts the steps that were finished."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"sampling was stopped by the callback after step {step} of {steps}")
        self.step = step
        self.steps = steps
