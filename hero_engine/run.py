"""One run, call by call: the pass it is in, and what is cached of each branch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .branches import Branches, BranchId, Held
from .checks import reals
from .errors import ConfigError
from .foreign_caches import refuse_caches
from .memory_errors import is_out_of_memory
from .method import Step
from .methods import method_of
from .models.adapter import Forward, ModelAdapter, ModelCall
from .noise import ROUNDING
from .optional import require
from .report import RunReport, StepRecord
from .sampling import Sampling
from .schedule import Reason
from .settings import Counts, MethodConfig
from .step_clock import StepClock
from .stopwatch import Stopwatch

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often caching may run out of memory before a pass goes on without."""
KEPT_REPORTS = 16
"""Of the latest passes; a service may run for weeks."""
_ANY_STEPS = 1000
"""Stands for a number of steps that is not known yet, where only what depends on the blocks is read."""


class _Context(NamedTuple):
    """What the caller has passed for the calls to come, see :meth:`HeroRun.branch`."""

    name: Hashable = None
    adapters: Hashable = None
    weights: tuple[float, ...] | None = None
    timestep: float | None = None


class _Pass:
    """One denoising run: its steps, and what is cached.

    Args:
        counts: the settings in counts of this pass.
        clock: fresh.
    """

    def __init__(self, counts: Counts, clock: StepClock):
        self.counts = counts
        self.clock = clock
        self.branches = Branches()
        self.over = False
        self.memory_failures = 0
        self.report: RunReport | None = None
        # Of the step at hand: the latent of its first call where that is the pass's first, and whether others
        # came with another one.
        self.first: Tensor | None = None
        self.mixed = False

    def end(self) -> None:
        """An error has ended it."""
        self.branches.clear()
        self.over = True

    def go_on_without(self) -> None:
        """Memory ran out, and goes to the step that is tried again without anything cached."""
        self.branches.clear()
        self.over = False
        self.memory_failures += 1

    def known(self, timestep: float) -> float:
        """A timestep, or that of the step at hand where the two differ by rounding only."""
        now = self.clock.timestep
        return now if math.isclose(timestep, now, rel_tol=ROUNDING) else timestep

    def enter(self, timestep: float) -> None:
        """Go on to the step of this timestep, if that is not the one at hand."""
        if timestep == self.clock.timestep:
            return
        self.first = None
        if self.mixed:
            self.branches.clear()
            self.mixed = False
        self.branches.next_step()
        self.clock.enter(timestep)
        if self.clock.planned.full:
            self.branches.drop_idle(self.clock.full_steps)


