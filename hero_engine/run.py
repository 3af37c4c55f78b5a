"""One run, step by step: which steps are full, and what each branch has cached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from .adapter import Forward, ModelAdapter, ModelCall
from .clock import Stopwatch
from .host import LateScalar
from .methods.base import Branch, Moment, Step
from .report import RunReport, StepRecord
from .schedule import Reason
from .settings import MethodConfig


class HeroRun:
    """The state of a method on one model. Made by ``hero_session`` and ``apply_hero``.

    Steps are told apart by their timestep, which falls from step to step; when it rises, a new pass has begun
    and everything starts afresh. Several calls at one timestep are the branches of a step (conditional and
    unconditional, say): a batch of both is one branch; separate calls are told apart by their order, or by a
    name given with :meth:`branch` and their order under that name (samplers of higher order ask twice at one
    timestep). The branches of a step are full or cached together.

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
        self.reset()

    def reset(self) -> None:
        """Forget everything cached; the next step is the first of a new pass, as in a fresh run."""
        self._schedule = self.config.schedule(self._counts)
        self._branches: dict[str, tuple[Hashable, Branch]] = {}
        self._timestep = math.inf
        self._moment = Moment(-1, 0)
        self._calls: Counter[Hashable] = Counter()
        self._planned = Reason.WARMUP
        self._rates: list[LateScalar] = []
        self._current: Step | None = None
        self._in_pass = False

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
        return sum(branch.bytes for _, branch in self._branches.values())

    def attach(self) -> AbstractContextManager[None]:
        """What the method puts on the model besides the wrappers of :meth:`forward_model` and its like."""
        return self.method.attach(self._attend, self._see)

    @contextmanager
    def branch(self, name: Hashable) -> Iterator[None]:
        """Name the branch of the model calls inside, where branches are called separately."""
        previous, self._branch_name = self._branch_name, name
        try:
            yield
        finally:
            self._branch_name = previous

    def forward_model(self, original: Forward, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Stands around the model's forward: one call is one step of one branch."""
        call = self._adapter.read_call(args, kwargs)
        self._enter_step(call)
        name = self._name_call()
        branch, reason = self._branch_for(name, call)
        watch = Stopwatch(call.device)
        try:
            begin = branch.full_step if reason.full else branch.cached_step
            self._current = begin(call, self._moment)
            result = self._current.forward(original, args, kwargs)
            watch.stop()
            self._record(name, call, reason, watch)
        except BaseException:
            # Half-written features must never be reused.
            self._branches.pop(name, None)
            raise
        finally:
            self._current = None
        return result

    def forward_block(self, number: int, original: Forward, args: tuple, kwargs: dict[str, Any]) -> Any:
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

    def _enter_step(self, call: ModelCall) -> None:
        if call.timestep > self._timestep or not self._in_pass:
            self.reset()
            self._in_pass = True
            self.reports.append(RunReport(self.config, self._counts, call.shape, call.batch))
        if call.timestep == self._timestep:
            return
        self._timestep = call.timestep
        self._calls.clear()
        self._planned = self._schedule.next(self._rate() if self._schedule.adaptive else math.nan)
        self._rates = []
        age = 0 if self._planned.full else self._moment.age + 1
        self._moment = Moment(self._moment.number + 1, age)

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

    def _branch_for(self, name: str, call: ModelCall) -> tuple[Branch, Reason]:
        signature, branch = self._branches.get(name, (None, None))
        if branch is None or signature != call.signature:
            branch = self.method.branch(call)
            self._branches[name] = (call.signature, branch)
            return branch, self._planned if self._planned.full else Reason.NO_CACHE
        return branch, self._planned if self._planned.full or branch.ready else Reason.NO_CACHE

    def _record(self, name: str, call: ModelCall, reason: Reason, watch: Stopwatch) -> None:
        step = self._current
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
