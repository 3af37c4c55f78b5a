"""Which steps of a run are full, one by one, as text that can be shared: "5 of 8: 11101001". No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, groupby, takewhile

from .errors import ConfigError

LONGEST = 1000
"""Steps of a mask as text."""
_LONGEST_TEXT = 4 * LONGEST  # characters: spaces between the bits, and the counts before them
_COUNTS = re.compile(r"\s*([0-9]{1,9})\s+of\s+([0-9]{1,9})\s*:", re.IGNORECASE)
_ADVICE = "write 1 for each full step and 0 for others, such as 1110100"


@dataclass(frozen=True)
class StepMask:
    """For each step of a run, whether it is full.

    Args:
        full: at least one step; the first is full, as there is nothing to reuse before it.

    Raises:
        ConfigError: no step, or a first one that is not full (field ``"mask"``).
    """

    full: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.full:
            raise ConfigError("mask", f"has no steps; {_ADVICE}")
        if not self.full[0]:
            raise ConfigError("mask", "begins with 0, and there is nothing to reuse yet; begin it with 1")

    @classmethod
    def read(cls, text: str) -> StepMask:
        """Read a mask from text: 1 for a full step and 0 for a cached one, spaces between them ignored, with
        "K of N: " before them or without.

        Raises:
            ConfigError: another character (its place is named, counted from 1), no steps or more than 1000,
                a first 0, or counts that are not those of what follows (field ``"mask"``).
        """
        if not isinstance(text, str):
            raise ConfigError("mask", f"{text!r} is not text; {_ADVICE}")
        if len(text) > _LONGEST_TEXT:
            raise ConfigError("mask", f"{len(text)} characters are too many; use at most {LONGEST} steps")
        counts = _COUNTS.match(text)
        start = counts.end() if counts else 0
        mask = cls(tuple(_bits(text, start)))
        if len(mask.full) > LONGEST:
            raise ConfigError("mask", f"has {len(mask.full)} steps; use at most {LONGEST}")
        found = sum(mask.full), len(mask.full)
        if counts and (int(counts[1]), int(counts[2])) != found:
            raise ConfigError(
                "mask",
                f"says {counts[1]} of {counts[2]}, and what follows is {found[0]} of {found[1]}: part of it "
                "may be lost; copy it again, or leave the counts out",
            )
        return mask

    def __str__(self) -> str:
        """The mask as text, with its counts: two masks are equal where their texts are."""
        bits = "".join("01"[step] for step in self.full)
        return f"{sum(self.full)} of {len(self.full)}: {bits}"

    def scaled(self, steps: int) -> StepMask:
        """The mask for a run of another number of steps, in which every part of the run has the same share
        of full steps as here, to within one step.

        With n steps here and m wanted, and C(p) = m/n times the number of full steps in the first share p of
        this mask (a step that p cuts counts in proportion), step j of m (from 0) is full where the least
        whole number from C up is larger at (j + 1)/m than at j/m. So the first step is always full, m = n is
        this mask, and m = kn has each of its steps k times. The arithmetic is exact.

        Args:
            steps: m, at least 1.
        """
        before = [0, *accumulate(self.full)]
        rising = [self._least(before, step, steps) for step in range(steps + 1)]
        return StepMask(tuple(low < high for low, high in zip(rising, rising[1:], strict=False)))

    def _least(self, before: list[int], step: int, steps: int) -> int:
        """The least whole number from C(step / steps) up, `before` being the full steps before each."""
        whole, rest = divmod(step * len(self.full), steps)
        part = rest * self.full[whole] if rest else 0
        return -(-(before[whole] * steps + part) // len(self.full))

    @property
    def leading(self) -> int:
        """Full steps at the beginning."""
        return _run_length(self.full)

    @property
    def trailing(self) -> int:
        """Full steps at the end; 0 where all are full."""
        return 0 if all(self.full) else _run_length(reversed(self.full))

    @property
    def longest_cached(self) -> int:
        """Most cached steps in a row."""
        return max((len(list(run)) for full, run in groupby(self.full) if not full), default=0)


def _bits(text: str, start: int) -> Iterable[bool]:
    for place, character in enumerate(text[start:], start + 1):
        if character in "01":
            yield character == "1"
        elif not character.isspace():
            raise ConfigError(
                "mask",
                f"{character!r} at place {place} is neither 0 nor 1; {_ADVICE}",
            )


def _run_length(full: Iterable[bool]) -> int:
    return sum(1 for _ in takewhile(bool, full))
