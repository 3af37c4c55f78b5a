"""`python -m evaluation compare` on a tiny model, and its reckoning on made-up numbers."""

import csv
import io
import json
import math
import multiprocessing
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aether.errors import InputError
from aether.locks import locked
from evaluation import cli
from evaluation.compare import comparison, contenders, runs, search, summary, work
from evaluation.compare.contenders import Contender
from evaluation.compare.journal import Journal
from evaluation.compare.meter import Meter, counted, held_bytes, shared_copy
from evaluation.compare.packages import PACKAGES, Occasion
from evaluation.compare.report import best_csv, csv_text, frontier_png, markdown, undominated
from hero_engine.cost import AETHER
from tests.aether import tiny

pytest.importorskip("evo")
pytest.importorskip("skimage")

ROOT = Path(__file__).parents[2]
FORA = Contender("fora", {"interval": 2, "warmup": "25%"})
GROUP = runs.Group(scene=1, task="planning", sampler="reference", steps=6)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture
def on_tiny(monkeypatch):
    monkeypatch.setattr(comparison, "loader_of", lambda source: tiny.model)


def one_of(package: str) -> Contender:
    known = PACKAGES[package]
    return Contender(
        package, {**known.fixed, "interval": 2, "warmup": "25%"} if known.fixed else known.ladder[-1]
    )


@pytest.mark.parametrize("sampler", contenders.SAMPLERS)
@pytest.mark.slow
def test_a_run_is_measured(model, sampler):
    group = replace(GROUP, task="reconstruction", sampler=sampler)
    everything = Contender("hero", {"interval": 1})
    plain, fora, full = runs.run_group(model, group, [FORA, everything])
    assert plain["method"] == runs.PLAIN and "latent" not in plain
    assert plain["depth"]["abs_rel"] > 0 and plain["pose"]["rpe_rot"] > 0
    # Warm-up of 2 of 6 steps, then every other: 4 full.
    assert 1.3 < fora["flops_speedup"] < 1.35
    assert fora["bytes"] > 0 and fora["wall_speedup"] > 0 and fora["seconds"] > 0
    assert all(0 < error < 1 for error in fora["latent"].values())
    assert 10 < fora["fidelity"]["rgb_psnr"] < 100 and 0 < fora["fidelity"]["disparity_ssim"] <= 1
    # With every step full nothing may differ, noise included.
    assert full["latent"] == dict.fromkeys(runs.STREAMS, 0.0) and full["fidelity"]["rgb_psnr"] == math.inf
    assert full["depth"] == plain["depth"]
    json.dumps([plain, fora, full])


def fewer(speed):
    return Contender(contenders.FEWER_STEPS, {"speed": speed})


@pytest.mark.parametrize(
    "full, speed, steps",
    # Rounded up, 18 of 30 steps would be 1.67x, which the comparison would not count as 1.75x.
    [(50, 2.0, 25), (50, 1.5, 34), (50, 2.5, 20), (50, 1.75, 29), (30, 1.75, 17), (4, 1.0, 4), (2, 9.0, 1)],
)
def test_fewer_steps_are_as_many_as_give_the_speed(full, speed, steps):
    assert fewer(speed).steps(full) == steps
    assert FORA.steps(full) == full
    assert contenders.predicted_speedup(fewer(speed), AETHER, [full]) == pytest.approx(full / steps)


@pytest.mark.parametrize("sampler", contenders.SAMPLERS)
def test_fewer_steps_begin_with_the_same_noise(model, sampler, monkeypatch):
    latents = []

    class Watched(Meter):
        def __call__(self, **inputs):
            latents.append((self, inputs["hidden_states"].clone(), float(inputs["timestep"][0])))
            return super().__call__(**inputs)

    monkeypatch.setattr(runs, "Meter", Watched)
    # With the reference sampler the guidance of 7 steps is 1 in none, of 14 in one: by FLOPs it is 1.93x.
    group = replace(GROUP, sampler=sampler, steps=14)
    plain, found, same = runs.run_group(model, group, [fewer(2.0), fewer(1.0)])
    calls = {id(meter): [call for call in latents if call[0] is meter] for meter, _, _ in latents}
    full, half, again = calls.values()
    assert [len(full), len(half), len(again)] == [14, 7, 14]
    assert torch.equal(full[0][1], half[0][1]) and full[0][2] == half[0][2]
    assert not torch.equal(full[1][1], half[1][1])
    assert found["flops_speedup"] == 2.0 and found["bytes"] == 0 and found["steps"] == 14
    assert all(0 < error < 2 for error in found["latent"].values())
    assert 5 < found["fidelity"]["rgb_psnr"] < 100 and found["pose"]["rpe_rot"] > 0
    # With as many steps nothing may differ, the noise of each step included.
    assert same["latent"] == dict.fromkeys(runs.STREAMS, 0.0)
    assert same["pose"] == plain["pose"]


