"""What is done with a window, and where: a run per window or tile, one after the other or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import SamplingStopped
from ..generation.latents import Decoded
from ..generation.sampling import Callback, StepInfo
from ..model.parts import AetherModel
from ..run import job
from .tiles import Tiles, merge_tiles


@dataclass(frozen=True)
class Window:
    """A part of a long clip. Can be sent to another process.

    Attributes:
        number: 0 for the first.
        inputs: its frames, of the whole picture.
        tiles: what it is cut into, or None.
        stand_ins: frames that did not decode, so that a neighbor stands in.
    """

    number: int
    inputs: job.Inputs
    tiles: Tiles | None = None
    stand_ins: int = 0


Outcome = tuple[Decoded, dict[str, Any]]
"""What a window gave, and its report, ready for JSON."""
Compute = Callable[[job.Inputs, Callback], Outcome]
"""What reconstructs pictures of the model's size, such as `PlainRun`. The callback gets every step."""


@dataclass(frozen=True)
class PlainRun:
    """`aether.run.job.run` with one model and its settings. Can be sent to another process."""

    model: AetherModel
    settings: job.Settings
    accelerator: job.Accelerator | None = None

    def __call__(self, inputs: job.Inputs, callback: Callback) -> Outcome:
        result = job.run(self.model, inputs, self.settings, accelerator=self.accelerator, callback=callback)
        return result.decoded, result.report

    def to(self, device: str) -> PlainRun:
        return replace(self, model=self.model.to(device))


class Rehearsed:
    """A run that is rehearsed (see `aether.run.job.rehearse`) before the first window, so that compiling is
    not counted in the window's time."""

    def __init__(self, run: PlainRun) -> None:
        self._run, self._done = run, False

    def __call__(self, inputs: job.Inputs, callback: Callback) -> Outcome:
        if not self._done:
            job.rehearse(self._run.model, inputs, self._run.settings, self._run.accelerator)
            self._done = True
        return self._run(inputs, callback)


def compute_window(compute: Compute, window: Window, callback: Callback) -> Outcome:
    """A window's result: a run, or one for each tile, put together."""
    if window.tiles is None:
        return compute(window.inputs, callback)
    size = dict(zip(("height", "width"), window.tiles.tile, strict=True))
    outcomes = [
        compute(replace(window.inputs, pictures={"video": frames}, **size), callback)
        for frames in window.tiles.cut(window.inputs.pictures["video"])
    ]
    decoded, factors = merge_tiles(window.tiles, [decoded for decoded, _ in outcomes])
    reports = [report for _, report in outcomes]
    parts = zip(window.tiles.starts, factors, reports, strict=True)
    whole = {"height": window.inputs.height, "width": window.inputs.width, "tile": list(window.tiles.tile)}
    report = {
        **reports[0],
        "settings": {**reports[0]["settings"], **whole},
        "seconds": sum_seconds(reports),
        "hero": sum_accelerated(reports),
        "tiles": [
            {"start": start, "disparity_scale": factor, "hero": part["hero"]} for start, factor, part in parts
        ],
    }
    return decoded, report


def runs_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the accelerator did in each run of a window: one, or one for each tile; none without one."""
    return [part["hero"] for part in report.get("tiles", [report]) if part["hero"] is not None]


def sum_seconds(reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Wall time by stage, of all runs."""
    return {name: sum(report["seconds"][name] for report in reports) for name in reports[0]["seconds"]}


def sum_accelerated(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How many steps of each kind all runs took."""
    parts = [report["hero"] for report in reports]
    if parts[0] is None:
        return None
    counts = ("steps", "full_steps", "cached_steps")
    return {"config": parts[0].get("config"), **{n: sum(part.get(n, 0) for part in parts) for n in counts}}


@dataclass(frozen=True)
class Progress:
    """Where a run is: before a window, after one of its steps, or after a window that was done elsewhere.

    Attributes:
        window, windows: 0 for the first, and how many there are.
        resumed: windows that were finished by an earlier run; they are not counted again.
        steps: of each window; with tiles, of all its tiles together.
        done: steps done in this run, of all windows.
        step: see ``aether.generation.sampling.StepInfo``; None where it is not a step that has ended.
    """

    window: int
    windows: int
    resumed: int
    steps: int
    done: int
    step: StepInfo | None = None

    @property
    def total(self) -> int:
        """Steps that this run will have done at its end."""
        return (self.windows - self.resumed) * self.steps


class Watch:
    """Counts steps and reports them to a callback, which ends the run by returning False.

    Every method raises `SamplingStopped` then.
    """

    def __init__(
        self, callback: Callable[[Progress], bool | None] | None, windows: int, resumed: int, steps: int
    ) -> None:
        self._callback, self._state, self._steps, self._done = callback, (windows, resumed, steps), steps, 0

    def begin(self, window: int) -> None:
        self._report(window)

    def step(self, window: int, info: StepInfo) -> None:
        self._done += 1
        self._report(window, info)

    def finish(self, window: int) -> None:
        """All steps of a window at once, for an executor that does not report each."""
        self._done += self._steps
        self._report(window)

    def _report(self, window: int, info: StepInfo | None = None) -> None:
        if self._callback and self._callback(Progress(window, *self._state, self._done, info)) is False:
            raise SamplingStopped(0 if info is None else info.index + 1, self._steps)


class Executor(Protocol):
    """Where windows are computed.

    Attributes:
        device: the kind of device, such as "cuda"; None where the model lies.
    """

    device: str | None

    def run(
        self, compute: Compute, windows: Iterator[Window], watch: Watch
    ) -> Iterator[tuple[Window, Outcome]]:
        """Compute windows, which are read as they are asked for; results in any order."""


class Serial:
    """One window after the other, in this process."""

    device = None

    def run(
        self, compute: Compute, windows: Iterator[Window], watch: Watch
    ) -> Iterator[tuple[Window, Outcome]]:
        for window in windows:
            watch.begin(window.number)

            def step(info: StepInfo, number: int = window.number) -> None:
                watch.step(number, info)

            yield window, compute_window(compute, window, step)
