"""The command line, run in this process on small clips of the synthetic world."""

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aether.cli import commands as cli
from aether.cli.console import Console
from aether.cli.hero import Hero
from aether.formats.camera_files import SUFFIXES, write_cameras
from aether.formats.export import write_video
from aether.geometry import trajectory
from aether.geometry.metrics import psnr
from aether.miniature import build, random_scene, render
from aether.model.loading import save_prompt_embeds
from aether.run import job
from aether.run.compare import Comparison
from hero_engine import HeroConfig
from hero_engine.speed.backends import BACKENDS

STREAMS = ("rgb", "disparity", "raymap")
SMALL = ["--size", "32x48", "--steps", "7", "--device", "cpu"]
FILES = {"rgb.mp4", "depth.mp4", "depth.npz", "cameras.json", "scene.ply", "contact.png", "report.json"}


def run(*arguments, out):
    return cli.main([*map(str, arguments), "--out", str(out)])


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def disparity_of(folder):
    return np.load(folder / "depth.npz")["disparity"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A reconstruction without HERO."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert run("reconstruct", "synthetic:3", *SMALL, "--hero", "off", out=out) == 0
    return out


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of different, odd sizes; the second with transparent parts."""
    world = render(random_scene(1), 2, 45, 61, fps=1, samples=1).rgb
    first, last = (Image.fromarray((frame * 255).astype(np.uint8)) for frame in world)
    first.save(tmp_path / "first.png")
    last = last.resize((80, 50)).convert("RGBA")
    last.putalpha(200)
    last.save(tmp_path / "last.png")
    return tmp_path / "first.png", tmp_path / "last.png"


def test_reconstruct_writes_everything_and_says_what_hero_did(tmp_path, capsys):
    assert run("reconstruct", "synthetic:3", *SMALL, out=tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"report.png"}
    report = report_of(tmp_path / "out")
    # Seven steps: the first and the last full, and every second one.
    assert (report["hero"]["full_steps"], report["hero"]["cached_steps"]) == (4, 3)
    assert report["settings"] | {"steps": 7, "frames": 17, "height": 32, "width": 48} == report["settings"]
    assert report["depth_against_truth"].keys() == {"abs_rel", "delta1", "scale"}
    assert set(report["seconds"]) == {"encode", "denoise", "decode"}
    printed = capsys.readouterr()
    assert (
        "4 full / 3 cached steps" in printed.out and "Abs Rel" in printed.out and "scene.ply" in printed.out
    )
    assert "model: miniature on cpu" in printed.out and "denoising" in printed.err
    assert disparity_of(tmp_path / "out").shape == (17, 32, 48)


def test_without_hero_there_is_no_hero_report(plain):
    assert {path.name for path in plain.iterdir()} == FILES
    assert report_of(plain)["hero"] is None


def test_hero_with_every_step_full_changes_nothing(plain, tmp_path):
    assert run("reconstruct", "synthetic:3", *SMALL, "--interval", "1", out=tmp_path / "out") == 0
    assert np.array_equal(disparity_of(tmp_path / "out"), disparity_of(plain))
    assert report_of(tmp_path / "out")["hero"]["cached_steps"] == 0


@pytest.mark.slow
def test_the_fastest_attention_of_a_cpu_changes_nothing(plain, tmp_path):
    out = tmp_path / "out"
    chosen = ["--attention", "auto", "--hero", "off"]
    assert run("reconstruct", "synthetic:3", *SMALL, *chosen, out=out) == 0
    assert np.array_equal(disparity_of(out), disparity_of(plain))


def test_the_attentions_are_the_engines():
    arguments = cli.build_parser().parse_args(["reconstruct", "clip.mp4", "--out", "out"])
    assert arguments.attention == "sdpa" and not arguments.compile
    for name in ("auto", *BACKENDS):
        cli.build_parser().parse_args(["reconstruct", "clip.mp4", "--out", "out", "--attention", name])


@pytest.mark.slow
def test_seeds(plain, tmp_path):
    options = ["reconstruct", "synthetic:3", *SMALL, "--hero", "off", "--quiet"]
    assert run(*options, "--seed", 42, out=tmp_path / "same") == 0
    assert run(*options, "--seed", 43, out=tmp_path / "other") == 0
    assert np.array_equal(disparity_of(tmp_path / "same"), disparity_of(plain))
    assert np.abs(disparity_of(tmp_path / "other") - disparity_of(plain)).mean() > 0.01


def test_options_reach_hero(tmp_path):
    options = "--hero paper-fast --tau 1/4 --interval 4 --ratio 1/2 --threshold 0.5 --warmup 50% --cooldown 1"
    options += " --text refresh --patch 1x2x2 --hero-seed 9"
    options += " --storage float8 --shallow forecast --feedback 1/2 --mask 110 --trend damped"
    assert run("reconstruct", "synthetic", *SMALL, *options.split(), out=tmp_path / "out") == 0
    assert report_of(tmp_path / "out")["hero"]["config"] == {
        "tau": "25%",
        "interval": 4,
        "ratio": 0.5,
        "threshold": 0.5,
        "patch": [1, 2, 2],
        "warmup": "50%",
        "cooldown": 1,
        "seed": 9,
        "text": "refresh",
        "storage": "float8",
        "shallow": "forecast",
        "feedback": 0.5,
        "mask": "2 of 3: 110",
        "trend": "damped",
    }


def test_a_setting_as_text_is_what_options_go_over(tmp_path):
    setting = 'tau=25% text=omit interval=9 mask="2 of 3: 110"'
    options = ["--setting", setting, "--tau", "50%", "--steps", 6]
    assert run("reconstruct", "synthetic:3", *SMALL, *options, out=tmp_path / "out") == 0
    hero = report_of(tmp_path / "out")["hero"]
    wanted = HeroConfig(tau="50%", text="omit", interval=9, mask="110")
    assert HeroConfig.from_dict(hero["config"]) == wanted
    assert [forward["full"] for forward in hero["forwards"]] == [True] * 4 + [False] * 2


@pytest.mark.slow
def test_a_clip_of_any_size_and_length(tmp_path, capsys):
    world = render(random_scene(2), 20, 39, 71, fps=12, samples=1)
    write_video(tmp_path / "clip.mp4", world.rgb, 12)
    assert run("reconstruct", tmp_path / "clip.mp4", *SMALL, out=tmp_path / "out") == 0
    report = report_of(tmp_path / "out")
    assert report["settings"]["frames"] == 17 and report["settings"]["fps"] == 12
    assert report["depth_against_truth"] is None
    printed = capsys.readouterr().out
    assert "note: video: " in printed and "of the width is cut" in printed and "left out" in printed
    assert len(report["notes"]) == printed.count("note: ")


@pytest.mark.slow
def test_predict_follows_a_raymap(tmp_path, pictures):
    moves = np.zeros((25, 6, 4, 6), np.float32)
    np.save(tmp_path / "moves.npy", moves)
    options = ["--frames", 25, "--fps", 24, "--raymap", tmp_path / "moves.npy", "--scheduler", "ddim"]
    assert run("predict", pictures[0], *SMALL, *options, out=tmp_path / "out") == 0
    report = report_of(tmp_path / "out")
    assert report["task"] == "prediction" and report["settings"]["raymap_given"]
    assert report["model"]["scheduler"] == "CogVideoXDDIMScheduler"
    assert len(json.loads((tmp_path / "out" / "cameras.json").read_text())["frames"]) == 25


@pytest.mark.slow
def test_predict_follows_a_move_or_an_earlier_run(tmp_path, pictures):
    """The same path as a move and as a file of it; another one gives another clip."""
    path = trajectory.preset("orbit left", 0.5, frames=17)
    write_cameras(tmp_path / "path", path, 12, "nerfstudio")
    cameras = {"move": "orbit-left:0.5", "file": tmp_path / "pathtransforms.json", "other": "dolly-in"}
    for name, camera in cameras.items():
        options = [*SMALL, "--frames", 17, "--hero", "off", "--camera", camera]
        assert run("predict", pictures[0], *options, out=tmp_path / name) == 0
    move, file, other = (disparity_of(tmp_path / name) for name in cameras)
    assert report_of(tmp_path / "move")["settings"]["raymap_given"]
    np.testing.assert_allclose(move, file, atol=1e-3)
    assert np.abs(move - other).max() > 0.01


def test_plan_between_two_pictures(tmp_path, pictures, capsys):
    assert run("plan", *pictures, *SMALL, "--guidance", 2, out=tmp_path / "out") == 0
    assert report_of(tmp_path / "out")["settings"]["guidance"] == 2
    printed = capsys.readouterr().out
    assert "note: image: " in printed and "note: goal: transparent" in printed


@pytest.mark.slow
def test_a_model_from_a_folder_is_the_same_model(tmp_path):
    # The prompt's file holds bfloat16.
    model = replace(build(), prompt_embeds=build().prompt_embeds.bfloat16().float())
    for part in ("transformer", "vae", "scheduler"):
        getattr(model, part).save_pretrained(tmp_path / "model" / part)
    save_prompt_embeds(tmp_path / "null.safetensors", model.prompt_embeds)
    source = ["--model", tmp_path / "model", "--prompt", tmp_path / "null.safetensors", "--dtype", "float32"]
    assert run("predict", "synthetic:3", *SMALL, "--hero", "off", *source, out=tmp_path / "out") == 0
    inputs = job.gather(model, "prediction", {"image": "synthetic:3"}, size=(32, 48))
    expected = job.run(model, inputs, job.Settings(steps=7))
    assert np.array_equal(disparity_of(tmp_path / "out"), expected.decoded.disparity)


@pytest.mark.slow
def test_compare_puts_both_side_by_side(plain, tmp_path, capsys):
    assert run("compare", "synthetic:3", *SMALL, out=tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plain", "hero", "compare.json"}
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    disparities = [np.clip(disparity_of(tmp_path / "out" / name), 0, 1) for name in ("plain", "hero")]
    assert np.array_equal(disparities[0], np.clip(disparity_of(plain), 0, 1))
    assert document["psnr"]["disparity"] == pytest.approx(psnr(*disparities))
    assert 15 < document["psnr"]["rgb"] < 100
    seconds = [document[name]["seconds"]["denoise"] for name in ("plain", "hero")]
    assert document["speedup"] == pytest.approx(seconds[0] / seconds[1])
    printed = capsys.readouterr().out
    hero = document["hero"]["hero"]
    assert document["speedup_bound"] == hero["predicted_speedup"] and 1 < hero["predicted_speedup"] < 7 / 4
    assert hero["speedup_limit"] == pytest.approx(1.05 * hero["predicted_speedup"])
    for word in ("speed-up", "bound", "full steps", "4 of 7", "MB", "dB", "Abs Rel", "same seed"):
        assert word in " ".join(printed.split())


def timed(seconds, hero=None):
    """A result of which only the times count."""
    report = {"settings": {"steps": 8}, "depth_against_truth": None, "hero": hero}
    return SimpleNamespace(seconds={"denoise": seconds}, report=report, decoded=None)


@pytest.mark.parametrize("fast, noise", [(6.5, False), (5.2, False), (4.9, True), (1.0, True)])
def test_a_speed_up_that_cannot_be_is_marked(fast, noise, monkeypatch):
    monkeypatch.setattr("aether.run.compare.stream_psnr", lambda *_: dict.fromkeys(STREAMS, 50.0))
    hero = {"full_steps": 5, "steps": 8, "bytes_cached": 1, "predicted_speedup": 1.5, "speedup_limit": 1.575}
    comparison = Comparison(timed(8.0), timed(fast, hero))
    assert comparison.is_noise is noise and comparison.bound == 1.5
    head, _, _, row = comparison.table().splitlines()
    assert "bound" in head and "1.50x" in row and ("(noise)" in row) is noise
    (*doubts,) = comparison.doubts()
    assert (doubts != []) is noise
    if noise:
        assert f"{8 / fast:.2f}x is above its bound of 1.50x" in doubts[0]


@pytest.mark.parametrize("mask", ["", "1"])
def test_a_rehearsal_takes_every_kind_of_step(monkeypatch, mask):
    """Full and cached ones, and those without the unconditional half, whatever the schedule says."""
    settings = {"warmup": "90%", "cooldown": "50%", "threshold": 0.5, "mask": mask}
    model, hero = build(), Hero(HeroConfig.preset("balanced", **settings))
    kinds = []
    monkeypatch.setattr(Hero, "session", observed(Hero.session, kinds))
    inputs = job.gather(model, "prediction", {"image": "synthetic:3"}, size=(32, 48))
    job.rehearse(model, inputs, job.Settings(steps=50, guidance_skip=0.05), hero)
    assert [[full for full, _ in run] for run in kinds] == [[True, False, True, False]] * 2
    assert [{batch for _, batch in run} for run in kinds] == [{2}, {1}]


def observed(remember, kinds):
    """Notes (full, batch) of every step of every session."""

    @contextmanager
    def session(self, model, steps):
        with remember(self, model, steps) as run:
            yield run
        kinds.append([(record.reason.full, run.report.batch) for record in run.report.records])

    return session


def test_psnr():
    a = np.zeros((4, 4), np.float32)
    assert psnr(a, a) == np.inf
    assert psnr(a, a + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(a, a + 0.1, peak=10) == pytest.approx(40, abs=1e-4)


def test_depth_errors_fit_one_scale_and_leave_the_sky_out():
    truth = np.random.default_rng(0).uniform(1, 9, (2, 5, 6))
    depth = truth / 3
    truth[0, 0] = np.nan
    exact = job.depth_errors(depth, truth)
    assert exact == pytest.approx({"abs_rel": 0, "delta1": 1, "scale": 3})
    depth[1, 2:] *= 1.5
    off = job.depth_errors(depth, truth)
    ratio = depth * off["scale"] / truth
    assert off["abs_rel"] == pytest.approx(np.nanmean(np.abs(ratio - 1)))
    assert off["delta1"] < 0.8
    assert job.depth_errors(depth, None) is None


@pytest.mark.parametrize(
    "field, arguments",
    [
        ("video", "reconstruct missing.mp4"),
        ("image", "predict missing.png"),
        ("goal", "plan synthetic missing.png"),
        ("video", "reconstruct {tmp}/text.mp4"),
        ("image", "predict {tmp}/text.mp4"),
        ("--raymap", "predict synthetic --raymap missing.npy"),
        ("--raymap", "predict synthetic --raymap {tmp}/text.mp4"),
        ("--raymap", "predict synthetic --raymap {tmp}/flat.npy"),
        ("--raymap", "predict synthetic --raymap {tmp}/wrong.npy"),
        ("--camera", "predict synthetic --camera zoom"),
        ("--camera", "predict synthetic --camera dolly-in:far"),
        ("--camera", "predict synthetic --camera dolly-in:nan"),
        ("--camera", "predict synthetic --camera missing.json"),
        ("--camera", "predict synthetic --camera {tmp}/flat.npy"),
        ("--camera", "predict synthetic --camera dolly-in --raymap {tmp}/flat.npy"),
        ("--size", "reconstruct synthetic --size 30x50"),
        ("--frames", "reconstruct synthetic --frames 18"),
        ("--fps", "reconstruct synthetic --fps 13"),
        ("--steps", "reconstruct synthetic --steps 0"),
        ("--steps", "reconstruct synthetic --steps 0 --hero off"),
        ("--guidance", "predict synthetic --guidance nan"),
        ("--guidance", "predict synthetic --guidance 0.5"),
        ("--guidance", "reconstruct synthetic --guidance 3"),
        ("--seed", "reconstruct synthetic --seed -1"),
        ("--device", "reconstruct synthetic --device nonsense"),
        ("--attention", "reconstruct synthetic --device cpu --attention flash"),
        ("--attention", "reconstruct {tmp}/text.mp4 --windows --workers 2 --attention cudnn"),
        ("--attention", "reconstruct {tmp}/text.mp4 --windows --workers 2 --attention auto"),
        ("--model", "reconstruct synthetic --model {tmp}/nowhere"),
        ("--model", "reconstruct synthetic --model {tmp}"),
        ("--hero", "reconstruct synthetic --hero fastest"),
        ("--tau", "reconstruct synthetic --tau 13"),
        ("--tau", "reconstruct synthetic --tau 0"),
        ("--interval", "reconstruct synthetic --interval 0"),
        ("--ratio", "reconstruct synthetic --ratio 2"),
        ("--ratio", "reconstruct synthetic --ratio nan"),
        ("--threshold", "reconstruct synthetic --threshold -1"),
        ("--warmup", "reconstruct synthetic --warmup 0"),
        ("--patch", "reconstruct synthetic --size 32x48 --steps 7 --patch 1x9x9"),
        ("--shallow", "reconstruct synthetic --shallow all"),
        ("--hero-seed", "reconstruct synthetic --hero-seed -2"),
        ("--mask", "reconstruct synthetic --mask 011"),
        ("--setting", "reconstruct synthetic --setting interval=0"),
        ("--setting", "reconstruct synthetic --setting fast"),
        ("--post-reconstruction", "predict synthetic --post-reconstruction 0"),
        ("--camera", "predict synthetic --camera {tmp}/sizes"),
        ("--guidance-skip", "predict synthetic --guidance-skip 2"),
        ("inputs", "compare synthetic synthetic"),
        ("inputs", "compare synthetic --task plan"),
        ("--hero", "compare synthetic --hero off"),
        ("--repeats", "compare synthetic --repeats 0"),
    ],
)
def test_bad_input_names_its_field_and_leaves_nothing(field, arguments, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("not a video")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "wrong.npy", np.zeros((17, 6, 3, 3)))
    (tmp_path / "sizes").mkdir()
    frames = [{"w": w, "h": 10, "fl_x": 9, "transform_matrix": np.eye(4).tolist()} for w in (10, 20)]
    (tmp_path / "sizes" / "transforms.json").write_text(json.dumps({"frames": frames}))
    before = sorted(tmp_path.iterdir())
    assert run(*arguments.format(tmp=tmp_path).split(), out=tmp_path / "deep" / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {field}: ")
    assert sorted(tmp_path.iterdir()) == before


def test_the_help_names_every_camera_file(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    words = capsys.readouterr().out.partition("HERO:")[0].rpartition("--camera ")[2]
    assert all(name in words for name in (*SUFFIXES, "COLMAP", "folder"))


@pytest.mark.parametrize(
    "options, words",
    [
        ("--size 64", "'64' is not HEIGHTxWIDTH, such as 480x720"),
        ("--size axb", "'axb' is not HEIGHTxWIDTH"),
        ("--ratio x", "'x' is neither a number nor a share"),
        ("--ratio 1/0", "'1/0' is neither a number nor a share"),
        ("--feedback x", "'x' is neither a number nor a share"),
        ("--guidance-skip x", "'x' is neither a number nor a share"),
        ("--steps 3.5", "'3.5' is not a whole number"),
        ("--workers two", "'two' is not a whole number"),
        ("--guidance high", "'high' is not a number, such as 1.5"),
        ("--patch 2x3", "'2x3' is not FRAMESxROWSxCOLUMNS, such as 1x2x3"),
    ],
)
def test_malformed_options(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        run("reconstruct", "synthetic", *options.split(), out=tmp_path / "out")
    assert error.value.code == 2
    assert f"error: argument {options.split()[0]}: {words}" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--tau half", "--tau 0.5", "--warmup 1/0", "--cooldown 1/x"])
def test_counts_and_shares_that_are_none_name_the_option(options, tmp_path, capsys):
    assert run("reconstruct", "synthetic", *options.split(), out=tmp_path / "out") == 2
    option, text = options.split()
    assert f"error: {option}: '{text}' is neither a count nor a share" in capsys.readouterr().err


def test_no_option_type_leaves_its_name_to_be_guessed():
    """argparse prints the name of a type that raises anything but its own error."""
    parser = cli.build_parser()
    (commands,) = (action for action in parser._actions if action.choices)
    for command in commands.choices.values():
        for action in command._actions:
            if action.type not in (None, str):  # text is taken as it is
                with pytest.raises(argparse.ArgumentTypeError, match="such as"):
                    action.type("?")


@pytest.mark.slow
def test_folders_are_replaced_only_when_asked_and_only_if_they_hold_a_run(plain, tmp_path, capsys):
    quick = ["--size", "32x48", "--steps", "1", "--hero", "off", "--quiet"]
    first = disparity_of(plain)
    assert run("reconstruct", "synthetic", *quick, out=plain) == 2
    assert "error: --out: " in capsys.readouterr().err
    assert np.array_equal(disparity_of(plain), first)

    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    for command in ("reconstruct", "compare"):
        assert run(command, "synthetic", "--overwrite", out=tmp_path / "diary") == 2
    assert (tmp_path / "diary" / "monday.txt").read_text() == "dear diary"

    assert run("reconstruct", "synthetic", *quick, out=tmp_path / "out") == 0
    capsys.readouterr()
    assert run("reconstruct", "synthetic:1", *quick, "--overwrite", out=tmp_path / "out") == 0
    assert report_of(tmp_path / "out")["inputs"] == {"video": "synthetic:1"}
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"


@pytest.mark.parametrize("command", ["reconstruct", "compare"])
@pytest.mark.parametrize("moment", ["denoising", "writing"])
@pytest.mark.slow
def test_an_interrupt_leaves_nothing(command, moment, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if moment == "denoising":
        monkeypatch.setattr(Console, "steps", lambda self, name: interrupt)
    else:
        monkeypatch.setattr("aether.formats.export.write_ply", interrupt)
    assert run(command, "synthetic", *SMALL, out=tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_little_memory_says_what_to_do(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("aether.run.job.sample", fail)
    assert run("reconstruct", "synthetic", *SMALL, out=tmp_path / "out") == 1
    assert "smaller --size" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bugs_are_not_dressed_up_as_bad_input(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("aether.run.job.sample", fail)
    with pytest.raises(ValueError, match="a bug"):
        run("reconstruct", "synthetic", *SMALL, out=tmp_path / "out")


@pytest.mark.slow
def test_ctrl_c_in_a_real_process(tmp_path):
    command = [
        sys.executable,
        "-m",
        "aether",
        "predict",
        "synthetic",
        "--steps",
        "999",
        "--out",
        str(tmp_path / "out"),
    ]
    root = Path(cli.__file__).parents[1]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background may itself ignore the signal, which a child inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "model: miniature" in process.stdout.readline()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert output.endswith("\ninterrupted; nothing was written\n"), "a line of its own, the last one"
    assert not list(tmp_path.iterdir())
