"""A server that serves for long: three clients, right and wrong prompts in random order, one process.

AETHER_HERO_SERVER_SOAK is the number of prompts (default, and in CI, 24; nightly 300), and
AETHER_HERO_SERVER_SOAK_SEED what they are drawn with. What fails is told with the seed and the prompt.

The soaked server keeps the nodes of the last prompt (``--cache-classic``), so that one miniature serves all
prompts and yet most of them are sampled anew; by default ComfyUI keeps everything until memory is short, and
nothing could be said of its growth. What a prompt should have given is taken from a fresh server that keeps
nothing between prompts.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .client import Run, Server
from .conftest import ROOT
from .soak import Job, files_of, make_jobs, make_pool, perform, result_of, steps_of

pytestmark = pytest.mark.slow

PROMPTS = int(os.environ.get("AETHER_HERO_SERVER_SOAK", "24"))
SEED = int(os.environ.get("AETHER_HERO_SERVER_SOAK_SEED", "7"))
CLIENTS = 3
SETTLED = min(30, PROMPTS // 2)
"""Prompts until memory must be flat: by then all is imported and every kind of prompt has run."""
WINDOW = SETTLED // 3
TOLERANCE_MIB = 64
"""What the last window's floor may lie above the first's, all memory counted. What the allocator keeps was
seen to move it by 22."""
HELD_TOLERANCE_MIB = 2
"""What the tensors that the server holds may grow by from when memory has settled to the end, both times
after the same prompt. Twelve prompts were seen to add nothing, and with a planted leak of all that each run
caches 24."""
MIB = 2**20
_ALARM = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]|Traceback|Warning: |Exception ignored")
_REFUSAL = ("Failed to validate prompt for output ", "[ERROR] * ", "[ERROR]   - ", "Output will be ignored")
"""What core writes beside "invalid prompt"."""


@dataclass
class Soak:
    """What came of jobs: finished runs by number, memory after each prompt that ran, problems."""

    server: Server
    jobs: list[Job]
    runs: dict[int, Run] = field(default_factory=dict)
    resident: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def serve(self, numbers: range) -> None:
        """Jobs, dealt out to the clients, each of which waits for one prompt before it sends the next."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(self._be_client, [numbers[n::CLIENTS] for n in range(CLIENTS)]))

    def held_after(self, number: int) -> int:
        """Bytes of the tensors that the server holds when it has nothing to do but has done this job."""
        self._be_client(range(number, number + 1))
        return self.server.get("/tensor_bytes")

    def _be_client(self, numbers: range) -> None:
        for number in numbers:
            job, run = self.jobs[number], None
            with self.told(job, number):
                run = perform(self.server, job)
            with self._lock:
                if run is not None:
                    self.runs[number] = run
                if job.kind != "refused":
                    self.resident.append(self.server.resident_bytes())

    @contextmanager
    def told(self, job: Job, number: int) -> Iterator[None]:
        """An error becomes a problem that can be reproduced."""
        try:
            yield
        except Exception as error:
            self.problems.append(
                f"prompt {number} of {PROMPTS}, {job.kind}, seed {SEED}: {type(error).__name__}: {error}\n"
                f"{json.dumps(job.prompt)}"
            )


@contextmanager
def serving(comfyui: Path, folder: Path, *options: str) -> Iterator[Server]:
    probe = folder / "custom_nodes" / "probe.py"
    probe.parent.mkdir(parents=True)
    probe.symlink_to(Path(__file__).with_name("probe.py"))
    server = Server(comfyui, folder, ROOT, *options)
    try:
        yield server.wait()
    finally:
        server.stop()