def test_fewer_steps_by_the_clock_are_of_the_whole_run(model, monkeypatch):
    monkeypatch.setattr(Meter, "plain_seconds", 3.0)
    (_, found) = runs.run_group(model, replace(GROUP, steps=8), [fewer(2.0)])
    assert found["wall_speedup"] == pytest.approx(2 * 3.0 / found["seconds"])


def test_a_run_of_one_step_has_no_time_to_compare_with(model):
    (_, found) = runs.run_group(model, replace(GROUP, steps=2), [fewer(2.0)])
    assert found["flops_speedup"] == 2.0 and math.isnan(found["wall_speedup"])
    assert "failed" not in found
    (line,) = csv.DictReader(io.StringIO(csv_text(summary.rows_of([found]))))
    assert line["clock_noise"] == "False" and float(line["flops_speedup"]) == 2
    assert "wall_speedup" not in line


@pytest.mark.parametrize("settings", [{}, {"speed": 0.5}, {"speed": "2"}, {"speed": 2, "tau": 1}])
def test_fewer_steps_have_a_speed_and_nothing_else(settings):
    with pytest.raises(InputError, match="^settings: those of fewer-steps must be a speed"):
        Contender(contenders.FEWER_STEPS, settings)


def test_the_samplers_differ(model):
    stochastic, deterministic = (runs.with_sampler(model, name).scheduler for name in contenders.SAMPLERS)
    assert type(stochastic).__name__ == "CogVideoXDPMScheduler"
    assert type(deterministic).__name__ == "CogVideoXDDIMScheduler"
    assert deterministic.config.snr_shift_scale == model.scheduler.config.snr_shift_scale


@pytest.mark.parametrize("task", ["reconstruction", "planning"])
@pytest.mark.parametrize("package", PACKAGES)
def test_other_packages_run_and_leave_no_trace(model, package, task):
    if package.startswith("cache-dit"):
        pytest.importorskip("cache_dit")
    before = set(vars(model.transformer))
    group = replace(GROUP, task=task)
    (record,) = runs.run_group(model, group, [one_of(package)], brief=True)
    assert record.get("failed") is None
    # First-block cache may find nothing to skip in a model of random weights.
    assert (
        record["flops_speedup"] >= 0.99
        if package == "diffusers-first-block"
        else record["flops_speedup"] > 1.05
    )
    assert set(vars(model.transformer)) == before


