"""Contenders side by side: every step of all of them in turn, timed.

Each denoises with a model of its own (the weights are shared), so that a stall of the machine meets all of
them alike. "Clock" is wall time, the scheduler included; "CPU time" that of the one thread which does the
work, the less noisy figure on a busy machine. On a GPU every step is waited for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from evaluation.compare.meter import shared_copy
from hero_engine import MethodConfig

from .contenders import Attached, Contender
from .sizes import Denoising, Size, build_model


@dataclass
class Times:
    """Of one contender's steps, over all rounds.

    Attributes:
        full: of each step, whether it was a full one.
        clock, cpu: its seconds by the clock and of this thread.
        cached_bytes: held by caches, None where that is not known.
        peak_bytes: of the device's memory, None where it is not measured.
        memory_failures: steps that were full because there was no memory for the caches.
    """

    full: list[bool] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cached_bytes: int | None = None
    peak_bytes: int | None = None
    memory_failures: int = 0

    def add(self, attached: Attached, clock: float, cpu: float) -> None:
        """A step that has just been taken."""
        self.clock.append(clock)
        self.cpu.append(cpu)
        self.full.append(attached.full())

    def end_round(self, attached: Attached) -> None:
        """Take what the run of a session reports."""
        if attached.run is not None:
            self.cached_bytes = attached.run.report.bytes_cached
            self.memory_failures += attached.run.report.memory_failures

    def marked(self, name: str) -> str:
        """The contender's name, and whether memory ran out: its times are then not the method's."""
        failures = self.memory_failures
        return f"{name} (out of memory in {failures} step(s))" if failures else name

    def median(self, seconds: list[float], full: bool) -> float | None:
        """Median of the full or of the cached steps; None where there are none."""
        chosen = [s for s, kind in zip(seconds, self.full, strict=True) if kind is full]
        return statistics.median(chosen) if chosen else None

    def share(self, seconds: list[float]) -> float | None:
        """Cached over full step, by medians."""
        cached, full = self.median(seconds, False), self.median(seconds, True)
        return None if cached is None or not full else cached / full

    def typical(self, seconds: list[float]) -> float:
        """Seconds of all steps where each takes the median of its kind."""
        kinds = {kind: self.median(seconds, kind) for kind in set(self.full)}
        return sum(kinds[kind] for kind in self.full)


def stopwatch(device: torch.device) -> Callable[[], tuple[float, float]]:
    """A function that waits for the device and gives (clock, CPU time of this thread)."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.thread_time()

    return now


def rehearse(attached: Attached, run: Denoising, steps: int, config: MethodConfig | None) -> None:
    """Take every kind of step, untimed: what comes with the first of its kind, such as compiling and the
    choice of kernels, is then no part of any step's time.

    Until a cached step and a full one after it have been taken; two steps where nothing is cached.
    """
    kinds: list[bool] = []
    for number in range(steps):
        with attached.around():
            run.step(number)
        kinds.append(attached.full())
        if (config is None and number) or kinds[-2:] == [False, True]:
            return


@torch.no_grad()
def laps(
    model: torch.nn.Module,
    named: dict[str, Contender],
    size: Size,
    steps: int,
    rounds: int,
    device: torch.device,
) -> Iterator[dict[str, Times]]:
    """Measure all contenders side by side, each rehearsed before.

    Yields:
        the times so far, after every step of all.
    """
    now, times = stopwatch(device), {name: Times() for name in named}
    for _ in range(rounds):
        with ExitStack() as stack:
            runs = {}
            for name, contender in named.items():
                own = shared_copy(model)
                attached = stack.enter_context(contender.attach(own, steps))
                if contender.repeatable:
                    rehearse(attached, Denoising(own, size, steps, device), steps, contender.config)
                runs[name] = attached, Denoising(own, size, steps, device)
            for number in range(steps):
                for name, (attached, run) in runs.items():
                    clock, cpu = now()
                    with attached.around():
                        run.step(number)
                    end_clock, end_cpu = now()
                    times[name].add(attached, end_clock - clock, end_cpu - cpu)
                if number == steps - 1:
                    for name, (attached, _) in runs.items():
                        times[name].end_round(attached)
                yield times


def race(
    named: dict[str, Contender],
    size: Size,
    steps: int,
    rounds: int,
    device: torch.device,
    *,
    peaks: bool = True,
) -> dict[str, Times]:
    """The times of all contenders, measured side by side.

    Args:
        peaks: on a GPU, measure each one's peak of memory too, in steps of its own.
    """
    model = build_model(size, device)
    *_, times = laps(model, named, size, steps, rounds, device)
    if peaks and device.type == "cuda":
        for name, contender in named.items():
            times[name].peak_bytes = peak_memory(model, contender, size, steps, device)
    return times


@torch.no_grad()
def peak_memory(model, contender: Contender, size: Size, steps: int, device: torch.device) -> int:
    """Most bytes of the device in use while a contender takes its first steps, alone."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    own = shared_copy(model)
    with contender.attach(own, steps) as attached:
        run = Denoising(own, size, steps, device)
        for number in range(min(steps, 14)):
            with attached.around():
                run.step(number)
    return torch.cuda.max_memory_allocated(device)
