"""A whole comparison, or a whole search: from arguments to files."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aether.errors import InputError
from aether.files import write_file
from aether.locks import locked
from aether.model.parts import AetherModel
from aether.model.weights import weights_digest

from ..models import loader_of
from .contenders import (
    FEWER_STEPS,
    Contender,
    default_contenders,
    fewer_steps,
    predicted_speedup,
    read_settings,
    shape_of,
    unique,
)
from .journal import Journal
from .report import best_csv, code_digest, csv_text, frontier_png, machine, markdown, versions
from .runs import PLAIN, Group
from .search import Budget, affordable, candidates, rungs, search, settings_document
from .summary import rows_of
from .work import Record, Task, estimated_seconds, record_key, seconds_of_one, unfinished, work_off


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        folder: where runs and results go; None for asking what it would take.
        source: "miniature", or what ``aether.model.loading.load`` takes.
        scenes: seeds of the synthetic world.
        tasks: name to steps.
        methods: only these; None for all.
        settings: file with a search's settings; None for the fixed selection.
        minutes: that a search may take.
    """

    folder: Path | None
    source: str
    scenes: list[int]
    tasks: dict[str, int]
    samplers: list[str]
    targets: list[float]
    methods: list[str] | None
    settings: str | None
    workers: int
    minutes: float

    def groups(self) -> list[Group]:
        """Each scene, task and sampler."""
        return [
            Group(scene, task, sampler, steps)
            for sampler in self.samplers
            for scene in self.scenes
            for task, steps in self.tasks.items()
        ]

    def wants(self, contender: Contender) -> bool:
        return self.methods is None or contender.method in self.methods


def compare(plan: Plan, dry_run: bool) -> str:
    """Make the runs that are missing, write results.md, its tables as CSV and frontier.png; return the page.

    Where nothing worked, there is no picture.

    Args:
        dry_run: only say how many runs there are and how long they take.
    """
    loader = loader_of(plan.source)
    model = loader()
    chosen = _chosen(plan, model)
    tasks: list[Task] = [(group, chosen[group.sampler]) for group in plan.groups()]
    if dry_run:
        return _dry_run_text(plan, model, tasks)
    with _journal(plan.folder / "runs.jsonl", model) as journal:
        left = sum(1 + len(contenders) for _, contenders in unfinished(tasks, journal.records))
        work_off(tasks, journal, loader, workers=plan.workers, progress=_progress(left))
        rows = rows_of(_of(tasks, journal.records))
        text = markdown(rows, _header(plan, model), plan.targets)
        files = {"results.md": text, "results.csv": csv_text(rows), "best.csv": best_csv(rows, plan.targets)}
        if picture := frontier_png(rows):
            files["frontier.png"] = picture
        for name, content in files.items():
            write_file(plan.folder / name, content)
        return text


def _chosen(plan: Plan, model: AetherModel) -> dict[str, list[Contender]]:
    """The contenders of each sampler."""
    if plan.settings is None:
        selection = default_contenders(shape_of(model), list(plan.tasks.values()), plan.targets)
        found = dict.fromkeys(plan.samplers, selection)
    else:
        found = read_settings(plan.settings)
    for sampler in plan.samplers:
        if sampler not in found:
            raise InputError("settings", f"{plan.settings} has none for the {sampler} sampler")
    return {
        sampler: [one for one in unique([*found[sampler], *fewer_steps(plan.targets)]) if plan.wants(one)]
        for sampler in plan.samplers
    }


def _dry_run_text(plan: Plan, model: AetherModel, tasks: Sequence[Task]) -> str:
    shape = shape_of(model)
    costs = {group.task: seconds_of_one(model, group) for group, _ in tasks[: len(plan.tasks)]}

    def speedup(contender: Contender, steps: int) -> float:
        fixed = {"interval", "warmup"} <= set(contender.settings) or contender.method == FEWER_STEPS
        return predicted_speedup(contender, shape, [steps]) if fixed else min(plan.targets)

    # More processes than cores do not make it faster.
    seconds = estimated_seconds(tasks, costs, speedup) / min(plan.workers, os.cpu_count() or 1)
    runs = sum(1 + len(contenders) for _, contenders in tasks)
    groups = f"scenes {len(plan.scenes)} x tasks {len(plan.tasks)} x samplers {len(plan.samplers)}"
    return (
        f"{runs} runs: {len(tasks)} unaccelerated ({groups}), {runs - len(tasks)} accelerated; about "
        f"{duration_text(seconds)} at the speed that the machine has now (workers: {plan.workers})"
    )