def test_a_missing_package_is_a_row_that_says_so(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cache_dit", None)
    (record,) = runs.run_group(model, GROUP, [one_of("cache-dit")], brief=True)
    assert "pip install" in record["failed"]
    (row,) = summary.rows_of([record])
    assert not row.counts and "sampler: ImportError" in markdown([row], {}, [1.5])


def test_counted_flops_are_the_engines(model):
    with counted(model.transformer) as plain:
        runs.sampled(model, GROUP, 6, [])
    copy_ = shared_copy(model.transformer)
    for module, original in zip(copy_.parameters(), model.transformer.parameters(), strict=True):
        assert module is original
    # `sampled` makes its own copy, whose layers keep the watchers of the original.
    assert plain.flops > 0
    generator = torch.Generator().manual_seed(1)
    world = runs._world(model, 1)
    conditions = runs.world_conditions(model, GROUP.task, world, generator)
    fast = shared_copy(model.transformer)
    occasion = Occasion(6, True, lambda: 0.0)
    with counted(fast) as counter, FORA.session(fast, occasion) as run:
        runs._sample(model, Meter(fast), conditions, GROUP, generator.get_state())
    assert plain.flops / counter.flops == pytest.approx(run.report.predicted_speedup, rel=0.01)


def test_held_bytes_are_those_of_hooks(model):
    fast = shared_copy(model.transformer)
    assert held_bytes(fast) == 0
    fast.transformer_blocks[0].kept = {"a": [torch.zeros(10), torch.zeros(4)]}
    fast.transformer_blocks[1].view = fast.transformer_blocks[0].kept["a"][0][:2]
    assert held_bytes(fast) == 56


def broken(kind):
    @contextmanager
    def session(transformer, settings, occasion):
        if kind == "raises":
            raise ZeroDivisionError("on purpose")
        handle = transformer.proj_out.register_forward_hook(lambda module, inputs, output: output * math.nan)
        yield
        handle.remove()

    return replace(PACKAGES["cache-dit"], label=f"broken {kind}", session=session)


@pytest.mark.parametrize("kind, reason", [("raises", "on purpose"), ("nan", "NaN or infinite")])
def test_what_fails_is_a_row_that_says_why(model, monkeypatch, kind, reason):
    monkeypatch.setitem(PACKAGES, "broken", broken(kind))
    records = list(runs.run_group(model, GROUP, [Contender("broken"), FORA], brief=True))
    assert reason in records[0]["failed"] and "latent" not in records[0]
    assert "failed" not in records[1]
    row = summary.rows_of(records)[0]
    assert math.isnan(row.error) and not row.counts
    text = markdown(summary.rows_of(records), {}, [1.25])
    assert reason in text and "not compared, since no setting of theirs ran: broken" in text


def test_an_unaccelerated_run_of_nan_is_an_error(model):
    spoilt = replace(model, prompt_embeds=model.prompt_embeds * math.nan)
    with pytest.raises(InputError, match="^model: .*planning"):
        next(runs.run_group(spoilt, GROUP, []))


def test_journal_drops_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "runs.jsonl"
    journal = Journal(path, {"weights": "a"})
    for number in range(3):
        journal.add({"number": number, "psnr": math.inf})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    again = Journal(path, {"weights": "a"})
    assert [record["number"] for record in again.records] == [0, 1]
    again.add({"number": 2, "psnr": math.inf})
    assert path.read_bytes() == whole
    with pytest.raises(InputError, match="^out: .*weights differ"):
        Journal(path, {"weights": "b"})
    path.write_bytes(whole.replace(b'"number": 0', b'"number"', 1))
    with pytest.raises(InputError, match="^out: .*line 2"):
        Journal(path, {"weights": "a"})


def test_work_goes_on_where_it_stopped(tmp_path):
    tasks = [(replace(GROUP, steps=4), [FORA, Contender("hero", {"warmup": 2})])]
    path = tmp_path / "runs.jsonl"
    work.work_off(tasks, Journal(path, {}), tiny.model, brief=True)
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    path.write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])
    told = []
    journal = Journal(path, {})
    work.work_off(tasks, journal, tiny.model, brief=True, progress=told.append)
    assert [record["method"] for record in told] == ["hero"]
    assert path.read_text().splitlines()[2] == lines[2]
    assert work.unfinished(tasks, journal.records, brief=True) == []
    assert work.unfinished(tasks, journal.records) == [(tasks[0][0], [])]


@pytest.mark.slow
def test_workers_give_what_one_process_gives(tmp_path, monkeypatch):
    # Spawned workers search the same folders; once ComfyUI is imported, its own package `tests` comes first.
    monkeypatch.syspath_prepend(str(ROOT))
    tasks = [(replace(GROUP, steps=3, scene=scene), [FORA]) for scene in (1, 2)]
    found = []
    for workers in (1, 2):
        journal = Journal(tmp_path / f"{workers}.jsonl", {})
        work.work_off(tasks, journal, tiny.model, workers=workers, brief=True)
        found.append(sorted(journal.records, key=work.record_key))
    assert found[0] == found[1] and len(found[0]) == 2


def wait_as_worker(pipe):
    work.end_with_parent()
    pipe.send("working")
    time.sleep(300)


def start_worker_and_wait(pipe):
    multiprocessing.get_context("spawn").Process(target=wait_as_worker, args=(pipe,), daemon=True).start()
    time.sleep(300)


@pytest.mark.slow
def test_workers_end_with_a_process_that_is_killed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))  # as above
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=start_worker_and_wait, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv() == "working"
    process.terminate()
    # The pipe's other end is closed when the last process that holds it has ended.
    assert ours.poll(60)
    with pytest.raises(EOFError):
        ours.recv()


