"""What a run did: steps, tokens, drift, bytes, time, speed-up."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from .branches import BranchId
from .cost.prediction import cached_step_flops, full_step_flops, speedup_bound
from .flops import ModelShape
from .schedule import Reason
from .settings import Counts, MethodConfig
from .stopwatch import Stopwatch
from .totals import doubts, speed_text, speedup_limit


@dataclass
class StepRecord:
    """One forward of the model: one branch of one step.

    Attributes:
        timestep: the scheduler's timestep.
        branch: which it is.
        reason: why the step was full, or "cached".
        tokens, refreshed: video tokens, and how many of them were computed in the blocks that ran.
        drift: how much changed; HERO: relative change of the shallow residual on the tokens computed, None
            the first time; WorldCache: the estimated error of a cached step. Other methods do not measure.
        forecast_error: relative error of HERO's forecast of the deep residual; full steps only.
        watch: the forward's wall time.
    """

    timestep: float
    branch: BranchId
    reason: Reason
    tokens: int
    refreshed: int
    drift: Tensor | float | None
    forecast_error: Tensor | float | None
    watch: Stopwatch

    def settle(self) -> None:
        """Read what is still on the device."""
        self.drift = None if self.drift is None else float(self.drift)
        self.forecast_error = None if self.forecast_error is None else float(self.forecast_error)
        self.watch.settle()

    def to_dict(self) -> dict[str, Any]:
        self.settle()
        return {
            "timestep": self.timestep,
            "branch": str(self.branch),
            "full": self.reason.full,
            "reason": self.reason.value,
            "tokens": self.tokens,
            "tokens_refreshed": self.refreshed,
            "drift": _finite(self.drift),
            "forecast_error": _finite(self.forecast_error),
            "seconds": self.watch.seconds,
        }


def _finite(value: Tensor | float | None) -> float | None:
    """None for what JSON has no number for."""
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass
class RunReport:
    """What one pass (one denoising run) did. Grows while it runs.

    A step counts as full where any of its branches ran in full.

    Attributes:
        config, counts: the settings, and what they came to for this model.
        shape, batch: the model's dimensions.
        records: one :class:`StepRecord` per forward.
        bytes_cached: most bytes that cached features held.
    """

    config: MethodConfig
    counts: Counts
    shape: ModelShape
    batch: int
    records: list[StepRecord] = field(default_factory=list)
    bytes_cached: int = 0

    def add(self, record: StepRecord, bytes_held: int) -> None:
        """Take the next forward in, and the bytes that cached features hold after it."""
        self.records.append(record)
        self.bytes_cached = max(self.bytes_cached, bytes_held)

    def settle(self) -> None:
        """Read what is still on the device."""
        for record in self.records:
            record.settle()

    def _steps(self) -> dict[float, list[StepRecord]]:
        steps: dict[float, list[StepRecord]] = {}
        for record in self.records:
            steps.setdefault(record.timestep, []).append(record)
        return steps

    @property
    def strip(self) -> list[bool]:
        """For each step, whether it was full."""
        return [any(r.reason.full for r in records) for records in self._steps().values()]

    @property
    def steps(self) -> int:
        return len(self._steps())

    @property
    def full_steps(self) -> int:
        return sum(self.strip)

    @property
    def cached_steps(self) -> int:
        return self.steps - self.full_steps

    @property
    def half_steps(self) -> int:
        """Steps that a named branch sat out, as guidance of scale 1 has no use for the unconditional one."""
        members = [
            {name for record in records if record.branch.call == 1 for name in record.branch.members}
            for records in self._steps().values()
        ]
        return sum(names < set().union(*members) for names in members)

    @property
    def memory_failures(self) -> int:
        """Forwards that were computed without anything cached because memory had run out."""
        return sum(record.reason is Reason.MEMORY for record in self.records)

    @property
    def tokens_refreshed(self) -> float:
        """Share of the video tokens computed in the blocks that run, over all forwards (0 to 1)."""
        return sum(r.refreshed for r in self.records) / max(1, sum(r.tokens for r in self.records))

    def seconds(self, full: bool | None = None) -> float:
        """Wall time in the model: of all steps, or of the full or the cached ones."""
        kinds = zip(self._steps().values(), self.strip, strict=True)
        return sum(r.watch.seconds for records, kind in kinds if full in (None, kind) for r in records)

    def _median_seconds(self, full: bool) -> float | None:
        kinds = zip(self._steps().values(), self.strip, strict=True)
        times = [sum(r.watch.seconds for r in records) for records, kind in kinds if kind is full]
        return statistics.median(times) if times else None

    @property
    def measured_cached_share(self) -> float | None:
        """Median time of a cached step over that of a full one; None where one kind is missing."""
        cached, full = self._median_seconds(False), self._median_seconds(True)
        return None if cached is None or not full else cached / full

    @property
    def measured_speedup(self) -> float | None:
        """steps / (full + cached c) with c the measured share; None where nothing ran in full.

        Medians on both sides, so that a stall of the machine in one step does not count.
        """
        if self._median_seconds(True) is None:
            return None
        return speedup_bound(self.steps, self.full_steps, self.measured_cached_share or 0.0)

    @property
    def predicted_speedup(self) -> float:
        """The same from FLOPs (see :mod:`hero_engine.cost`) and the steps that were full."""
        if not self.steps:
            return 1.0
        ages, age = [], 0
        for full in self.strip:
            age = 0 if full else age + 1
            ages += [age] * (not full)
        flops = [cached_step_flops(self.shape, self.config, self.counts, age) for age in ages]
        share = statistics.fmean(flops) / full_step_flops(self.shape) if flops else 0.0
        return speedup_bound(self.steps, self.full_steps, share)

    @property
    def nothing_reused(self) -> bool:
        return self.cached_steps == 0

    def _why_nothing(self) -> str:
        reasons = {record.reason for record in self.records}
        if Reason.MEMORY in reasons:
            return "there was no memory for it"
        if reasons == {Reason.MASK}:
            return f"the mask makes all {self.steps} steps full; use more steps, or a mask with more of 0"
        if self.config.interval == 1 and Reason.MASK not in reasons:
            return "interval is 1: every step is full"
        if reasons <= {Reason.WARMUP, Reason.COOLDOWN}:
            return f"all {self.steps} steps were warm-up or cool-down; use more steps, or less of these"
        if Reason.THRESHOLD in reasons:
            return f"the drift never stayed below threshold {self.config.threshold:g}: raise it"
        return "the inputs changed shape between steps, or the run was stopped early"

    def summary(self) -> str:
        """A few lines for a person."""
        counts = f"{self.full_steps} full / {self.cached_steps} cached steps"
        if self.half_steps:
            counts += f", {self.half_steps} of them with one branch left out"
        if self.nothing_reused:
            nothing = f"{self.config.name}: {counts}. Nothing was reused: {self._why_nothing()}."
            return "\n".join([nothing, *self._miscounted()])
        where = {"model": "", "float8": " in float8", "host": " on the host"}[self.config.storage]
        lines = [
            f"{self.config.name}: {counts}, {speed_text(self.measured_speedup, self.predicted_speedup)}, "
            f"{self.bytes_cached / 1e6:.1f} MB cached{where}.",
            f"A cached step took {self.measured_cached_share:.3f} of a full one; "
            f"{100 * self.tokens_refreshed:.0f} % of the tokens were computed in "
            f"{self.config.computed(self.shape, self.counts)}.",
            *doubts(self.measured_speedup, self.predicted_speedup, self.measured_cached_share),
        ]
        if self.memory_failures:
            lines.append(
                f"Memory ran out: the caches were freed, {self.memory_failures} forwards computed without."
            )
        return "\n".join([*lines, *self._miscounted()])

    def _miscounted(self) -> list[str]:
        """A line where another number of steps ran than was planned."""
        planned = self.counts.planned_steps
        if planned is None or planned == self.steps or not self.config.by_steps:
            return []
        return [f"{self.steps} of {planned} planned steps ran: {self.config.by_steps} of {planned}."]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "method": self.config.name,
            "config": self.config.to_dict(),
            **asdict(self.counts),
            "blocks": self.shape.blocks,
            "video_tokens": self.shape.video_tokens,
            "steps": self.steps,
            "full_steps": self.full_steps,
            "cached_steps": self.cached_steps,
            "half_steps": self.half_steps,
            "memory_failures": self.memory_failures,
            "nothing_reused": self.nothing_reused,
            "tokens_refreshed": self.tokens_refreshed,
            "bytes_cached": self.bytes_cached,
            "seconds": self.seconds(),
            "seconds_full": self.seconds(full=True),
            "seconds_cached": self.seconds(full=False),
            "cached_over_full_step": self.measured_cached_share,
            "measured_speedup": self.measured_speedup,
            "predicted_speedup": self.predicted_speedup,
            "speedup_limit": speedup_limit(self.predicted_speedup),
            "summary": self.summary(),
            "forwards": [record.to_dict() for record in self.records],
        }