class HeroRun:
    """The state of a method on one model. Made by ``hero_session`` and ``apply_hero``.

    A step is known by its timestep, which falls from step to step; when it rises, when the scheduler
    sets its timesteps anew, or after an error in the model, a new pass has begun and everything starts
    afresh. (Without a pipeline or scheduler, a pass that is stopped between two steps, and one from the same
    or a lower timestep after it, look like one: call :meth:`reset` between them. Where the first step is
    asked for with several latents, nothing of it is reused.) Several calls at one timestep are the branches
    of a step (conditional and unconditional, say): a batch of both is one branch; separate calls are
    known by their order, or by a name given with :meth:`branch` and their order under that name (samplers of
    higher order ask twice at one timestep). The branches of a step are full or cached together. A branch may
    sit steps out, as guidance of scale 1 has no use for the unconditional one: :meth:`needs_all` says where
    that would cost more than it saves. If it was absent from a full step, the step it comes back in is full.

    Where memory runs out in a step, everything cached is freed and the step is computed without. A second
    failure in a pass ends caching for the rest of it, and one without anything cached is the caller's.

    Attributes:
        config: the settings, HERO's or those of another method.
        method: what runs on the model; the layer analysis gives its result there.
        reports: one :class:`~hero_engine.report.RunReport` of each of the latest passes, the latest last.
        observer: is shown the latent of every call of the model, if it is set: (number of the step, latent).
    """

    def __init__(self, adapter: ModelAdapter, config: MethodConfig, sampling: Sampling):
        self.config = config
        self.reports: list[RunReport] = []
        self.observer: Callable[[int, Tensor], None] | None = None
        self._adapter = adapter
        self._sampling = sampling
        adapter.noise = sampling.noise
        steps = sampling.passed_steps
        if steps is None and sampling.reads_steps:
            steps = _ANY_STEPS
        self.method = method_of(config, adapter, config.resolve(len(adapter.blocks), steps))
        self._context = _Context()
        self._pass: _Pass | None = None
        self._current: Step | None = None

    def __repr__(self) -> str:
        blocks = len(self._adapter.blocks)
        name = f"{self.config.name} on {type(self._adapter.model).__name__} of {blocks} blocks"
        if not self.reports:
            return f"<HeroRun: {name}, nothing has run>"
        latest = f"{self.report.full_steps} full and {self.report.cached_steps} cached steps"
        return f"<HeroRun: {name}, last {latest}, {self.cached_bytes / 1e6:.1f} MB cached now>"

    def reset(self) -> None:
        """Forget everything cached; the next step is the first of a new pass, as in a fresh run."""
        self._pass = None
        self._current = None
        self.method.forget()

    def begin_pass(self, scheduler: Any, steps: int) -> None:
        """Begin a pass with the loop's own scheduler: the next step is its first.

        Loops that sample with a copy of the scheduler, or begin again without an end, call this, and nothing
        needs to be passed to the session.

        Args:
            scheduler: that runs the pass, or a :class:`~hero_engine.NoiseSchedule`.
            steps: number of its steps.
        """
        self.reset()
        self._sampling.announce(scheduler, steps)

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
        return self._pass.branches.bytes if self._pass else 0

    def attach(self) -> AbstractContextManager[None]:
        """What the method puts on the model besides the wrappers of :meth:`forward_model` and its like."""
        return self.method.attach(self._see)

    @contextmanager
    def branch(
        self,
        name: Hashable,
        adapters: Hashable = None,
        weights: Sequence[float] | None = None,
        timestep: float | None = None,
    ) -> Iterator[None]:
        """Say which branch the model calls inside are, where branches are called separately, and what of them
        counts.

        Args:
            name: of the branch, a tuple of names for a batch of several that may also be called one by one;
                None where all are called as one batch.
            adapters: what a host has put on the weights for them, say a LoRA and its strength; what was
                cached with other adapters is dropped.
            weights: of each equal part of the batch in the answer that the step makes of its branches: with
                guidance of scale s, (1 - s, s) for a batch of the unconditional and the conditional one, (s,)
                for the conditional one alone. The steps' may differ; error feedback goes by them, see
                ``HeroConfig.feedback``.
            timestep: the scheduler's, where the model may be called with others, as for given frames. None
                for the (largest) one that it is called with.

        Raises:
            ConfigError: weights that are no finite numbers (field ``"weights"``); in the model call, more of
                them than divide the batch.
        """
        checked = None if weights is None else reals("weights", weights, "(1 - s, s)")
        previous, self._context = self._context, _Context(name, adapters, checked, timestep)
        try:
            yield
        finally:
            self._context = previous

    def needs_all(self, timestep: float) -> bool:
        """Whether no branch should sit out the step: it is a full one, from which cached ones go on.

        Guidance multiplies the difference of the branches; where one goes on from an older full step than the
        other, that is multiplied, too.

        Args:
            timestep: the scheduler's, of the next step or of the one at hand.
        """
        return self._at(timestep).clock.feeds_cached_steps

    def forward_model(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stands around the model's forward: one call is one step of one branch."""
        call = self._adapter.read_call(args, kwargs)
        passed = self._context.timestep
        current = self._at(self._sampling.timestep_of(call.timestep) if passed is None else passed)
        call = self._in_context(replace(call, timestep=current.clock.timestep))
        if self._context.name is None:
            self._compare_first(current, args, kwargs)
        self._report_on(current, call)
        if self.observer is not None:
            self.observer(current.clock.moment.number, self._adapter.read_latent(args, kwargs))
        key = current.branches.identify(self._context.name)
        watch = Stopwatch(call.device)
        if current.memory_failures < ATTEMPTS:
            try:
                step, reason = self._plan(current, key, call)
                return self._run(step, original, args, kwargs, (key, call, reason, watch))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                current.go_on_without()
            # Out here, because the error's traceback has held the failed attempt's tensors until now.
            log.warning("out of memory: what was cached is freed, and the step computed without it")
        step = Step(self._adapter, call.shape.video_tokens)
        return self._run(step, original, args, kwargs, (key, call, Reason.MEMORY, watch))

    def forward_block(
        self, number: int, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Stands around the forward of block `number`."""
        if self._current is None:
            return original(*args, **kwargs)
        return self._current.block(number, original, self._adapter.read_block(number, args, kwargs))

    def close(self) -> None:
        """Free everything and settle the reports."""
        self.reset()
        if self.reports:
            self.reports[-1].settle()

    def _in_context(self, call: ModelCall) -> ModelCall:
        """The call with what the caller has passed for it.

        Raises:
            ConfigError: more weights than divide the batch.
        """
        halves = self._adapter.guided_in_one_batch and call.batch % 2 == 0
        weights = self._sampling.weights(self._context.weights, halves)
        parts = len(weights or (1,))
        if call.batch % parts:
            raise ConfigError("weights", f"{parts} cannot be those of equal parts of a batch of {call.batch}")
        return replace(call, signature=(call.signature, self._context.adapters), weights=weights)

    def _at(self, timestep: float) -> _Pass:
        """The pass at the step of this timestep, a new one where that begins."""
        current = self._pass
        if current is not None:
            timestep = current.known(timestep)
        if current is None or current.over or timestep > current.clock.timestep or self._sampling.renewed():
            self._pass = current = self._begin_pass(timestep)
        current.enter(timestep)
        return current

    def _begin_pass(self, timestep: float) -> _Pass:
        """
        Raises:
            ConfigError: somebody else's cache is on the model, or the scheduler or its steps do not fit.
        """
        refuse_caches(self._adapter.model)
        self.reset()
        if self.reports:
            self.reports[-1].settle()
        steps = self._sampling.begin(timestep)
        self._adapter.noise = self._sampling.noise
        counts = self.config.resolve(len(self._adapter.blocks), steps)
        self.method.begin(counts)
        return _Pass(counts, StepClock(self.config.schedule(counts)))

    def _report_on(self, current: _Pass, call: ModelCall) -> None:
        """Begin the pass's report with its first call."""
        if current.report is None:
            current.report = RunReport(self.config, current.counts, call.shape, call.batch)
            self.reports.append(current.report)
            del self.reports[:-KEPT_REPORTS]

    def _plan(self, current: _Pass, key: BranchId, call: ModelCall) -> tuple[Step, Reason]:
        """What this call does, and why."""
        held, reason = self._branch_for(current, key, call)
        if not reason.full:
            return held.branch.cached_step(call, current.clock.moment), reason
        held.full = current.clock.full_steps
        return held.branch.full_step(call, current.clock.moment), reason

    def _branch_for(self, current: _Pass, key: BranchId, call: ModelCall) -> tuple[Held, Reason]:
        held, new = current.branches.get(key, call.signature, lambda: self.method.branch(call))
        clock = current.clock
        if clock.planned.full:
            return held, clock.planned
        if new or not held.branch.ready:
            return held, Reason.NO_CACHE
        if held.full == clock.full_steps:
            return held, clock.planned
        if current.branches.calls == 1:
            # No branch has run in this step yet: all run in full, as guidance takes their difference.
            clock.promote()
        return held, Reason.STALE

    def _run(
        self,
        step: Step,
        original: Forward,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        record: tuple[BranchId, ModelCall, Reason, Stopwatch],
    ) -> Any:
        self._current = step
        try:
            result = step.forward(original, args, kwargs)
            self._record(step, *record)
        except BaseException:
            # Half-written features must never be reused, nor what other branches have of a run that may have
            # ended here.
            require(self._pass).end()
            raise
        finally:
            self._current = None
        return result

    def _record(self, step: Step, key: BranchId, call: ModelCall, reason: Reason, watch: Stopwatch) -> None:
        watch.stop()
        current = require(self._pass)
        current.clock.drifted(step.finish())
        record = StepRecord(
            timestep=call.timestep,
            branch=key,
            reason=reason,
            tokens=call.shape.video_tokens,
            refreshed=step.refreshed,
            drift=step.drift,
            forecast_error=step.forecast_error,
            watch=watch,
        )
        require(current.report).add(record, current.branches.bytes)

    def _see(self, block: int, kind: str, output: Tensor) -> None:
        """Is shown what a part of a block gave."""
        if self._current is not None:
            self._current.on_output(block, kind, output)

    def _compare_first(self, current: _Pass, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let nothing of the first step be reused where callers without names ask with several latents.

        That is a run after one that was stopped in it, or tiles. From the next step on that is not detected.
        """
        if current.report is None:
            current.first = self._adapter.read_latent(args, kwargs).clone()
        elif current.first is not None and _differ(self._adapter.read_latent(args, kwargs), current.first):
            current.branches.clear()
            current.mixed = True


def _differ(latent: Tensor, other: Tensor) -> bool:
    return latent.shape != other.shape or not torch.equal(latent, other)