def row(method, settings, speed, error, sampler="reference"):
    return summary.Row(
        sampler,
        Contender(method, settings),
        1,
        flops_speedup=speed,
        wall_speedup=speed,
        error=error,
        by_task={"planning": error},
        by_stream=dict.fromkeys(runs.STREAMS, error),
    )


MADE_UP = [
    row("hero", {"tau": "50%"}, 1.8, 0.030),
    row("hero", {"tau": "25%"}, 2.1, 0.050),
    row("fora", {}, 1.76, 0.031),
    row("taylorseer", {"order": 2}, 2.05, 0.040),
    row("taylorseer", {"order": 1}, 1.6, 0.020),
]


def test_yes_and_no():
    slow, fast = summary.verdicts(MADE_UP, [1.75, 2.0])
    assert slow.holds and slow.hero.error == 0.030
    assert [other.label for other in slow.others] == ["FORA", "TaylorSeer 2"]
    assert slow.line().startswith("yes: 1.75x, reference sampler: HERO 0.0300; next FORA 0.0310")
    assert slow.slow == ("TaylorSeer 1",)
    assert not fast.holds
    assert fast.line().startswith("no: 2x") and "HERO 0.0500; lower: TaylorSeer 2 0.0400." in fast.line()
    text = summary.claim([slow, fast])
    assert "or an equal one: no (1 of 2)" in text
    assert "or an equal one: yes (1 of 1)" in summary.claim([slow])
    # An equal error counts; a faster setting counts for a slower target.
    (tie,) = summary.verdicts([row("hero", {}, 3.0, 0.04), row("fora", {}, 2.0, 0.04)], [1.5])
    assert tie.holds
    (none,) = summary.verdicts([row("hero", {}, 1.4, 0.01), row("fora", {}, 2.0, 0.04)], [1.5])
    assert not none.holds and none.line().startswith("no: 1.5x") and "no setting of HERO" in none.line()
    without_hero = [row("fora", {}, 1.76, 0.031)]
    (absent,) = summary.verdicts(without_hero, [1.5])
    assert "took no part" in absent.line() and "took no part" in summary.claim([absent])
    (broken,) = summary.verdicts([replace(row("hero", {}, 2.0, 0.1), failed="why"), *without_hero], [1.5])
    assert "no setting of HERO ran" in broken.line()


def test_averages_weigh_tasks_alike():
    def record(task, speed, error, scene=0):
        group = runs.Group(scene, task, "reference", 4)
        latent = {"rgb": error, "disparity": 2 * error, "raymap": 3 * error}
        return {**runs._identity(group, FORA), "flops_speedup": speed, "latent": latent}

    (found,) = summary.rows_of([record("planning", 2.0, 0.1), record("reconstruction", 1.0, 0.3)])
    assert found.flops_speedup == pytest.approx(4 / 3)
    assert found.error == pytest.approx(0.4) and found.by_stream["raymap"] == pytest.approx(0.6)
    assert found.by_task == pytest.approx({"planning": 0.2, "reconstruction": 0.6})
    assert math.isnan(found.wall_speedup)
    assert summary.rows_of([record("planning", 2.0, 0.1)], runs=2) == []


def test_the_page_shows_the_lowest_error_of_each_method():
    failed = summary.Row("reference", Contender("duca"), 1, failed="RuntimeError: a | b")
    text = markdown([*MADE_UP, failed], {"machine": "a desk"}, [1.75, 2.0])
    assert "- machine: a desk" in text and "- DuCa, reference sampler: RuntimeError: a / b" in text
    assert "- no: 2x, reference sampler" in text
    table = """\
| lowest error at | 1.75x | 2x |
|---|---|---|
| HERO | 0.0300 | 0.0500 |
| FORA | 0.0310 | - |
| TaylorSeer 2 | 0.0400 | 0.0400 |
| TaylorSeer 1 | - | - |
| DuCa | - | - |
"""
    assert f"### reference sampler\n\n{table}\n### Failed" in text
    assert (
        best_csv([*MADE_UP, failed], [1.75, 2.0])
        == """\
sampler,at_least,method,settings,flops_speedup,error
reference,1.75,HERO,tau 50%,1.8,0.03
reference,1.75,FORA,defaults,1.76,0.031
reference,1.75,TaylorSeer 2,order 2,2.05,0.04
reference,2.0,TaylorSeer 2,order 2,2.05,0.04
reference,2.0,HERO,tau 25%,2.1,0.05
"""
    )
    lines = csv_text([*MADE_UP, failed]).splitlines()
    assert len(lines) == 7 and lines[0].startswith("sampler,method,settings,runs,failed,flops_speedup")
    assert "RuntimeError: a | b" in lines[6]


