"""Error feedback: what cached steps got wrong, the next full step makes good.

A full step shows what the cached ones before it should have said: the clean latents between its own and that
of the full step before lie nearly on a line. What they missed has gone into the latent that is sampled, with
a weight that the noise schedule tells, and of several branches with the weight that guidance gave each; so
much is added to the clean latent of the full step that the sum is as it would have been. Compressed gradients
are mended alike (error feedback, arXiv 1901.09847): what a message leaves out is added to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import NoiseSchedule

GUIDED_TRUST, TRUST = 0.75, 0.25
"""With a sampler that adds noise, the part of what cached steps seem to have missed that is due to them; the
rest is the model's answer to that noise. The smaller one where the branches' weights are not told. By trials
(docs/comparison.md)."""
LEAST_WEIGHT = 0.5
"""In the guided answer, of a call that makes good what a step owes. The weights of a step's calls add up to
1, so that of one or two there is always one that has it."""
LAST_STEPS = 3.5
"""Steps to go, from which on nothing is made good any more with a sampler that adds noise or is multistep:
steps are weighed as those of first order, and Aether's sampler, of second order, gives the last but two and
the last but one -0.9 and 1.8 times that weight."""


@dataclass(frozen=True)
class Asked:
    """When a model was called, and what for.

    Attributes:
        timestep: the scheduler's.
        number: of the step in its pass.
        weights: of each equal part of the batch in the guided answer, such as (1 - s, s) at scale s; None
            where they are not known: then every sample stands for itself.
    """

    timestep: float
    number: int
    weights: tuple[float, ...] | None = None

    def weigh(self, tensor: Tensor) -> Tensor:
        """The sum of the batch's parts by their weights; a batch without weights as it is."""
        if self.weights is None:
            return tensor
        parts = tensor.chunk(len(self.weights))
        total = parts[0] * self.weights[0]
        for part, weight in zip(parts[1:], self.weights[1:], strict=True):
            total = total.add(part, alpha=weight)
        return total


@dataclass
class _Visit:
    """A step as the ledger has seen it: who has asked, and whether for a full answer."""

    number: int
    timestep: float
    callers: list[object]
    full: list[bool]


class Ledger:
    """What the calls of one step owe together, guidance making one answer of theirs, and the steps since the
    full one before."""

    def __init__(self) -> None:
        self._visits: list[_Visit] = []
        self._owed: Tensor | None = None

    def enter(self, caller: object, asked: Asked, full: bool) -> None:
        """A branch asks in a step; `caller` stands for it, and keeps nothing of it alive."""
        if not self._visits or self._visits[-1].number != asked.number:
            if self._visits and all(self._visits[-1].full):
                del self._visits[:-1]
            self._visits.append(_Visit(asked.number, asked.timestep, [], []))
            self._owed = None
        self._visits[-1].callers.append(caller)
        self._visits[-1].full.append(full)

    def stretch(self) -> dict[int, float] | None:
        """Timesteps of the steps from the full one before to the one at hand, by number.

        None where not all are here who have asked since: what a part of the guided answer lacks cannot be
        made good. Cached steps may have been sat out, and who sits out is taken to be asked first otherwise.
        """
        if len(self._visits) < 2:
            return None
        begin, *between, now = self._visits
        if now.number - begin.number != len(between) + 1:
            return None
        if not all(begin.full) or now.callers != begin.callers[: len(now.callers)]:
            return None
        if any(any(visit.full) or any(c not in begin.callers for c in visit.callers) for visit in between):
            return None
        return {visit.number: visit.timestep for visit in self._visits}

    def settle(self, owed: Tensor | None, asked: Asked) -> Tensor | None:
        """Take in what a call owes.

        Returns:
            what the clean latents of its batch are to be moved by; None for nothing, where it owes nothing or
            counts for too little itself and leaves it to another call of the step.
        """
        if asked.weights is None:
            return owed
        if owed is not None:
            self._owed = owed if self._owed is None else self._owed + owed
        weight = sum(asked.weights)
        if self._owed is None or abs(weight) < LEAST_WEIGHT:
            return None
        due, self._owed = self._owed, None
        return torch.cat([due / weight] * len(asked.weights))


class Feedback:
    """Of one branch of a pass.

    Args:
        share: in (0, 1], of what was missed.
        noise: how latents and predictions hang together.
        ledger: of the pass.
    """

    def __init__(self, share: float, noise: NoiseSchedule, ledger: Ledger):
        self._share = share
        self._noise = noise
        self._ledger = ledger
        self._mark = object()
        self._full: tuple[Asked, Tensor] | None = None
        self._given: list[tuple[Asked, Tensor]] = []

    @property
    def bytes(self) -> int:
        """Bytes of the clean latents that are kept."""
        kept = [*self._given, *([self._full] if self._full else [])]
        return sum(clean.nbytes for _, clean in kept)

    def cached(self, latent: Tensor, velocity: Tensor, asked: Asked) -> None:
        """A cached step has answered.

        Args:
            latent, velocity: what the model was given and what it said, without the condition, of one shape,
                the batch first.
            asked: when, and what for.
        """
        self._ledger.enter(self._mark, asked, full=False)
        self._given.append((asked, self._noise.clean(latent, velocity, asked.timestep)))

    def full(self, latent: Tensor, velocity: Tensor, asked: Asked) -> Tensor | None:
        """A full step has answered.

        Args: as :meth:`cached`.

        Returns:
            the answer that makes good what was missed; None where nothing was.
        """
        self._ledger.enter(self._mark, asked, full=True)
        clean = self._noise.clean(latent, velocity, asked.timestep)
        due = self._ledger.settle(self._owed(clean, asked), asked)
        self._full, self._given = (asked, clean), []
        if due is None:
            return None
        _, noise = self._noise.levels(asked.timestep)
        return (velocity.float() - due / noise).to(velocity.dtype)

    def _owed(self, clean: Tensor, now: Asked) -> Tensor | None:
        """What the guided clean latent of a full step is to be moved by, for what this branch missed."""
        times = self._ledger.stretch()
        if self._full is None or not self._given or times is None or self._full[0].number not in times:
            return None
        begin, first = self._full
        if any((asked.weights is None) != (now.weights is None) for asked, _ in self._given):
            return None
        length = times[now.number - 1] - now.timestep
        # What the last step says is the result.
        if now.timestep < length * (LAST_STEPS if self._noise.stochastic or self._noise.multistep else 1.0):
            return None
        # As long a step as the last: schedules of few steps are even, those of many nearly so.
        weight = self._noise.weight(now.timestep, now.timestep - length)
        owed = clean.new_zeros(())
        for asked, given in self._given:
            place = (asked.timestep - begin.timestep) / (now.timestep - begin.timestep)
            missed = asked.weigh(first + (clean - first) * place - given)
            later = times[asked.number + 1]
            owed = owed + missed * (self._noise.weight(asked.timestep, later) / weight)
        return owed * (self._share * self._trust(now))

    def _trust(self, asked: Asked) -> float:
        if not self._noise.stochastic:
            return 1.0
        return TRUST if asked.weights is None else GUIDED_TRUST
