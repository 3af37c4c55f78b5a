"""Error feedback: the next full step corrects the error of the cached steps before it.

A full step shows what the cached ones before it should have predicted: the clean latents between its own
and that of the previous full step lie nearly on a line. Their error has gone into the sampled latent, with a
weight that follows from the noise schedule and, with several branches, from guidance. The correction added
to the clean latent of the full step makes up for that sum. Error feedback for compressed gradients works the
same way (arXiv 1901.09847): what one message leaves out is added to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import NoiseSchedule

GUIDED_TRUST, TRUST = 0.75, 0.25
"""With a sampler that adds noise, the part of the measured error that is due to cached steps; the rest is the
model's answer to that noise. The smaller one where the branches' weights are not known. Found by trials
(docs/comparison.md)."""
LEAST_WEIGHT = 0.5
"""The least weight, in the guided answer, of a call that carries a step's correction. The weights of a step's
calls add up to 1, so one of two calls always has it."""
LAST_STEPS = 3.5
"""With so many steps to go, nothing is corrected any more with a sampler that adds noise or is multistep:
steps are weighted as those of first order, and Aether's sampler, of second order, gives the last but two and
the last but one -0.9 and 1.8 times that weight."""


@dataclass(frozen=True)
class CallContext:
    """A call of the model: its timestep, step and guidance weights.

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
    """A step in the ledger: its callers, and which of them ran in full."""

    number: int
    timestep: float
    callers: list[object]
    full: list[bool]


class Ledger:
    """The corrections of one step's calls, which guidance combines into one answer, and the steps since the
    previous full one."""

    def __init__(self) -> None:
        self._visits: list[_Visit] = []
        self._owed: Tensor | None = None

    def enter(self, caller: object, call: CallContext, full: bool) -> None:
        """Record a branch's call in a step; `caller` identifies the branch and keeps nothing of it alive."""
        if not self._visits or self._visits[-1].number != call.number:
            if self._visits and all(self._visits[-1].full):
                del self._visits[:-1]
            self._visits.append(_Visit(call.number, call.timestep, [], []))
            self._owed = None
        self._visits[-1].callers.append(caller)
        self._visits[-1].full.append(full)

    def stretch(self) -> dict[int, float] | None:
        """Timesteps of the steps from the previous full one to the current one, by number.

        None where a branch that was called since is absent: the error of part of the guided answer cannot be
        corrected. A branch may be left out of cached steps; otherwise it is assumed to be called first.
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

    def settle(self, owed: Tensor | None, call: CallContext) -> Tensor | None:
        """Add a call's correction to the step's.

        Returns:
            the correction for the clean latents of its batch; None where there is none, or where the call's
            own weight is too small and another call of the step carries it.
        """
        if call.weights is None:
            return owed
        if owed is not None:
            self._owed = owed if self._owed is None else self._owed + owed
        weight = sum(call.weights)
        if self._owed is None or abs(weight) < LEAST_WEIGHT:
            return None
        due, self._owed = self._owed, None
        return torch.cat([due / weight] * len(call.weights))


class Feedback:
    """Error feedback of one branch of a pass.

    Args:
        share: in (0, 1], of the error that is corrected.
        noise: how latents and predictions are related.
        ledger: of the pass.
    """

    def __init__(self, share: float, noise: NoiseSchedule, ledger: Ledger):
        self._share = share
        self._noise = noise
        self._ledger = ledger
        self._mark = object()
        self._full: tuple[CallContext, Tensor] | None = None
        self._given: list[tuple[CallContext, Tensor]] = []

    @property
    def bytes(self) -> int:
        """Bytes of the clean latents that are kept."""
        kept = [*self._given, *([self._full] if self._full else [])]
        return sum(clean.nbytes for _, clean in kept)

    def cached(self, latent: Tensor, velocity: Tensor, call: CallContext) -> None:
        """Record the answer of a cached step.

        Args:
            latent, velocity: the model's input, without the condition, and its output; of one shape, batch
                first.
            call: of the model.
        """
        self._ledger.enter(self._mark, call, full=False)
        self._given.append((call, self._noise.clean(latent, velocity, call.timestep)))

    def full(self, latent: Tensor, velocity: Tensor, call: CallContext) -> Tensor | None:
        """Correct the answer of a full step.

        Args: as :meth:`cached`.

        Returns:
            the corrected answer; None where there is nothing to correct.
        """
        self._ledger.enter(self._mark, call, full=True)
        clean = self._noise.clean(latent, velocity, call.timestep)
        due = self._ledger.settle(self._owed(clean, call), call)
        self._full, self._given = (call, clean), []
        if due is None:
            return None
        return self._noise.corrected(velocity, due, call.timestep)

    def _owed(self, clean: Tensor, now: CallContext) -> Tensor | None:
        """The correction of a full step's guided clean latent for this branch's error."""
        times = self._ledger.stretch()
        if self._full is None or not self._given or times is None or self._full[0].number not in times:
            return None
        begin, first = self._full
        if any((call.weights is None) != (now.weights is None) for call, _ in self._given):
            return None
        length = times[now.number - 1] - now.timestep
        # The last step's answer is the result.
        left = LAST_STEPS if self._noise.stochastic or self._noise.multistep else 1.0
        if self._noise.ends_within(left, now.timestep, length):
            return None
        weight = self._noise.weight(now.timestep, self._noise.next(now.timestep, length))
        if not 0 < weight < math.inf:  # steps of no length, or without noise
            return None
        owed = clean.new_zeros(())
        for call, given in self._given:
            place = (call.timestep - begin.timestep) / (now.timestep - begin.timestep)
            error = call.weigh(first + (clean - first) * place - given)
            later = times[call.number + 1]
            owed = owed + error * (self._noise.weight(call.timestep, later) / weight)
        return owed * (self._share * self._trust(now))

    def _trust(self, call: CallContext) -> float:
        if not self._noise.stochastic:
            return 1.0
        return TRUST if call.weights is None else GUIDED_TRUST
