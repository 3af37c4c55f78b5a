"""The command that measures a GPU: its parts, its time, its file and its page."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import speed_parts, work, worker
from benchmarks.gpu.budget import Deadline, PartError, run_parts
from benchmarks.gpu.parts import END_TO_END, GROWTH, OPTIMIZED, PARTS, RATES, REPEATED, Part, memory_part
from benchmarks.gpu.record import Record, load, without_times
from benchmarks.gpu.settings import TOY, Settings
from benchmarks.gpu.tables import page
from benchmarks.gpu.worker import Workers
from benchmarks.sizes import SIZES
from hero_engine import PRESETS
from hero_engine.cost import predict

from .pretend import PretendGPU

ROOT = Path(__file__).parents[1]
HEAD = {
    "device": "NVIDIA H200", "device_bytes": 150_000_000_000, "driver": "580.1", "torch": "2.11.0",
    "cuda": "13.0", "diffusers": "0.42.1", "commit": "abc", "model": "42 blocks",
    "clip": (41, 480, 720), "settings": {},
}  # fmt: skip
FIRST, SECOND, THIRD = (Part(name, least=10, limit=100) for name in ("first", "second", "third"))


class Clock:
    """A time that passes only where it is made to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Bench:
    """Measures parts that take so many seconds, or raise; knows what it was asked for."""

    def __init__(self, clock, **parts):
        self.clock, self.parts, self.asked = clock, parts, []

    def measure(self, name, seconds):
        self.asked.append((name, seconds))
        for number, taken in enumerate(self.parts.get(name, [30]), 1):
            if isinstance(taken, BaseException):
                raise taken
            self.clock.now += taken
            yield {"figures": number, "step_seconds": taken}


def measure(path, bench, parts=(FIRST, SECOND, THIRD), seconds=600, said=None, **options):
    record = Record(path / "gpu.json", HEAD, **options)
    run_parts(
        parts,
        record,
        bench.measure,
        Deadline(seconds, bench.clock),
        [].append if said is None else said.append,
    )
    return record


def parts_of(path):
    return json.loads((path / "gpu.json").read_text())["parts"]


def test_what_each_part_has_found_last_is_in_the_file(tmp_path):
    record = measure(tmp_path, Bench(Clock(), second=[5, 7]))
    assert parts_of(tmp_path) == {
        "first": {"state": "done", "seconds": 30, "found": {"figures": 1, "step_seconds": 30}},
        "second": {"state": "done", "seconds": 12, "found": {"figures": 2, "step_seconds": 7}},
        "third": {"state": "done", "seconds": 30, "found": {"figures": 1, "step_seconds": 30}},
    }
    assert record.all_done(["first", "second", "third"]) and not record.all_done(["first", "fourth"])


def test_each_part_has_its_own_limit_and_no_more_than_is_left(tmp_path):
    bench = Bench(Clock(), first=[90], second=[55])
    record = measure(tmp_path, bench, seconds=150)
    assert bench.asked == [("first", 100), ("second", 60)]
    assert record.outcome("third") == "skipped; it needs 10 s, and 5 s were left"
    assert parts_of(tmp_path)["third"] == {
        "state": "skipped",
        "error": "it needs 10 s, and 5 s were left",
    }


def test_a_deadline_that_is_over_leaves_nothing():
    clock = Clock()
    deadline = Deadline(5, clock)
    clock.now += 4
    assert deadline.left() == 1
    clock.now += 4
    assert deadline.left() == 0


def test_a_part_that_fails_does_not_end_the_others(tmp_path):
    said = []
    bench = Bench(Clock(), first=[PartError("out of memory")], second=[5, PartError("stopped")])
    record = measure(tmp_path, bench, said=said)
    parts = parts_of(tmp_path)
    assert parts["first"] == {"state": "failed", "error": "out of memory"}
    assert parts["second"]["state"] == "unfinished" and parts["second"]["found"]["figures"] == 1
    assert parts["third"]["state"] == "done" and not record.all_done(["second"])
    assert said[1] == "first: failed; out of memory" and said[3] == "second: unfinished; stopped"


def test_an_interrupt_loses_nothing_and_a_second_call_goes_on(tmp_path):
    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, Bench(clock, second=[5, KeyboardInterrupt()]))
    parts = parts_of(tmp_path)
    assert parts["first"]["state"] == "done" and "third" not in parts
    assert parts["second"] == {
        "state": "unfinished",
        "error": "interrupted",
        "seconds": 5,
        "found": {"figures": 1, "step_seconds": 5},
    }
    again = Bench(clock)
    record = measure(tmp_path, again)
    assert [name for name, _ in again.asked] == ["second", "third"]
    assert record.all_done(["first", "second", "third"]) and "error" not in parts_of(tmp_path)["second"]