def duration_text(seconds: float) -> str:
    """A length of time as people say it, to two figures or so."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def _of(tasks: Sequence[Task], records: Sequence[Record]) -> list[Record]:
    """The records of the tasks, in their order: a file may hold more."""
    found = {record_key(record): record for record in records}
    plain = {"method": PLAIN, "settings": {}}
    return [
        found[record_key({**asdict(group), **one})]
        for group, contenders in tasks
        for one in (plain, *map(asdict, contenders))
    ]


def find_settings(plan: Plan, dry_run: bool) -> str:
    """Search, write settings.json, and return what is in it as text.

    Args:
        dry_run: only say how many settings the time allows.
    """
    loader = loader_of(plan.source)
    model = loader()
    always, more = candidates(shape_of(model), list(plan.tasks.values()), plan.targets)
    always, more = ([one for one in found if plan.wants(one)] for found in (always, more))
    if not always and not more:
        raise InputError("methods", f"{', '.join(plan.methods or [])}: there are no settings to search")
    # A run takes about what a speed in the middle of the targets leaves of it.
    usual = sorted(plan.targets)[len(plan.targets) // 2]
    groups = plan.groups()[: len(plan.tasks)]
    costs = {g.task: g.steps * seconds_of_one(model, g)["forward"] / usual for g in groups}
    budget = Budget(plan.minutes, plan.workers, costs)
    if dry_run:
        room = affordable(budget, rungs(plan.scenes, plan.tasks, costs), len(plan.samplers))
        return (
            f"{len(always) + len(more)} settings can be tried with each sampler, {len(always)} always are; "
            f"{plan.minutes:g} minutes with {plan.workers} workers allow about {room}"
        )
    with _journal(plan.folder / "search.jsonl", model) as journal:
        found = search(
            journal,
            loader,
            always=always,
            more=more,
            tasks=plan.tasks,
            scenes=plan.scenes,
            targets=plan.targets,
            budget=budget,
            samplers=plan.samplers,
            progress=_progress(None),
            say=lambda text: print(text, file=sys.stderr),
        )
    document = {**_header(plan, model), **settings_document(found)}
    write_file(plan.folder / "settings.json", json.dumps(document, indent=1) + "\n")
    lines = [f"{sampler}: {one.label}: {one.title}" for sampler, kept in found.items() for one in kept]
    return "\n".join([*lines, f"written to {plan.folder / 'settings.json'}"])


def _setup(model: AetherModel) -> dict[str, Any]:
    """What all runs of a file have in common; results of two machines, or of two states of the code, cannot
    be put in one table."""
    trained = "trained" if model.trained else "untrained: quality means nothing"
    weights = f"{model.name} ({trained}), sha256 {weights_digest(model.transformer, model.vae)}"
    return {"weights": weights, "machine": machine(), "versions": versions(), "code": code_digest()}


def _header(plan: Plan, model: AetherModel) -> dict[str, str]:
    setup = _setup(model)
    height, width = model.spec.default_size
    scenes = ", ".join(map(str, plan.scenes))
    return {
        "command": f"`python -m evaluation {' '.join(sys.argv[1:])}`",
        "weights": setup["weights"],
        "machine": f"{setup['machine']}, {plan.workers} processes of one thread",
        "versions": ", ".join(f"{name} {version}" for name, version in setup["versions"].items()),
        "clips": f"{model.spec.default_frames} frames of {width} x {height}, scenes {scenes}",
        "steps": ", ".join(f"{task} {steps}" for task, steps in plan.tasks.items()),
    }


def _progress(total: int | None) -> Callable[[Record], None]:
    begin, count = time.monotonic(), 0

    def tell(record: Record) -> None:
        nonlocal count
        count += 1
        which = f"{record['task']}, scene {record['scene']}, {record['sampler']}"
        done = f"{count}" if total is None else f"{count}/{total}"
        what = record["method"] if record["method"] == PLAIN else _described(record)
        print(f"[{done}, {time.monotonic() - begin:.0f} s] {which}: {what}", file=sys.stderr, flush=True)

    return tell


def _described(record: Record) -> str:
    contender = Contender(record["method"], record["settings"])
    if record.get("failed"):
        return f"{contender.label} ({contender.title}) failed: {record['failed']}"
    return f"{contender.label} ({contender.title}) {record['flops_speedup']:.2f}x"


@contextmanager
def _journal(file: Path, model: AetherModel) -> Iterator[Journal]:
    """The runs so far, for this command alone."""
    with locked(file.parent) as note:
        if note:
            print(f"note: out: {note}", file=sys.stderr)
        journal = Journal(file, _setup(model))
        try:
            yield journal
        except KeyboardInterrupt:
            kept = len(journal.records)
            raise KeyboardInterrupt(f"runs kept: {kept}; the same command goes on with the others") from None
