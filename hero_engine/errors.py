"""The error that HERO raises on a bad setting or an unsupported model."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting that HERO cannot use.

    Attributes:
        field: name of the setting (a field of :class:`~hero_engine.HeroConfig`, or an argument such as
            ``"transformer"`` or ``"steps"``).
        problem: what is wrong with it, and what to do.
    """

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