def test_what_an_earlier_try_has_found_stays_where_there_is_no_time(tmp_path):
    clock = Clock()
    measure(tmp_path, Bench(clock, first=[5, PartError("stopped")]), parts=[FIRST])
    record = measure(tmp_path, Bench(clock), seconds=1)
    assert record.outcome("first") == "unfinished; stopped"
    assert parts_of(tmp_path)["first"]["found"]["figures"] == 1
    assert parts_of(tmp_path)["second"]["state"] == "skipped"


def test_figures_of_another_machine_are_not_mixed(tmp_path):
    measure(tmp_path, Bench(Clock()))
    assert Record(tmp_path / "gpu.json", HEAD).is_done("first")
    assert not Record(tmp_path / "gpu.json", HEAD, anew=True).document["parts"]
    other = Record(tmp_path / "gpu.json", {**HEAD, "device": "NVIDIA H100", "commit": "def"})
    assert other.changes == ["commit", "device"] and not other.is_done("first")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2, "parts": {}}', '{"format": 1, "parts": 3}'])
def test_a_file_that_is_something_else_is_named(tmp_path, text):
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(SystemExit, match=r"^error: .*gpu\.json is not a file of measurements .*--anew$"):
        Record(tmp_path / "gpu.json", HEAD)


def test_times_of_a_cpu_are_left_out(tmp_path):
    measure(tmp_path, Bench(Clock()), ratios_only=True)
    assert parts_of(tmp_path)["first"] == {"state": "done", "found": {"figures": 1}}
    tree = {"a": [{"run_seconds": 1, "rate_per_second": 2, "share": 3}], "seconds": 4, "seconds_share": 5}
    assert without_times(tree) == {"a": [{"share": 3}], "seconds_share": 5}


def test_more_minutes_are_for_slower_gpus():
    assert Part("a", 10, 100).scaled(3) == Part("a", 10, 300)


def test_every_part_has_its_work():
    assert [part.name for part in PARTS] == list(dict.fromkeys(part.name for part in PARTS))
    assert {part.name for part in PARTS} == work.WORK.keys()
    assert all(part.least < part.limit for part in PARTS)


def test_as_many_steps_as_fit():
    size, named = SIZES["aether"], [speed_parts.contenders({})[name] for name in ("untouched", "HERO fast")]
    # Untouched: 2 rehearsed and 20. Fast: rehearsed up to the full step after the first cached ones.
    strip = predict(PRESETS["fast"], size.shape, 20).strip
    rehearsed = sum(strip[: strip.index(False) + strip[strip.index(False) :].index(True) + 1])
    needed = 1.15 * (
        22
        + rehearsed
        + predict(PRESETS["fast"], size.shape, 20).flops / speed_parts.full_step_flops(size.shape)
    )
    assert speed_parts.fitting((50, 20, 12), needed + 0.01, 1.0, named, size) == 20
    assert speed_parts.fitting((50, 20, 12), needed - 0.01, 1.0, named, size) == 12
    assert speed_parts.fitting((50, 20, 12), 1000, 1.0, named, size) == 50
    assert speed_parts.fitting((50, 20, 12), 0, 1.0, named, size) == 12


class Pipe:
    """Passes messages on to a process, and keeps its answers."""

    def __init__(self, *messages):
        self.messages, self.sent = list(messages), []

    def recv(self):
        if not self.messages:
            raise EOFError
        return self.messages.pop(0)

    def send(self, message):
        self.sent.append(message)


@pytest.fixture
def served(monkeypatch):
    """Answers of the process to messages."""
    import torch

    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def serve(*messages, settings=TOY):
        pipe = Pipe(*messages)
        worker._serve(pipe, settings)
        return pipe.sent

    return serve


def test_the_process_says_what_it_finds(served, monkeypatch):
    monkeypatch.setitem(work.WORK, RATES, lambda settings, seconds: iter([{"a": seconds}, {"a": 2}]))
    [(kind, machine), *answers] = served((RATES, 60.0))
    assert kind == "machine" and machine["model"] == str(SIZES["tiny"]) and machine["clip"] == (17, 64, 96)
    assert answers == [("found", {"a": 60.0}), ("found", {"a": 2}), ("done", 0)]


@pytest.mark.parametrize(
    "error, sentence",
    [
        (ValueError("bad\nsecond line"), "ValueError: bad"),
        (KeyError(), "KeyError"),
        (
            RuntimeError("CUDA out of memory. Tried"),
            "out of memory (RuntimeError: CUDA out of memory. Tried)",
        ),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("x" * 1000), f"RuntimeError: {'x' * 286} ..."),
    ],
)
def test_the_process_says_why_a_part_fails_and_ends(served, monkeypatch, error, sentence):
    def fail(settings, seconds):
        yield {"a": 1}
        raise error

    monkeypatch.setitem(work.WORK, RATES, fail)
    assert served((RATES, 60.0), (RATES, 60.0))[1:] == [("found", {"a": 1}), ("error", sentence)]