def test_the_picture_shows_what_has_an_error():
    failed = summary.Row("reference", Contender("duca"), 1, failed="RuntimeError: a | b")
    picture = frontier_png([*MADE_UP, failed])
    assert picture[:4] == b"\x89PNG"
    assert frontier_png([*MADE_UP, row("fora", {"interval": 1}, 1.0, 0.0)]) == picture
    noisy = replace(row("fora", {}, 2.0, 0.02), wall_speedup=2.3)
    lines = list(csv.DictReader(io.StringIO(csv_text([row("hero", {}, 2.0, 0.01), noisy]))))
    assert [line["clock_noise"] for line in lines] == ["False", "True"]
    assert undominated([(1, 0.1), (2, 0.05), (3, 0.3), (2.5, 0.4)]) == [(2, 0.05), (3, 0.3)]


@pytest.mark.slow
def test_default_settings_reach_their_targets(model):
    assert contenders.shape_of(model).grid == (5, 2, 3)
    shape, steps = AETHER, [30, 50]
    found = contenders.default_contenders(shape, steps)
    assert {one.method for one in found} == {*contenders.METHODS, *PACKAGES}
    assert {"TaylorSeer 1", "TaylorSeer 2"} <= {one.label for one in found}
    for target in contenders.TARGETS:
        for label in ("HERO", "FORA", "TaylorSeer 1", "WorldCache"):
            speeds = [
                contenders.predicted_speedup(one, shape, steps)
                for one in found
                if one.label == label and {"interval", "warmup"} <= set(one.settings)
            ]
            assert any(target * 0.98 <= speed < target * 1.15 for speed in speeds), (label, target)


def test_methods_that_reach_no_target_take_part_with_their_fastest_schedule():
    found = contenders.default_contenders(AETHER, [4], [3.0])
    assert {one.method for one in found} == {*contenders.METHODS, *PACKAGES}
    (fora,) = contenders.fastest("fora", {"warmup": 1}, AETHER, [4])
    assert fora.settings["interval"] >= 3


def test_schedules_are_fitted_by_warm_up_in_every_phase_or_by_cool_down():
    (pair, *_) = contenders.fitted("fora", {}, 1.75, AETHER, [50])
    assert [(one.settings["interval"], one.settings["warmup"]) for one in pair] == [(2, 9), (2, 8)]
    *_, third = contenders.fitted("taylorseer", {"order": 1}, 2.5, AETHER, [50])
    assert third[0].settings["interval"] == len(third) == 6
    (cooled, *_) = contenders.fitted("fora", {"warmup": 2}, 1.75, AETHER, [50])
    assert len(cooled) == 1 and cooled[0].settings["cooldown"] == "14%"
    for one in (*pair, *cooled):
        assert 1.75 * 0.98 <= contenders.predicted_speedup(one, AETHER, [50]) < 1.85
    longer = replace(pair[0], settings={**pair[0].settings, "warmup": 10})
    assert contenders.predicted_speedup(longer, AETHER, [50]) < 1.75 * 0.98
    # WorldCache needs three full steps to begin with.
    for found in contenders.fitted("worldcache", {"threshold": contenders.ALWAYS}, 2.5, AETHER, [30]):
        assert all(one.settings["warmup"] >= 3 for one in found)


def test_survivors_and_thresholds_between():
    ladder = [row("worldcache", {"threshold": t}, s, e) for t, s, e in ((0.1, 1.2, 0.01), (0.4, 3.0, 0.3))]
    kept = search.survivors([*MADE_UP, *ladder], [1.75, 2.0], None)
    assert [(one.label, one.title) for one in kept] == [
        ("HERO", "tau 50%"),
        ("HERO", "tau 25%"),
        ("FORA", "defaults"),
        ("TaylorSeer 2", "order 2"),
        ("TaylorSeer 1", "order 1"),  # slower than both: shown all the same
        ("WorldCache", "threshold 0.4"),
    ]
    (between,) = search.between(ladder, [1.75])
    assert 0.1 < between.settings["threshold"] < 0.4
    assert search.between(MADE_UP, [1.75]) == []
    fixed = row("hero", {k: v for k, v in ladder[0].contender.settings.items() if k != "threshold"}, 3, 0.1)
    assert search.between([ladder[0], fixed], [1.75, 2.0]) == []


