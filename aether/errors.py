"""Errors that a caller may want to catch."""

from __future__ import annotations


class InputError(ValueError):
    """A value that cannot be used, with the name of the field it came in.

    Prints as ``field: what is wrong; what to do``.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self._message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """So that it can be sent from another process."""
        return type(self), (self.field, self._message)


class SamplingStopped(RuntimeError):
    """The step callback asked for an end by returning False. ``step`` counts the steps that were finished."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"sampling was stopped by the callback after step {step} of {steps}")
        self.step = step
        self.steps = steps