def test_without_a_gpu_the_command_says_so(served, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    [answer] = served(settings=Settings())
    assert answer == ("error", "there is no GPU here that torch can use; --toy tries the command on a CPU")


class Started:
    """In place of a process: answers from a list, one list for each that is started."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.killed = list(answers), 0
        monkeypatch.setattr(multiprocessing, "get_context", lambda kind: self)

    def Pipe(self):
        answers = [("machine", {"device": "GPU"}), *self.answers.pop(0)]

        def recv():
            if not answers:
                raise EOFError
            return answers.pop(0)

        def poll(seconds):
            return not answers or answers[0] != "nothing"

        ours = SimpleNamespace(recv=recv, poll=poll, send=lambda message: None, close=lambda: None)
        return ours, SimpleNamespace(close=lambda: None)

    def Process(self, target, args):
        def kill():
            self.killed += 1

        return SimpleNamespace(start=lambda: None, join=lambda *_: None, kill=kill, exitcode=-9)


def results(workers, name="a"):
    """What measuring yields, then the error's text if there is one."""
    found = []
    try:
        for one in workers.measure(name, 60):
            found.append(one)
    except PartError as error:
        found.append(str(error))
    return found


def test_a_process_measures_several_parts(monkeypatch):
    started = Started(monkeypatch, [("found", 1), ("done", 0), ("found", 2), ("done", 2**20)])
    with Workers(TOY) as workers:
        assert workers.machine(60) == {"device": "GPU"}
        assert [results(workers), results(workers)] == [[1], [2]] and started.killed == 0
    assert started.killed == 1


@pytest.mark.parametrize(
    "answers, found",
    [
        ([("found", 1), ("error", "out of memory")], [1, "out of memory"]),
        ([("found", 1), "nothing"], [1, "stopped: its time was over"]),
        ([("found", 1)], [1, "its process ended (exit code -9)"]),
        ([("found", 1), ("done", 2**30)], [1]),  # it leaves a GiB behind
    ],
)
def test_a_process_that_a_part_has_broken_is_replaced(monkeypatch, answers, found):
    started = Started(monkeypatch, answers, [("found", 2), ("done", 0)])
    with Workers(TOY) as workers:
        assert results(workers) == found and started.killed == 1
        assert results(workers) == [2]


def test_an_interrupt_ends_the_process(monkeypatch):
    started = Started(monkeypatch, [("found", 1), ("found", 2), ("done", 0)])
    workers = Workers(TOY)
    measuring = workers.measure("a", 60)
    assert next(measuring) == 1
    measuring.close()
    assert started.killed == 1


@pytest.mark.slow
def test_memory_on_a_gpu_is_what_is_counted():
    found = {}
    for way in ("bfloat16", "float8"):
        with PretendGPU():
            *_, found[way] = work.WORK[memory_part(way)](Settings(size="tiny"), 60)
        assert 0.5 < found[way]["measured_over_counted"] < 1.05
    saved = {
        key: found["bfloat16"][key] - found["float8"][key]
        for key in found["float8"]
        if key.endswith("_bytes")
    }
    # What float8 saves of the weights, to the byte, in the count, before decoding and in all.
    assert len(set(saved.values())) == 1 and saved["counted_bytes"] > 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", [END_TO_END, OPTIMIZED, REPEATED, GROWTH])
def test_parts_run_on_a_gpu(monkeypatch, name):
    """Nothing lies on the wrong device, and nothing stays there."""
    monkeypatch.setattr(speed_parts, "matrix_rate", lambda *_: 1e12)
    settings = Settings(size="tiny", steps=(8,), frames=(5, 3), runs=(1, 2))
    with PretendGPU() as gpu:
        *_, found = work.WORK[name](settings, 600)
    assert gpu.taken == 0
    if name == REPEATED:
        first, second = found["rows"]
        assert (
            found["finite"]
            and first["bytes"] == second["bytes"] < first["peak_bytes"] == second["peak_bytes"]
        )
    if name == GROWTH:
        assert [row["latent_frames"] for row in found["rows"]] == [5, 5, 3, 3]


@pytest.mark.slow
def test_end_to_end_on_a_cpu(tmp_path):
    def run(*options):
        return subprocess.run(
            ["bash", ROOT / "scripts" / "gpu.sh", "--toy", "--minutes", "60", "--out", tmp_path, *options],
            env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True,
        )  # fmt: skip

    assert run("--only", RATES).returncode == 0 and list(parts_of(tmp_path)) == [RATES]
    whole = run()
    assert whole.returncode == 0, whole.stderr
    assert "rates: measured before" in whole.stdout
    document = load(tmp_path / "gpu.json")
    assert [document["parts"][part.name]["state"] for part in PARTS] == ["done"] * len(PARTS)
    assert document == without_times(document) and document["device"].endswith("CPU")
    text = (tmp_path / "gpu.md").read_text()
    assert text == page(document) and whole.stdout.endswith(f"\n{text}\n") and " s |" not in text
    check_figures({name: part["found"] for name, part in document["parts"].items()})


def check_figures(found):
    """Those that are the same on any machine."""
    steps, size = TOY.steps[0], SIZES[TOY.size]
    methods = found[END_TO_END]["methods"]
    assert list(methods) == ["untouched", *(f"HERO {name}" for name in PRESETS)]
    for name, config in PRESETS.items():
        own, counted = methods[f"HERO {name}"], predict(config, size.shape, steps, 1, 4)
        assert own["full_steps"] == counted.full_steps and own["cached_bytes"] <= counted.cached_bytes
        assert own["speedup"] > 0 and own["cached_over_full"] > 0 and own["memory_failures"] == 0
    assert 0 < found[RATES]["attention"]["sdpa"]["matrix_share"]
    assert "CUDA" in found[RATES]["attention"]["flash"]["error"]
    for way in ("bfloat16", "float8", "offload", "float8, offload"):
        assert 0.5 < found[memory_part(way)]["measured_over_counted"] < 1.1
    runs = found[REPEATED]["rows"]
    assert [row["after_run"] for row in runs] == [1, 2] and runs[0]["bytes"] == runs[1]["bytes"]


def on_a_gpu():
    """A document of a GPU: one part unfinished, one failed, one skipped, the others not measured."""
    methods = {
        "untouched": {
            "full_step_seconds": 1.2344, "cached_step_seconds": None, "cached_over_full": None,
            "cached_over_full_by_flops": None, "full_over_untouched": 1.0, "matrix_share": 0.6,
        },
        "HERO paper": {
            "full_step_seconds": 1.2, "cached_step_seconds": 0.06, "cached_over_full": 0.05,
            "cached_over_full_by_flops": 0.0514, "full_over_untouched": 1.01, "matrix_share": 0.59,
        },
    }  # fmt: skip
    whole = {
        "full_steps": 27, "run_seconds": 35.0, "speedup": 2.0, "speedup_by_medians": 1.7, "bound": 1.77,
        "believed": False, "cached_bytes": 550_000_000, "cached_bytes_counted": 550_000_000,
        "memory_failures": 2,
    }  # fmt: skip
    race = {"steps": 50, "steps_taken": 7, "rehearsal_seconds": 12.0, "methods": methods}
    done = {"steps": 8, "steps_taken": 8, "methods": {"HERO paper": {**methods["HERO paper"], **whole}}}
    parts = {
        RATES: {"state": "failed", "error": "out of memory"},
        END_TO_END: {"state": "unfinished", "error": "stopped", "found": race},
        OPTIMIZED: {"state": "done", "found": done},
        GROWTH: {"state": "skipped", "error": "it needs 25 s"},
    }
    return {"format": 1, **HEAD, "parts": parts}


def test_the_page_shows_times_of_a_gpu_and_what_is_missing():
    text = page(on_a_gpu())
    sections = {section.split("\n")[0]: section for section in text.split("\n## ")}
    assert "| its memory | 150.00 GB |" in sections["# Measured on a GPU"]
    assert "41 frames of 720 x 480" in sections["# Measured on a GPU"]
    assert "rates: failed (out of memory)." in sections["Rates"]
    race = sections["Runs end to end"]
    assert "end to end: unfinished (stopped)." in race and "Only the first 7 of 50 steps were taken." in race
    assert "| untouched | 1.234 s | 1.000 | 60.0% |  |  |  |" in race
    assert "| HERO paper | 1.200 s | 1.010 | 59.0% | 0.0600 s | 0.0500 | 0.0514 |" in race
    assert "Rehearsal, compiling included: 12.0 s." in race and "speed-up" not in race
    whole = sections["Cheaper full steps: attention"]
    assert "| HERO paper | 27 (out of memory in 2) |" in whole
    assert "| 35.0 s | 2.00x (above its bound) | 1.70x | 1.77x | 0.55 GB | 0.55 GB |" in whole
    assert "growth: skipped (it needs 25 s)." in sections["Growth with the clip"]
    assert "memory: offload: not measured yet." in sections["Memory"]


def test_tables_are_written_without_measuring(tmp_path, capsys):
    (tmp_path / "gpu.json").write_text(json.dumps(on_a_gpu()))
    assert command.main(["--tables", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "gpu.md").read_text() == page(on_a_gpu())
    assert page(on_a_gpu()) in capsys.readouterr().out


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "speed"])
    assert "--only: 'speed' is not one of 'rates', 'end to end'" in capsys.readouterr().err