def test_search_finds_the_most_accurate(tmp_path):
    budget = search.Budget(minutes=5, workers=1, seconds={"reconstruction": 1, "planning": 2})
    always = [FORA, Contender("hero", {"interval": 2, "warmup": "25%"}), Contender("hero", {"interval": 1})]
    said = []
    found = search.search(
        Journal(tmp_path / "search.jsonl", {}),
        tiny.model,
        always=always,
        more=[],
        tasks={"reconstruction": 6, "planning": 6},
        scenes=[100],
        targets=[1.3],
        budget=budget,
        samplers=["deterministic"],
        say=said.append,
    )
    assert found == {"deterministic": always[:2]}
    assert "rung 2 of 2 is through" in said[-1]
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(search.settings_document(found)))
    assert contenders.read_settings(path) == found
    for wrong in ('{"reference": [{"method": "magic", "settings": {}}]}', '{"reference": 3}', "x"):
        path.write_text(wrong)
        with pytest.raises(InputError, match="^settings: "):
            contenders.read_settings(path)
    path.write_text('{"reference": [{"method": "fora", "settings": {"interval": 0}}]}')
    with pytest.raises(InputError, match="^settings: FORA: interval"):
        contenders.read_settings(path)


def run(*arguments):
    return cli.main(["compare", *map(str, arguments)])


SMALL = ["--scenes", "1", "--tasks", "planning", "--steps", "4", "--methods", "fora", "--targets", "1.25"]


