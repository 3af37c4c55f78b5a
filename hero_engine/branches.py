"""The branches of one pass and what each has cached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from .method import Branch


class BranchId(NamedTuple):
    """Which branch a call of the model is.

    Attributes:
        name: given by the caller, a tuple of names where the call is a batch of several; None without.
        call: which of the calls under that name in its step, from 1.
    """

    name: Hashable
    call: int

    def __str__(self) -> str:
        if self.name is None:
            return f"call {self.call}"
        text = " ".join(str(member) for member in self.members)
        return text if self.call == 1 else f"{text}, call {self.call}"

    @property
    def members(self) -> tuple[Hashable, ...]:
        """The names in it; none without a name."""
        if self.name is None:
            return ()
        return self.name if isinstance(self.name, tuple) else (self.name,)


@dataclass
class Held:
    """A branch, what its cache fits, and the number of full steps of the pass up to its latest."""

    signature: Hashable
    branch: Branch
    full: int = 0


class Branches:
    """What the branches of a pass have cached, by their identity."""

    def __init__(self) -> None:
        self._held: dict[BranchId, Held] = {}
        self._calls: Counter[Hashable] = Counter()

    @property
    def bytes(self) -> int:
        """Bytes of cached features."""
        return sum(held.branch.bytes for held in self._held.values())

    @property
    def calls(self) -> int:
        """How often the model was called in the step at hand."""
        return sum(self._calls.values())

    def clear(self) -> None:
        """Free everything."""
        self._held.clear()

    def next_step(self) -> None:
        """Another step begins."""
        self._calls.clear()

    def identify(self, name: Hashable) -> BranchId:
        """The branch of the next call, identified by its name and the order under that name."""
        self._calls[name] += 1
        return BranchId(name, self._calls[name])

    def get(self, key: BranchId, signature: Hashable, new: Callable[[], Branch]) -> tuple[Held, bool]:
        """A branch, made anew where there is none or what it has cached does not fit: (held, whether new)."""
        held = self._held.get(key)
        if held is not None and held.signature == signature:
            return held, False
        held = self._held[key] = Held(signature, new())
        return held, True

    def drop_idle(self, full_steps: int) -> None:
        """Free branches that were absent from the last two of so many full steps: their caches are stale.

        A host may ask for both halves in one batch, and for one after the other when memory gets short.
        """
        for key in [key for key, held in self._held.items() if held.full < full_steps - 2]:
            del self._held[key]
