"""The benchmarks run, count full steps and FLOPs, and write their tables."""

import contextlib
import gc
import json
import weakref
from types import SimpleNamespace

import pytest

from aether import miniature
from benchmarks import explore, guidance, memory, race, scaling, speed
from benchmarks.contenders import Attached, Contender
from benchmarks.race import Times
from benchmarks.sizes import SIZES, build_model
from benchmarks.speed import main
from evaluation.compare.meter import shared_copy


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_times_by_kind():
    times = Times(full=[True, True, False, True, False], clock=[4.0, 5.0, 1.0, 90.0, 3.0])
    assert (times.median(times.clock, True), times.median(times.clock, False)) == (5, 2)
    assert times.share(times.clock) == 0.4
    assert times.typical(times.clock) == 19  # the stall of 90 counts as a median step
    assert Times(full=[True], clock=[1.0]).share([1.0]) is None


def test_a_shared_copy_holds_the_same_weights():
    import torch

    model = build_model(SIZES["tiny"], torch.device("cpu"))
    pairs = zip(model.parameters(), shared_copy(model).parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)


def test_unknown_contenders_are_named():
    with pytest.raises(SystemExit, match="^error: --only: 'HERO slow' is not one of untouched, optimized"):
        main(["--only", "HERO slow"])


def contender(memory_failures: int = 0) -> Contender:
    """Runs the model as it is, and says how often memory ran out for its caches."""
    report = SimpleNamespace(bytes_cached=0, memory_failures=memory_failures)

    @contextlib.contextmanager
    def attach(model, steps):
        yield Attached(lambda: True, SimpleNamespace(report=report))

    return Contender(attach)


def test_a_method_whose_caches_found_no_memory_is_marked():
    import torch

    named = {"untouched": contender(), "cached": contender(memory_failures=3)}
    size = SIZES["tiny"].with_blocks(1)
    times = race.race(named, size, 3, 2, torch.device("cpu"))
    names = [row[0] for row in rows_of(speed.table(named, times, size, 3, 1e12))]
    assert names == ["untouched", "cached (out of memory in 6 step(s))"]
    rows = rows_of(scaling.table(named, size, {scaling.Setting(5, 3): times}))
    assert [row[0] for row in rows] == names


@pytest.fixture
def gpu(monkeypatch):
    """One that is the CPU; benchmarks take it for a GPU."""
    import torch

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for name in ("build_model", "Denoising"):
        made = getattr(race, name)
        monkeypatch.setattr(race, name, lambda *given, made=made: made(*given[:-1], cpu))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return cuda


@pytest.mark.parametrize("options, peak", [({}, 7), ({"peaks": False}, None)])
def test_peaks_take_steps_of_their_own_only_where_they_are_shown(gpu, monkeypatch, options, peak):
    monkeypatch.setattr(race, "peak_memory", lambda *_: 7)
    times = race.race({"untouched": contender()}, SIZES["tiny"].with_blocks(1), 1, 1, gpu, **options)
    assert times["untouched"].peak_bytes == peak


def test_scaling_shows_no_peaks_and_measures_none(monkeypatch, capsys):
    asked = []

    def raced(named, *_, peaks=True):
        asked.append(peaks)
        return {name: Times([True], [1.0], [1.0]) for name in named}

    monkeypatch.setattr(scaling, "race", raced)
    scaling.main(["--device", "cpu", "--size", "tiny", "--only", "FORA"])
    assert asked == [False] * 5 and len(rows_of(capsys.readouterr().out)) == 10


@pytest.mark.slow
def test_side_by_side(tmp_path):
    out, names = tmp_path / "speed.md", ["HERO paper", "HERO paper, optimized", "FORA"]
    main(["--device", "cpu", "--size", "tiny", "--steps", "6", "--only", *names, "--out", str(out)])
    lines, rows = out.read_text().splitlines(), rows_of(out.read_text())
    assert [row[:2] for row in rows] == [["untouched", "6"], *([name, "5"] for name in names)]
    assert len({len(row) for row in [*rows, lines[2].strip("|").split("|")]}) == 1
    assert rows[0][7:10] == ["1.000x"] * 3 and rows[0][3] == "" and rows[1][3].endswith(" s")


@pytest.mark.slow
def test_scaling_says_what_is_predicted(tmp_path):
    out = tmp_path / "scaling.md"
    scaling.main(["--device", "cpu", "--size", "tiny", "--steps", "6", "--only", "FORA", "--out", str(out)])
    rows = rows_of(out.read_text())
    # FORA's first four steps are full, then every second one.
    full = {row[2]: row[3] for row in rows if row[0] == "FORA"}
    assert full == {"6": "5", "3": "3", "12": "8"}
    untouched = [row for row in rows if row[0] == "untouched"]
    assert [row[1:4] for row in untouched] == [
        ["5", "6", "6"], ["5", "3", "3"], ["5", "12", "12"], ["3", "6", "6"], ["9", "6", "6"],
    ]  # fmt: skip
    predicted = [float(row[4]) for row in untouched]
    assert predicted[:3] == [1, 0.5, 2] and 0.6 <= predicted[3] < 0.65 and 1.8 < predicted[4] <= 1.9
    for row in rows:
        clock, off = float(row[5]), row[6]
        assert clock > 0 and (off == "") == (row[1:3] == ["5", "6"])