def test_a_long_served_server_answers_like_a_fresh_one(comfyui, tmp_path, record_property, monkeypatch):
    # glibc then gives the memory of large tensors back when they are freed: what is resident is in use.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    rng = random.Random(SEED)
    pool = make_pool(rng, max(10, PROMPTS // 6))
    jobs = [*make_jobs(rng, PROMPTS, pool), *[Job("run", pool[0], case=0)] * 2]
    with serving(comfyui, tmp_path / "soaked", "--cache-classic") as server:
        begun = len(server.log.read_bytes())
        soak = Soak(server, jobs)
        soak.serve(range(SETTLED))
        held = [soak.held_after(PROMPTS)]
        soak.serve(range(SETTLED, PROMPTS))
        held.append(soak.held_after(PROMPTS + 1))
        assert server.get("/queue") == {"queue_running": [], "queue_pending": []}
        left = unnamed_files(soak)
        surprises = surprises_in(server.log.read_bytes()[begun:].decode(), jobs)
    figures = {
        "seed": SEED,
        "jobs": dict(Counter(job.kind for job in jobs)),
        "finished": len(soak.runs),
        "sampled": sum("sampler" in run.executed for run in soak.runs.values()),
        "settings": len({jobs[number].case for number in soak.runs}),
        "floors_MiB": [round(floor / MIB) for floor in floors(soak.resident)],
        "held_MiB": [round(held_bytes / MIB, 2) for held_bytes in held],
    }
    for name, value in figures.items():
        record_property(name, value)
        print(f"{name}: {value}")

    with serving(comfyui, tmp_path / "fresh", "--cache-none") as server:
        compare(soak, server)

    assert not soak.problems, "\n".join(soak.problems)
    assert not left and not surprises, (SEED, left, surprises)
    assert figures["sampled"] >= figures["finished"] / 2
    assert held[1] - held[0] <= HELD_TOLERANCE_MIB * MIB, (SEED, figures["held_MiB"])
    first, *later = figures["floors_MiB"]
    assert later and later[-1] - first <= TOLERANCE_MIB, (SEED, soak.resident)


def compare(soak: Soak, fresh: Server) -> None:
    """Every finished run with its settings' only run on a fresh server."""
    expected = {}
    for number, run in sorted(soak.runs.items()):
        job = soak.jobs[number]
        with soak.told(job, number):
            if job.case not in expected:
                alone = perform(fresh, job)
                expected[job.case] = result_of(fresh, alone), steps_of(alone)
            results, steps = expected[job.case]
            assert result_of(soak.server, run) == results, "its files differ from those of a fresh server"
            if "sampler" in run.executed:
                assert steps_of(run) == steps, f"steps {steps_of(run)}, of a fresh server {steps}"


def unnamed_files(soak: Soak) -> list[Path]:
    """What lies in output and temp and no finished prompt names, what one names and is not there, and empty
    folders."""
    named = {
        path for run in soak.runs.values() for paths in files_of(soak.server, run).values() for path in paths
    }
    entries = [path for name in ("output", "temp") for path in (soak.server.base / name).rglob("*")]
    files = {path for path in entries if path.is_file()}
    empty = {path for path in entries if path.is_dir() and not any(path.iterdir())}
    return sorted((files ^ named) | empty)


def surprises_in(log: str, jobs: list[Job]) -> list[str]:
    """Lines that warn or tell of an error, beyond what the wrong prompts and the interrupts make core write,
    and those of which there are too few or too many."""
    log = re.sub(r"\x1b\[\d+m", "", log)
    # With those of the errors that it came from.
    chained = r"(?:(?:The above|During) [^\n]*:\n\nTraceback .*?\n\n)*"
    log, tracebacks = re.subn(rf"\[ERROR\] Traceback .*?\n\n{chained}", "", log, flags=re.DOTALL)
    lines = [line for line in log.splitlines() if _ALARM.search(line)]
    kinds = Counter(job.kind for job in jobs)
    wanted = {
        "[WARNING] invalid prompt: ": kinds["refused"],
        "[ERROR] !!! Exception during processing !!! ": kinds["failing"],
        "Processing interrupted": kinds["interrupted"],
    }
    surprises = [line for line in lines if not any(text in line for text in (*wanted, *_REFUSAL))]
    found = {text: log.count(text) for text in wanted} | {"Traceback": tracebacks}
    for text, number in (wanted | {"Traceback": kinds["failing"]}).items():
        if found[text] != number:
            surprises.append(f"{text!r} stands {found[text]} times, not {number}")
    return surprises


def floors(resident: list[int]) -> list[int]:
    """The least memory in each window of prompts, after those in which it settles.

    The least, since what a prompt holds while it is measured comes and goes, and a leak stays.
    """
    settled = resident[SETTLED:]
    return [min(settled[n : n + WINDOW]) for n in range(0, len(settled) - WINDOW + 1, WINDOW)]