@pytest.mark.slow
def test_the_command(on_tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*SMALL, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("6 runs: 2 unaccelerated (scenes 1 x tasks 1")
    assert run(*SMALL, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "1.25x, reference sampler: HERO took no part." in printed
    assert (
        "### deterministic sampler" in printed and "sha256" in printed and "python -m evaluation" in printed
    )
    assert (out / "results.md").read_text().strip() == printed.strip()
    assert len((out / "results.csv").read_text().splitlines()) == 7
    # Two samplers, one method, one target.
    assert len((out / "best.csv").read_text().splitlines()) == 3
    assert (out / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    before = (out / "runs.jsonl").read_bytes()
    assert run(*SMALL, "--out", out) == 0
    assert (out / "runs.jsonl").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == [
        "best.csv",
        "frontier.png",
        "results.csv",
        "results.md",
        "runs.jsonl",
    ]


def test_the_command_compares_with_fewer_steps(on_tiny, tmp_path, capsys):
    small = [*SMALL, "--samplers", "deterministic", "--methods", "fora,fewer-steps", "--targets", "1.3,2"]
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(search.settings_document({"deterministic": [FORA]})))
    small += ["--settings", settings]
    assert run(*small, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("4 runs: 1 unaccelerated")
    out = tmp_path / "out"
    assert run(*small, "--out", out) == 0
    printed = capsys.readouterr().out
    lines = {line["settings"]: line for line in csv.DictReader((out / "results.csv").open())}
    assert lines["speed 2"]["method"] == "fewer steps" and float(lines["speed 2"]["flops_speedup"]) == 2
    # 4 / 1.3 is 3.1: 4 steps would be no faster.
    assert float(lines["speed 1.3"]["flops_speedup"]) == pytest.approx(4 / 3)
    best = list(csv.DictReader((out / "best.csv").open()))
    mine = [one for one in best if one["method"] == "fewer steps"]
    assert [float(one["at_least"]) for one in mine] == [1.3, 2] and mine[1]["settings"] == "speed 2"
    cells = " | ".join(f"{float(one['error']):.4f}" for one in mine)
    assert f"| fewer steps | {cells} |" in printed
    assert (out / "frontier.png").stat().st_size > 1000


@pytest.mark.slow
def test_fewer_steps_are_not_searched(on_tiny, tmp_path, capsys, monkeypatch):
    one_each = {name: values[:1] for name, values in search.HERO_OPTIONS.items()}
    monkeypatch.setattr(search, "HERO_OPTIONS", one_each)
    always, more = search.candidates(AETHER, [4], [2.0])
    assert contenders.FEWER_STEPS not in {one.method for one in (*always, *more)}
    assert run("--search", "--methods", "fewer-steps", "--out", tmp_path / "out") == 2
    assert "error: --methods: fewer-steps: there are no settings to search" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_interrupted_keeps_what_there_is(on_tiny, tmp_path, monkeypatch, capsys):
    calls = []

    def stop(*arguments, **settings):
        yield from list(original(*arguments, **settings))[:1]
        calls.append(1)
        raise KeyboardInterrupt

    original = work.run_group
    monkeypatch.setattr(work, "run_group", stop)
    assert run(*SMALL, "--out", tmp_path / "out") == 130
    assert "runs kept: 1; the same command goes on" in capsys.readouterr().err and calls
    assert not (tmp_path / "out" / "results.md").exists()
    monkeypatch.undo()
    monkeypatch.setattr(comparison, "loader_of", lambda source: tiny.model)
    assert run(*SMALL, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize(
    "field, arguments",
    [
        ("out", []),
        ("tasks", ["--tasks", "dreaming"]),
        ("samplers", ["--samplers", "euler"]),
        ("methods", ["--methods", "magic"]),
        ("scenes", ["--scenes", "one"]),
        ("scenes", ["--scenes", "-1"]),
        ("targets", ["--targets", "nan"]),
        ("targets", ["--targets", "1"]),
        ("steps", ["--steps", "1"]),
        ("workers", ["--workers", "0"]),
        ("minutes", ["--search", "--minutes", "nan"]),
        ("settings", ["--settings", "nowhere.json"]),
    ],
)
def test_bad_arguments(on_tiny, field, arguments, tmp_path, capsys):
    out = [] if field == "out" else ["--out", tmp_path / "out"]
    assert run(*out, *arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: --{field}: ")
    assert not (tmp_path / "out").exists()


def test_two_commands_do_not_work_on_one_folder(on_tiny, tmp_path, capsys):
    with locked(tmp_path / "out"):
        assert run(*SMALL, "--out", tmp_path / "out") == 2
    assert f"error: --out: {tmp_path / 'out'} is in use by another command" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "clock, stamps, forward",
    [
        # A slow first run counts for nothing, nor do the set-up before the first step and a stall.
        ([10, 15], [11, 12, 13, 14], 1),
        ([10, 95], [40, 42, 92, 94], 2),
    ],
)
def test_a_step_is_timed_after_a_rehearsal(clock, stamps, forward, monkeypatch):
    done = []

    def sampled(model, group, steps, marks):
        done.append(steps)
        marks += stamps[:steps]

    times = iter([*clock, 20])
    monkeypatch.setattr(work, "sampled", sampled)
    monkeypatch.setattr(work, "decode", lambda *_: done.append("decode"))
    monkeypatch.setattr(work.time, "perf_counter", lambda: next(times))
    found = work.seconds_of_one(None, None)
    assert found["forward"] == forward and done == [1, "decode", 4, "decode"]


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "1 s"), (40, "40 s"), (100, "2 minutes"), (3000, "50 minutes"), (9000, "2.5 hours")],
)
def test_lengths_of_time_are_never_nothing(seconds, text):
    assert comparison.duration_text(seconds) == text


@pytest.mark.slow
def test_the_search_command(on_tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search, "HERO_OPTIONS", {"tau": ("34%",)})
    monkeypatch.setattr(search, "LADDERS", {})
    monkeypatch.setattr(contenders, "INTERVALS", (2,))
    out = tmp_path / "out"
    small = ["--scenes", "100", "--tasks", "reconstruction", "--steps", "6", "--methods", "fora,hero"]
    small += ["--samplers", "deterministic", "--targets", "1.3", "--search"]
    assert run(*small, "--dry-run") == 0
    assert "settings can be tried" in capsys.readouterr().out
    assert run(*small, "--out", out, "--minutes", "1e-9") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --minutes: were over")
    assert not (out / "settings.json").exists() and (out / "search.jsonl").exists()
    assert run(*small, "--out", out) == 0
    assert "deterministic: FORA: interval" in capsys.readouterr().out
    found = contenders.read_settings(out / "settings.json")
    assert {one.label for one in found["deterministic"]} == {"FORA", "HERO"}