@pytest.mark.slow
def test_guidance_counts_the_passes_that_ran(capsys, monkeypatch):
    """On a third of the miniature's blocks and a quarter of its picture, which change no count."""

    def build():
        model = miniature.build()
        del model.transformer.transformer_blocks[4:]
        return model

    def render(scene, frames, height, width):
        return miniature.render(scene, frames, height // 2, width // 2)

    monkeypatch.setattr(guidance, "build", build)
    monkeypatch.setattr(guidance, "render", render)
    guidance.main(["--steps", "6"])
    rows = rows_of(capsys.readouterr().out)
    assert {tuple(row[:2]) for row in rows} == {
        (s, k) for s in ("dpm", "ddim") for k in ("dynamic", "constant")
    }
    found = {row[2]: (row[3], float(row[4])) for row in rows if row[:2] == ["ddim", "constant"]}
    # Of six steps the fifth has one pass: 12 passes over 11.
    assert found["reuse 2"][0] == found["line 2"][0] == "1.09x" and found["reuse 3"][0] == "1.20x"
    assert 0 < found["line 2"][1] != found["reuse 2"][1] < 0.5


@pytest.mark.slow
def test_memory_is_counted_by_part_and_way(tmp_path):
    out = tmp_path / "memory.md"
    memory.main(["--size", "tiny", "--out", str(out)])
    parts, _, ways = out.read_text().partition("| whole run")
    assert [row[0] for row in rows_of(parts)] == [
        "encoding, diffusers as it is", "encoding", "encoding in small tiles",
        "a step, batch 1", "a step, attention `sdpa`",
        "decoding, diffusers as it is", "decoding", "decoding in small tiles",
    ]  # fmt: skip
    rows = {row[0]: row[1:] for row in rows_of("| whole run" + ways)}
    assert list(rows) == list(memory.WAYS) and {len(row) for row in rows.values()} == {4}
    megabytes = {way: float(row[0].removesuffix(" MB")) for way, row in rows.items()}
    assert megabytes["float8, offload"] < megabytes["offload"] < megabytes["float8"] < megabytes["bfloat16"]


def test_memory_measures_on_a_gpu_only(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        memory.main(["--measure"])
    assert "--measure: there is no GPU here" in capsys.readouterr().err


@pytest.mark.slow
def test_the_model_before_is_gone_when_the_next_is_measured(monkeypatch):
    import torch

    class Held:
        def __init__(self):
            self.itself = self

    before = []

    def build(*_):
        held = Held()
        before.append(weakref.ref(held))
        return held

    monkeypatch.setattr(memory, "build_whole", build)
    monkeypatch.setattr(memory, "whole_run", lambda *_: None)
    gone = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: gone.append([held() is None for held in before]))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5)
    gc.disable()
    try:
        for _ in range(2):
            assert memory.measured(SIZES["tiny"], torch.device("cuda"), {}) == 5
    finally:
        gc.enable()
    assert gone == [[], [True]]


@pytest.mark.parametrize("way", ["bfloat16", "float8, offload"])
@pytest.mark.slow
def test_a_whole_run_takes_what_is_foretold(way):
    import torch

    size, device = SIZES["tiny"], torch.device("cpu")
    model = memory.build_whole(size, device, **memory.WAYS[way])
    peak = memory.counted(lambda: memory.whole_run(model, size))
    parts = memory.foretold(size, memory.WAYS[way])
    assert peak <= 1.05 * max(parts["step"], parts["decoding"])
    assert peak >= 0.5 * max(parts["step"], parts["decoding"])


def test_peak_counts_what_is_alive_together():
    import torch

    given = torch.zeros(1000)
    with memory.Peak() as peak:
        for _ in range(3):
            kept = (given + 1) * 2
            given.mul_(1)[:10].add_(1)
    assert len(kept) == 1000 and peak.bytes == 3 * 4000  # the one before, the sum and the product


def test_a_path_is_compared_after_one_similarity():
    path = explore.true_path(explore.still_world(501, 17))
    assert path.poses.shape == (17, 4, 4)
    same = explore.path_errors(path.scaled(1.5).poses, path.poses)
    assert same["correlation"] > 0.999 and same["ate_percent"] < 1e-6
    bent = path.poses.copy()
    bent[8:, :3, 3] += [0, 0.1, 0]
    assert explore.path_errors(bent, path.poses)["ate_percent"] > 1


@pytest.mark.slow
def test_a_continued_walk_of_the_benchmark_is_the_same(capsys, tmp_path):
    options = ["--steps", "1", "--guidance", "1", "--scenes", "501", "--work", str(tmp_path)]
    explore.main(["continue", *options])
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["reused"], row["numbers_that_differ"]) == (1, 0)
