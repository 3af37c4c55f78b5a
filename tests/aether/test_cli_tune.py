"""`python -m aether tune`, run in this process on a small clip of the synthetic world."""

import json
import shutil

import pytest
import torch

from aether.cli import commands as cli
from aether.locks import locked
from aether.run import repeated
from hero_engine import HeroConfig

JOB = ["--size", "32x48", "--steps", "8", "--device", "cpu"]
SPEED = ["reconstruct", "synthetic:3", *JOB, "--speed", "1.4", "--budget", "3"]
STREAMS = ("rgb", "disparity", "raymap")
KEPT = {"recording.safetensors", "reference.safetensors", "trials.jsonl"}


def tune(*arguments, out):
    return cli.main(["tune", *map(str, arguments), "--out", str(out)])


def document_of(folder):
    return json.loads((folder / "tuning.json").read_text())


def timeless(document):
    """Without what the clock said."""
    trials = [trial | {"clock": None} for trial in document["trials"]]
    return trials, document["setting"], document["run"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert tune(*SPEED, "--quiet", out=out) == 0
    return out


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy of a tuning's folder."""
    return shutil.copytree(tuned, tmp_path / "out")


@pytest.fixture
def runs(monkeypatch):
    """The results of all denoising runs, and what is done to each of them, by number from 0."""
    made, changes, denoise = [], {}, repeated.denoise

    def counted(*arguments):
        made.append(denoise(*arguments))
        return changes.get(len(made) - 1, lambda latent: latent)(made[-1])

    monkeypatch.setattr(repeated, "denoise", counted)
    counted.made, counted.changes = made, changes
    return counted


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_speed(runs, tmp_path, capsys):
    assert tune(*SPEED, out=tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == KEPT | {"tuning.json", "tuning.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "tuning.png").read_bytes()[:4] == b"\x89PNG"
    document = document_of(tmp_path / "out")
    assert document["reached"] and document["choice"]["speedup"] >= 1.4
    assert len(document["trials"]) == 2 and len(runs.made) == 3
    assert document["run"]["size"] == "17 frames of 48 x 32 at 12 fps"
    check_streams(document["trials"], *runs.made)
    printed = capsys.readouterr()
    (head,) = (line for line in printed.out.splitlines() if "by the clock" in line)
    assert head.split()[-3:] == list(STREAMS)
    assert printed.out.splitlines()[-1] == document["setting"]
    assert "reconstruction: 17 frames of 48 x 32" in printed.out
    assert all(f"run {number} of 3" in printed.err for number in (1, 2, 3)) and "8/8" in printed.err


def check_streams(trials, *latents):
    """Errors of the streams against the latents of all runs, the unaccelerated one first."""
    truth, *others = (latent.double().split((16, 16, 24), dim=2) for latent in latents)
    for trial, latent in zip(trials, others, strict=True):
        wanted = [
            float((one - other).norm() / other.norm()) for one, other in zip(latent, truth, strict=True)
        ]
        assert trial["errors"] == pytest.approx(dict(zip(STREAMS, wanted, strict=True)), rel=1e-4)


@pytest.mark.slow
def test_the_setting_goes_to_the_other_commands(tuned, tmp_path, capsys):
    document = document_of(tuned)
    options = ["reconstruct", "synthetic:3", *JOB, "--setting", document["setting"], "--quiet"]
    assert cli.main([*options, "--out", str(tmp_path / "out")]) == 0
    hero = json.loads((tmp_path / "out" / "report.json").read_text())["hero"]
    assert HeroConfig.from_dict(hero["config"]) == HeroConfig.from_dict(document["choice"]["config"])
    assert [forward["full"] for forward in hero["forwards"]] == document["choice"]["strip"]


@pytest.mark.slow
def test_an_error_in_percent(tmp_path):
    options = ["predict", "synthetic:3", *JOB, "--guidance", "1", "--camera", "dolly-in", "--error", "40"]
    assert tune(*options, "--budget", "4", out=tmp_path / "out") == 0
    document = document_of(tmp_path / "out")
    assert document["target"] == {"speed": None, "error": 0.4}
    assert document["reached"] is (document["choice"]["error"] <= 0.4)
    assert document["run"]["camera path"] != "none"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_target_out_of_reach_gives_the_nearest_and_says_so(folder, quiet, capsys):
    options = ["reconstruct", "synthetic:3", *JOB, "--error", "0.0001", "--budget", "3"]
    assert tune(*options, *(["--quiet"] if quiet else []), out=folder) == 0
    document, printed = document_of(folder), capsys.readouterr()
    assert document["reached"] is False
    words = printed.err if quiet else printed.out
    assert "The target (an error of at most 0.0001 %) was not reached in 2 trials" in words
    assert f"{document['choice']['speedup']:.2f}x by FLOPs" in words and ", error " in words
    assert printed.out.splitlines()[-1] == document["setting"]
    if quiet:
        assert printed.out == f"{document['setting']}\n"


def test_the_same_command_runs_nothing_again(folder, runs, capsys):
    before = document_of(folder)
    assert tune(*SPEED, out=folder) == 0
    assert runs.made == [] and document_of(folder) == before
    assert tune(*SPEED, "--budget", 4, out=folder) == 0
    assert len(runs.made) == 1 and document_of(folder)["trials"][:2] == before["trials"]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.slow
def test_after_an_interrupt_the_same_command_goes_on(at, tuned, runs, tmp_path, capsys):
    out = tmp_path / "out"
    runs.changes[at] = interrupt
    assert tune(*SPEED, out=out) == 130
    kept = {0: "nothing was written", 1: "1 finished run is kept in", 2: "2 finished runs are kept in"}
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith(f"interrupted; {kept[at]}") and out.exists() is (at > 0)
    assert ("the same command goes on from there" in printed) is (at > 0)
    runs.changes.clear()
    runs.made.clear()
    assert tune(*SPEED, out=out) == 0
    assert len(runs.made) == 3 - at
    assert timeless(document_of(out)) == timeless(document_of(tuned))


def test_too_little_memory_keeps_what_ran(runs, tmp_path, capsys):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    runs.changes[2] = fail
    assert tune(*SPEED, out=tmp_path / "out") == 1
    *_, kept, error = capsys.readouterr().err.splitlines()
    assert kept.startswith("2 finished runs are kept in") and "smaller --size" in error


@pytest.mark.parametrize(
    "options, words",
    [
        (["synthetic:4"], "video: synthetic:3"),
        (["--seed", "1"], "seed: 42 there, 1 here"),
        (["--size", "64x96"], "size: 17 frames of 48 x 32 at 12 fps there, 17 frames of 96 x 64"),
        (["--steps", "9"], "steps: 8 there, 9 here"),
        (["--scheduler", "ddim"], "scheduler: CogVideoXDPMScheduler there, CogVideoXDDIMScheduler here"),
    ],
)
@pytest.mark.slow
def test_a_folder_of_another_run_is_refused_and_left_as_it_is(options, words, folder, runs, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    source, rest = (options, []) if options[0].startswith("synthetic") else (["synthetic:3"], options)
    assert tune("reconstruct", *source, *JOB, *rest, "--speed", "2", out=folder) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --out: holds a tuning of something else (") and words in error
    assert runs.made == [] and {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_model_is_refused_even_where_nothing_is_left_to_run(folder, runs, monkeypatch, capsys):
    from aether import miniature

    build = miniature.build

    def other(**options):
        model = build(**options)
        with torch.no_grad():
            model.transformer.transformer_blocks[1].ff.net[2].weight.mul_(1.001)
        return model

    monkeypatch.setattr(miniature, "build", other)
    assert tune(*SPEED, out=folder) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --out: holds") and "model: miniature with weights" in error
    assert runs.made == []


def test_a_folder_with_something_else_is_refused_and_left_as_it_is(tmp_path, capsys):
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    assert tune(*SPEED, out=tmp_path / "diary") == 2
    assert "error: --out: " in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "diary").iterdir()] == ["monday.txt"]


def test_a_damaged_folder_is_refused(folder, capsys):
    (folder / "trials.jsonl").write_text("{}\n")
    assert tune(*SPEED, out=folder) == 2
    assert "error: --out: " in capsys.readouterr().err


def test_two_commands_on_one_folder(folder, capsys):
    with locked(folder):
        assert tune(*SPEED, out=folder) == 2
    assert "is in use by another command" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field, options",
    [
        ("--speed", "reconstruct synthetic --speed 1"),
        ("--speed", "reconstruct synthetic --speed nan"),
        ("--error", "reconstruct synthetic --error 0"),
        ("--error", "reconstruct synthetic --error 101"),
        ("--error", "reconstruct synthetic --error nan"),
        ("--budget", "reconstruct synthetic --speed 2 --budget 1"),
        ("--steps", "reconstruct synthetic --speed 2 --steps 4"),
        ("--seed", "reconstruct synthetic --speed 2 --seed -1"),
        ("--size", "reconstruct synthetic --speed 2 --size 30x50"),
        ("--guidance", "reconstruct synthetic --speed 2 --size 32x48 --guidance 3"),
        ("--camera", "predict synthetic --speed 2 --camera zoom"),
        ("inputs", "plan synthetic --speed 2"),
        ("video", "reconstruct missing.mp4 --speed 2"),
        ("--model", "reconstruct synthetic --speed 2 --model {tmp}"),
    ],
)
def test_bad_input_names_its_field_and_leaves_nothing(field, options, tmp_path, capsys):
    assert tune(*options.format(tmp=tmp_path).split(), out=tmp_path / "deep" / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {field}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [[], ["--speed", "2", "--error", "1"]])
def test_exactly_one_target(target, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        tune("reconstruct", "synthetic", *target, out=tmp_path / "out")
    assert error.value.code == 2
    assert "--speed" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_trial_that_gives_nan_fails_and_others_run(runs, tmp_path, capsys):
    runs.changes[1] = lambda latent: latent * torch.nan
    assert tune(*SPEED, out=tmp_path / "out") == 0
    document, printed = document_of(tmp_path / "out"), capsys.readouterr().out
    assert document["trials"][0]["error"] is None and document["choice"] == document["trials"][1]
    assert " failed " in printed and "1 of 2 trials failed" in printed


@pytest.mark.parametrize(
    "at, words", [((0,), "the unaccelerated run gives NaN"), ((1, 2), "in all of 2 trials")]
)
@pytest.mark.slow
def test_a_model_that_gives_nan(at, words, runs, tmp_path, capsys):
    runs.changes |= {number: lambda latent: latent * torch.nan for number in at}
    assert tune(*SPEED, out=tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --model: ") and words in error


@pytest.mark.slow
def test_an_interrupt_while_the_results_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hero_engine.tuning_png", interrupt)
    assert tune(*SPEED, "--quiet", out=tmp_path / "out") == 130
    assert "3 finished runs are kept in" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == KEPT | {"tuning.json"}
