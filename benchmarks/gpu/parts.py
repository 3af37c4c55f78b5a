"""The parts of the measurement, in the order of their worth, with the time that each may take. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Part:
    """One figure, or several that are measured together.

    Attributes:
        name: in the file, and for people.
        least: seconds without which it is not begun.
        limit: seconds after which it is stopped; what it has found until then is kept.
    """

    name: str
    least: float
    limit: float

    def scaled(self, factor: float) -> Part:
        """The same with a limit so many times as far."""
        return replace(self, limit=factor * self.limit)


RATES, END_TO_END = "rates", "end to end"
OPTIMIZED, COMPILED = "optimized", "compiled"
REPEATED, GROWTH = "repeated runs", "growth"
MEMORY = "memory: "


def memory_part(way: str) -> str:
    """The part that measures memory with the weights kept in this way, of ``benchmarks.memory.WAYS``."""
    return f"{MEMORY}{way}"


MINUTES = 10.0

PARTS = (
    Part(RATES, least=20, limit=100),  # the first, which waits for all imports
    Part(END_TO_END, least=60, limit=280),
    Part(memory_part("bfloat16"), least=25, limit=80),
    Part(OPTIMIZED, least=20, limit=60),
    Part(COMPILED, least=60, limit=150),
    Part(memory_part("float8"), least=25, limit=80),
    Part(memory_part("offload"), least=25, limit=90),
    Part(memory_part("float8, offload"), least=25, limit=90),
    Part(REPEATED, least=15, limit=60),
    Part(GROWTH, least=25, limit=120),
)
"""An H100 needs about a second for a full step, and about so many minutes for all of them."""
