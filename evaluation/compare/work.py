"""Many runs: what is still to do, in how many processes, and how long it will take."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch

from aether.defaults import TASKS
from aether.generation.latents import decode
from aether.model.parts import AetherModel

from ..models import Loader
from .contenders import Contender
from .journal import Journal
from .meter import EVERY
from .runs import PLAIN, Group, run_group, sampled

_TIMED_STEPS = 4

Task = tuple[Group, list[Contender]]
Record = dict[str, Any]


def record_key(record: Record) -> str:
    """Which run a record is of."""
    names = ("scene", "task", "sampler", "steps", "method", "settings")
    return json.dumps([record[name] for name in names], sort_keys=True)


def unfinished(tasks: Sequence[Task], records: Sequence[Record], *, brief: bool = False) -> list[Task]:
    """What of the tasks has no record, the longest first, so that no worker is left with one at the end.

    Args:
        brief: see :func:`~evaluation.compare.runs.run_group`; the unaccelerated run then has no record.
    """
    done = {record_key(record) for record in records}
    left = []
    for group, contenders in tasks:
        missing = [one for one in contenders if record_key({**asdict(group), **asdict(one)}) not in done]
        plain = record_key({**asdict(group), "method": PLAIN, "settings": {}})
        if missing or (not brief and plain not in done):
            left.append((group, missing))
    # A guided step asks for both branches.
    costs = {group: group.steps * (1 + TASKS[group.task].guided) for group, _ in left}
    return sorted(left, key=lambda task: -costs[task[0]] * (1 + len(task[1])))


def work_off(
    tasks: Sequence[Task],
    journal: Journal,
    loader: Loader,
    *,
    workers: int = 1,
    brief: bool = False,
    until: float = float("inf"),
    progress: Callable[[Record], None] = lambda record: None,
) -> None:
    """Make the runs that the journal lacks and write each down as it ends.

    Args:
        workers: processes of one thread each; with 1, this process does the work.
        until: no run is begun after this time of ``time.monotonic``.
        progress: called with every record.
    """
    known = {record_key(record) for record in journal.records}
    records = _records(unfinished(tasks, journal.records, brief=brief), loader, workers, brief, until)
    for record in records:
        if record_key(record) not in known:
            journal.add(record)
            progress(record)


def _records(
    tasks: Sequence[Task], loader: Loader, workers: int, brief: bool, until: float
) -> Iterator[Record]:
    if workers > 1:
        yield from _parallel_records(tasks, loader, min(workers, len(tasks)), brief, until)
    elif tasks:
        model = loader()
        for task in tasks:
            yield from _run(model, task, brief, until)


def _parallel_records(
    tasks: Sequence[Task], loader: Loader, workers: int, brief: bool, until: float
) -> Iterator[Record]:
    context = multiprocessing.get_context("spawn")
    records, waiting = context.Queue(), context.Queue()
    for task in [*tasks, *[None] * workers]:
        waiting.put(task)
    processes = [
        context.Process(target=_worker, args=(loader, waiting, records, brief, until), daemon=True)
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        yield from _received(records, processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _received(records: Any, processes: Sequence[Any]) -> Iterator[Record]:
    """Records from the workers, until each has sent the None that ends its own."""
    left = len(processes)
    while left:
        try:
            found = records.get(timeout=5)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a worker was killed, perhaps for want of memory") from None
            continue
        if found is None:
            left -= 1
        elif isinstance(found, BaseException):
            raise found
        else:
            yield found


def _worker(loader: Loader, waiting: Any, records: Any, brief: bool, until: float) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches all processes; the one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        model = loader()
        while (task := waiting.get()) is not None:
            for record in _run(model, task, brief, until):
                records.put(record)
        records.put(None)
    except Exception as error:  # noqa: BLE001 (raised again where the records are read)
        records.put(error)


def end_with_parent() -> None:
    """From now on this process ends when the one that started it has ended, which may have been killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run(model: AetherModel, task: Task, brief: bool, until: float) -> Iterator[Record]:
    if time.monotonic() >= until:
        return
    for record in run_group(model, *task, brief=brief):
        yield record
        if time.monotonic() >= until:
            return


def seconds_of_one(model: AetherModel, group: Group) -> dict[str, float]:
    """Time a step of a group's unaccelerated run, and decoding: "forward", "decode".

    Both are rehearsed first: the first of a process takes many times as long.
    """
    decode(model, sampled(model, group, 1, []))
    marks = [time.perf_counter()]
    latent = sampled(model, group, _TIMED_STEPS, marks)
    marks.append(time.perf_counter())
    decode(model, latent)
    decoding = time.perf_counter() - marks[-1]
    # The median leaves out what comes before the first step, and a stall of the machine.
    return {"forward": statistics.median(b - a for a, b in pairwise(marks)), "decode": decoding}


def estimated_seconds(
    tasks: Sequence[Task],
    costs: dict[str, dict[str, float]],
    speedup: Callable[[Contender, int], float],
) -> float:
    """Of one process.

    Args:
        costs: :func:`seconds_of_one` by task name.
        speedup: of a contender in a run of so many steps.
    """
    total = 0.0
    for group, contenders in tasks:
        cost = costs[group.task]
        steps = [1.0] + [1 / speedup(contender, group.steps) + 1 / EVERY for contender in contenders]
        total += sum(group.steps * share * cost["forward"] + cost["decode"] for share in steps)
    return total
