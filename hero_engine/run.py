"""One run, step by step: which steps are full, and what each branch has cached."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .adapter import Forward, ModelAdapter, ModelCall
from .checks import reals
from .clock import Stopwatch
from .errors import ConfigError
from .host import LateScalar
from .memory_errors import is_out_of_memory
from .methods.base import Branch, Moment, Step
from .report import RunReport, StepRecord
from .schedule import Reason
from .settings import MethodConfig

log = logging.getLogger(__name__)

_ATTEMPTS = 2
"""How often caching may run out of memory before a pass goes on without."""


# Of one call: its branch, what it asks for, why it is full or cached, and its time.
_Call = tuple[str, ModelCall, Reason, Stopwatch]


@dataclass
class _Held:
    """A branch, what its cache fits, and the number of full steps of the run up to its latest."""

    signature: Hashable
    branch: Branch
    full: int = 0


class HeroRun:
    """The state of a method on one model. Made by ``hero_session`` and ``apply_hero``.

    Steps are told apart by their timestep, which falls from step to step; when it rises, a new pass has begun
    and everything starts afresh. (A pass that is stopped, and one from the same or a lower timestep after it,
    look like one: call :meth:`reset` between them. Where the first step is asked for with several latents,
    nothing of it is reused.) Several calls at one timestep are the branches of a step (conditional and
    unconditional, say): a batch of both is one branch; separate calls are told apart by their order, or by a
    name given with :meth:`branch` and their order under that name (samplers of higher order ask twice at one
    timestep). The branches of a step are full or cached together. A branch may sit steps out, as guidance of
    scale 1 has no use for the unconditional one: :meth:`needs_all` says where that would cost more than it
    saves. Where it missed a full step, the one it comes back in is full.

    Where memory runs out in a step, everything cached is freed and the step is computed without. A second
    failure in a pass ends caching for the rest of it, and one without anything cached is the caller's.

    Attributes:
        config: the settings, HERO's or those of another method.
        method: what runs on the model; the layer analysis gives its result there.
        reports: one :class:`~hero_engine.report.RunReport` per pass, the latest last.
    """

    def __init__(self, adapter: ModelAdapter, config: MethodConfig, steps: int | None = None):
        self.config = config
        self.reports: list[RunReport] = []
        self._adapter = adapter
        self._counts = config.resolve(len(adapter.blocks), steps)
        self.method = config.start(adapter, self._counts)
        self._branch_name: Hashable | None = None
        self._branch_adapters: Hashable = None
        self._branch_weights: tuple[float, ...] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything cached; the next step is the first of a new pass, as in a fresh run."""
        self._schedule = self.config.schedule(self._counts)
        self._branches: dict[str, _Held] = {}
        self.method.forget()
        self._timestep = math.inf
        self._moment = Moment(-1, 0)
        self._calls: Counter[Hashable] = Counter()
        self._planned = Reason.WARMUP
        self._full_steps = 0
        self._memory_failures = 0
        self._rates: list[LateScalar] = []
        self._current: Step | None = None
        self._in_pass = False
        self._first: Tensor | None = None
        self._mixed = False

    @property
    def report(self) -> RunReport:
        """The report of the latest pass.

        Raises:
            RuntimeError: nothing has run yet.
        """
        if not self.reports:
            raise RuntimeError("nothing has run under HERO yet: call the model inside the session first")
        return self.reports[-1]

    @property
    def cached_bytes(self) -> int:
        """Bytes held now by cached features."""
        return sum(held.branch.bytes for held in self._branches.values())

    def attach(self) -> AbstractContextManager[None]:
        """What the method puts on the model besides the wrappers of :meth:`forward_model` and its like."""
        return self.method.attach(self._attend, self._see)

    @contextmanager
    def branch(
        self, name: Hashable, adapters: Hashable = None, weights: Sequence[float] | None = None
    ) -> Iterator[None]:
        """Say which branch the model calls inside are, where branches are called separately, and what of them
        counts.

        Args:
            name: of the branch; None where all are called as one batch.
            adapters: what a host has put on the weights for them, say a LoRA and its strength; what was
                cached with other adapters is dropped.
            weights: of each equal part of the batch in the answer that the step makes of its branches: with
                guidance of scale s, (1 - s, s) for a batch of the unconditional and the conditional one, (s,)
                for the conditional one alone. The steps' may differ; error feedback goes by them, see
                ``HeroConfig.feedback``.

        Raises:
            ConfigError: weights that are no finite numbers (field ``"weights"``); in the model call, more of
                them than divide the batch.
        """
        told = None if weights is None else reals("weights", weights, "(1 - s, s)")
        previous = self._branch_name, self._branch_adapters, self._branch_weights
        self._branch_name, self._branch_adapters, self._branch_weights = name, adapters, told
        try:
            yield
        finally:
            self._branch_name, self._branch_adapters, self._branch_weights = previous

    def needs_all(self, timestep: float) -> bool:
        """Whether no branch should sit out the step: it is a full one, from which cached ones go on.

        Guidance multiplies the difference of the branches; where one goes on from an older full step than the
        other, that is multiplied, too.

        Args:
            timestep: the scheduler's, of the next step or of the one at hand.
        """
        self._enter_step(timestep)
        return self._planned.full and self._moment.number < self._schedule.reused_until

    def forward_model(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stands around the model's forward: one call is one step of one branch."""
        call = self._adapter.read_call(args, kwargs)
        parts = len(self._branch_weights or (1,))
        if call.batch % parts:
            raise ConfigError("weights", f"{parts} cannot be those of equal parts of a batch of {call.batch}")
        signature = call.signature, self._branch_adapters
        call = replace(call, signature=signature, weights=self._branch_weights)
        self._enter_step(call.timestep)
        if self._branch_name is None:
            self._compare_first(args, kwargs)
        if not self._in_pass:
            self._in_pass = True
            self.reports.append(RunReport(self.config, self._counts, call.shape, call.batch))
        name = self._name_call()
        watch = Stopwatch(call.device)
        if self._memory_failures < _ATTEMPTS:
            try:
                step, reason = self._begin(name, call)
                return self._run(step, original, args, kwargs, (name, call, reason, watch))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._memory_failures += 1
                self._branches.clear()
            # Out here, because the error's traceback has held the failed attempt's tensors until now.
            log.warning("out of memory: what was cached is freed, and the step computed without it")
        step = Step(self._adapter, call.shape.video_tokens)
        return self._run(step, original, args, kwargs, (name, call, Reason.MEMORY, watch))

    def _begin(self, name: str, call: ModelCall) -> tuple[Step, Reason]:
        """What this call does, and why."""
        held, reason = self._branch_for(name, call)
        if not reason.full:
            return held.branch.cached_step(call, self._moment), reason
        held.full = self._full_steps
        return held.branch.full_step(call, self._moment), reason

    def _run(
        self, step: Step, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any], record: _Call
    ) -> Any:
        self._current = step
        try:
            result = step.forward(original, args, kwargs)
            self._record(step, *record)
        except BaseException:
            # Half-written features must never be reused, nor what other branches have of a run that may have
            # ended here.
            self._branches.clear()
            raise
        finally:
            self._current = None
        return result

    def forward_block(
        self, number: int, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Stands around the forward of block `number`."""
        if self._current is None:
            return original(*args, **kwargs)
        return self._current.block(number, original, self._adapter.read_block(number, args, kwargs))

    def _attend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stands between the projections and the attention of a block."""
        return (keys, values) if self._current is None else self._current.attend(block, keys, values)

    def _see(self, block: int, kind: str, output: Tensor) -> None:
        """Is shown what a part of a block gave."""
        if self._current is not None:
            self._current.see(block, kind, output)

    def close(self) -> None:
        """Free everything and settle the reports."""
        self.reset()
        for report in self.reports:
            report.settle()

    def _compare_first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let nothing of the first step be reused where callers without names ask with several latents.

        That is a run after one that was stopped in it, or tiles: in the next step it cannot be told.
        """
        if not self._in_pass:
            self._first = self._adapter.read_latent(args, kwargs).clone()
        elif self._first is not None and _differ(self._adapter.read_latent(args, kwargs), self._first):
            self._branches.clear()
            self._mixed = True

    def _enter_step(self, timestep: float) -> None:
        if timestep > self._timestep:
            self.reset()
        if timestep == self._timestep:
            return
        self._timestep, self._first = timestep, None
        if self._mixed:
            self._branches.clear()
            self._mixed = False
        self._calls.clear()
        self._planned = self._schedule.next(self._rate() if self._schedule.adaptive else math.nan)
        self._rates = []
        age = 0 if self._planned.full else self._moment.age + 1
        self._moment = Moment(self._moment.number + 1, age)
        self._full_steps += self._planned.full
        if self._planned.full:
            self._drop_idle()

    def _drop_idle(self) -> None:
        """Free branches that have missed the last two full steps: their caches no longer count.

        A host may ask for both halves in one batch, and for one after the other when memory gets short.
        """
        idle = [name for name, held in self._branches.items() if held.full < self._full_steps - 2]
        for name in idle:
            del self._branches[name]

    def _name_call(self) -> str:
        """The branch of this call."""
        self._calls[self._branch_name] += 1
        number = self._calls[self._branch_name]
        if self._branch_name is None:
            return f"call {number}"
        return str(self._branch_name) if number == 1 else f"{self._branch_name}, call {number}"

    def _rate(self) -> float:
        """Drift of the branch that drifted most in the step before (waits until it is known)."""
        # torch's maximum, because that of a NaN is NaN.
        return float(torch.tensor([rate.read() for rate in self._rates]).max()) if self._rates else math.nan

    def _branch_for(self, name: str, call: ModelCall) -> tuple[_Held, Reason]:
        held = self._branches.get(name)
        if new := held is None or held.signature != call.signature:
            held = self._branches[name] = _Held(call.signature, self.method.branch(call))
        if self._planned.full:
            return held, self._planned
        if new or not held.branch.ready:
            return held, Reason.NO_CACHE
        if held.full == self._full_steps:
            return held, self._planned
        if sum(self._calls.values()) == 1:
            self._promote()
        return held, Reason.STALE

    def _promote(self) -> None:
        """No branch has run in this step yet: all of them run in full, as guidance takes their difference."""
        self._planned = Reason.STALE
        self._schedule.promote()
        self._moment = Moment(self._moment.number, 0)
        self._full_steps += 1

    def _record(self, step: Step, name: str, call: ModelCall, reason: Reason, watch: Stopwatch) -> None:
        watch.stop()
        rate = step.finish()
        if rate is not None and self._schedule.adaptive:
            self._rates.append(LateScalar(rate))
        record = StepRecord(
            timestep=call.timestep,
            branch=name,
            reason=reason,
            tokens=call.shape.video_tokens,
            refreshed=step.refreshed,
            drift=step.drift,
            missed=step.missed,
            watch=watch,
        )
        self.report.add(record, self.cached_bytes)


def _differ(latent: Tensor, other: Tensor) -> bool:
    return latent.shape != other.shape or not torch.equal(latent, other)
