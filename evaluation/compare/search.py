"""The best settings of each method at each speed, by successive halving on scenes of its own."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aether.errors import InputError
from hero_engine.cost import ModelShape

from ..models import SAMPLERS
from .contenders import (
    FAMILIES,
    HERO_OPTIONS,
    LADDERS,
    PACKAGES,
    Contender,
    default_contenders,
    fitted,
    reaches,
    unique,
)
from .journal import Journal
from .runs import Group
from .summary import Row, rows_of
from .work import Loader, Record, Task, work_off

KEPT = 3
"""One in so many goes on to the next rung."""


@dataclass(frozen=True)
class Budget:
    """What the search may cost.

    Attributes:
        minutes: of wall time.
        workers: processes.
        seconds: of one run of a contender, by task; see ``work.estimated_seconds``.
    """

    minutes: float
    workers: int
    seconds: dict[str, float]


def candidates(
    shape: ModelShape, steps: Sequence[int], targets: Sequence[float], seed: int = 0
) -> tuple[list[Contender], list[Contender]]:
    """What is tried: (settings that always are, HERO's other settings in random order).

    The first holds every schedule of the other methods, and of HERO what a comparison takes without a search.
    """
    always = list(default_contenders(shape, steps, targets))
    more: list[Contender] = []
    for target in targets:
        for method, settings in FAMILIES:
            always += itertools.chain(*fitted(method, settings, target, shape, steps))
        always += itertools.chain(*fitted("toca", {"ratio": 0.3}, target, shape, steps))
        for method, package in PACKAGES.items():
            if package.fixed:
                always += itertools.chain(*fitted(method, package.fixed, target, shape, steps))
        for values in itertools.product(*HERO_OPTIONS.values()):
            chosen = {
                name: value for name, value in zip(HERO_OPTIONS, values, strict=True) if value is not None
            }
            more += itertools.chain(*fitted("hero", chosen, target, shape, steps))
    for method, package in PACKAGES.items():
        always += [Contender(method, settings) for settings in package.ladder]
    always += [Contender(method, settings) for method, ladder in LADDERS.items() for settings in ladder]
    always = unique(always)
    known = {contender.key for contender in always}
    more = [contender for contender in unique(more) if contender.key not in known]
    random.Random(seed).shuffle(more)
    return always, more


Run = tuple[int, str]
"""Scene and task."""


def rungs(scenes: Sequence[int], tasks: dict[str, int], seconds: dict[str, float]) -> list[list[Run]]:
    """What each rung adds: the first scene task by task, cheap ones first, then scene by scene."""
    order = sorted(tasks, key=lambda task: seconds[task])
    return [[(scenes[0], task)] for task in order] + [
        [(scene, task) for task in order] for scene in scenes[1:]
    ]


def affordable(budget: Budget, ladder: Sequence[Sequence[Run]], samplers: int) -> int:
    """How many candidates a sampler may begin with, so that all rungs fit into the budget."""
    each = sum(
        sum(budget.seconds[task] for _, task in rung) / KEPT**number for number, rung in enumerate(ladder)
    )
    return int(60 * budget.minutes * budget.workers / (samplers * each))


def search(
    journal: Journal,
    loader: Loader,
    *,
    always: Sequence[Contender],
    more: Sequence[Contender],
    tasks: dict[str, int],
    scenes: Sequence[int],
    targets: Sequence[float],
    budget: Budget,
    samplers: Sequence[str] = SAMPLERS,
    progress: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = print,
) -> dict[str, list[Contender]]:
    """Find, for each sampler, each method's settings with the lowest error at each target.

    Args:
        always, more: see :func:`candidates`.
        tasks: name to steps.

    Returns:
        sampler to its contenders, see :func:`survivors`.

    Raises:
        InputError: field "minutes": not enough to try every setting once. What ran is in the journal.
    """
    until = time.monotonic() + 60 * budget.minutes
    ladder = rungs(scenes, tasks, budget.seconds)
    room = affordable(budget, ladder, len(samplers))
    if room < len(always):
        say(f"the time allows about {room} settings, but {len(always)} are needed: give more minutes")
    chosen = [*always, *more[: max(0, room - len(always))]]
    say(f"{len(chosen)} of {len(always) + len(more)} settings are tried with each sampler")

    def run(work: Sequence[Task]) -> None:
        work_off(work, journal, loader, workers=budget.workers, brief=True, until=until, progress=progress)

    state = _Search(journal, tasks, targets, run, dict.fromkeys(samplers, chosen))
    for number, rung in enumerate(ladder, 1):
        state.climb(rung)
        if not all(len(state.rows(sampler)) >= len(alive) for sampler, alive in state.alive.items()):
            if number == 1:
                raise InputError(
                    "minutes", "were over before every setting had one run; give more, and it goes on"
                )
            say(f"the time was up before rung {number} of {len(ladder)} was through")
            # What only some have run cannot be compared.
            state.done = state.done[: -len(rung)]
            break
        if number < len(ladder):
            state.alive = state.survivors(KEPT)
        left = ", ".join(f"{len(alive)} ({sampler})" for sampler, alive in state.alive.items())
        say(f"rung {number} of {len(ladder)} is through; left: {left}")
    return state.survivors(None)


@dataclass
class _Search:
    """How far a search has come: the runs of the rungs so far, and who is left of each sampler."""

    journal: Journal
    tasks: dict[str, int]
    targets: Sequence[float]
    work: Callable[[Sequence[Task]], None]
    alive: dict[str, list[Contender]]
    done: list[Run] = field(default_factory=list)

    def climb(self, rung: Sequence[Run]) -> None:
        """Run a rung; the first one again with thresholds in between what was tried."""
        self._run(rung)
        first = not self.done
        self.done += rung
        if first:
            self.alive = {
                sampler: unique([*alive, *between(self.rows(sampler), self.targets)])
                for sampler, alive in self.alive.items()
            }
            self._run(rung)

    def _run(self, rung: Sequence[Run]) -> None:
        self.work(
            [
                (Group(scene, task, sampler, self.tasks[task]), alive)
                for sampler, alive in self.alive.items()
                for scene, task in rung
            ]
        )

    def survivors(self, share: int | None) -> dict[str, list[Contender]]:
        """By sampler, see :func:`survivors`."""
        return {sampler: survivors(self.rows(sampler), self.targets, share) for sampler in self.alive}

    def rows(self, sampler: str) -> list[Row]:
        """Of those who are left, with every run so far."""
        keys = {contender.key for contender in self.alive[sampler]}
        wanted = [
            record
            for record in self.journal.records
            if record["sampler"] == sampler
            and (record["scene"], record["task"]) in self.done
            and record["steps"] == self.tasks[record["task"]]
            and Contender(record["method"], record["settings"]).key in keys
        ]
        return rows_of(wanted, runs=len(self.done))


def between(rows: Sequence[Row], targets: Sequence[float]) -> list[Contender]:
    """Thresholds that lie between those that were tried, where a target does: by the logarithm of the
    threshold against the speed."""
    found = []
    for low, high in itertools.permutations([row for row in rows if row.counts], 2):
        a, b = low.contender, high.contender
        if not {"threshold"} <= a.settings.keys() & b.settings.keys():
            continue
        if a.method != b.method or {**a.settings, "threshold": 0} != {**b.settings, "threshold": 0}:
            continue
        for target in targets:
            if reaches(low.flops_speedup, target) or not reaches(high.flops_speedup, 1.05 * target):
                continue
            share = (target - low.flops_speedup) / (high.flops_speedup - low.flops_speedup)
            start, end = a.settings["threshold"], b.settings["threshold"]
            threshold = float(f"{start * (end / start) ** share:.3g}")
            found.append(Contender(a.method, {**a.settings, "threshold": threshold}))
    return unique(found)


def survivors(rows: Sequence[Row], targets: Sequence[float], share: int | None) -> list[Contender]:
    """Of each method and target the settings with the lowest error that are fast enough.

    A method that is slower than every target keeps its fastest setting, one of which nothing worked its
    first, so that the table has a row of either.

    Args:
        share: one in so many is kept, at least one; None keeps only the best.
    """
    left: list[Contender] = []
    for label in dict.fromkeys(row.label for row in rows):
        own = [row for row in rows if row.label == label]
        working = [row for row in own if row.counts]
        kept: list[Row] = []
        for target in targets:
            fast = sorted((r for r in working if reaches(r.flops_speedup, target)), key=lambda r: r.error)
            kept += fast[: math.ceil(len(fast) / share) if share else 1]
        if not kept:
            kept = [max(working, key=lambda row: row.flops_speedup)] if working else own[:1]
        left += [row.contender for row in kept]
    return unique(left)


def settings_document(found: dict[str, list[Contender]]) -> dict[str, Any]:
    """What ``contenders.read_settings`` reads."""
    return {
        sampler: [{"method": one.method, "settings": one.settings} for one in contenders]
        for sampler, contenders in found.items()
    }
