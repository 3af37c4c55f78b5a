"""Long clips reconstructed in windows: by the library, and on the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aether.cli import commands as cli
from aether.cli.console import Console
from aether.errors import InputError, SamplingStopped
from aether.formats.export import write_run, write_video
from aether.generation.latents import Decoded
from aether.locks import locked
from aether.long import store as window_store
from aether.long.executor import PlainRun, Window, compute_window
from aether.long.reader import array_clip, open_clip
from aether.long.reconstruct import reconstruct
from aether.long.store import WindowStore
from aether.miniature import random_scene, render
from aether.run import job

SIZE = (32, 48)
QUICK = job.Settings(steps=2)
# Equal results make these files equal; how x264 packs equal frames may hang on the machine's load.
EXACT = ("cameras.json", "scene.ply", "contact.png")
FILES = {"rgb.mp4", "depth.mp4", "depth.npz", "cameras.json", "scene.ply", "contact.png", "report.json"}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """40 frames of the synthetic world: four windows of 17."""
    path = tmp_path_factory.mktemp("clips") / "forty.mp4"
    write_video(path, render(random_scene(4), 40, *SIZE, fps=12, samples=1).rgb, 12)
    return path


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "seventeen.mp4"
    write_video(path, render(random_scene(4), 17, *SIZE, fps=12, samples=1).rgb, 12)
    return path


@pytest.fixture
def clip(video):
    return open_clip(video, size=SIZE, length=17)


def arrays_of(result):
    return {name: np.stack(list(getattr(result, name))) for name in ("rgb", "disparity", "raymap")}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def same_files(a, b):
    with np.load(a / "depth.npz") as left, np.load(b / "depth.npz") as right:
        return (
            left.files == right.files
            and same(left, right)
            and all((a / name).read_bytes() == (b / name).read_bytes() for name in EXACT)
        )


class Counter:
    """An accelerator that does nothing but count its sessions and steps."""

    def __init__(self, tau=1):
        self.tau, self.sessions = tau, 0

    def settings(self):
        return {"tau": self.tau}

    def session(self, model, steps):
        self.sessions += 1
        return nullcontext()

    def to_dict(self):
        return {"config": self.settings(), "steps": 2, "full_steps": 1, "cached_steps": 1, "forwards": [1, 2]}

    def total(self, reports):
        steps = sum(report["steps"] for report in reports)
        return {"runs": len(reports), "steps": steps, "forwards": [], "summary": f"{steps} steps\nmore"}

    def picture(self, report):
        return f"{report.get('runs', 1)} runs".encode()


def write(out, result):
    return write_run(
        out,
        result,
        result.merge.cameras,
        result.clip.fps,
        report=result.report,
        report_png=result.picture,
        source=result.source,
        notes=result.report["notes"],
    )


@pytest.fixture(scope="module")
def whole(model, video, tmp_path_factory):
    """An uninterrupted run: arrays, and the folder of its files."""
    folder = tmp_path_factory.mktemp("whole")
    clip = open_clip(video, size=SIZE, length=17)
    result = reconstruct(model, clip, QUICK, folder / "out.windows")
    write(folder / "out", result)
    return arrays_of(result), folder / "out", result


@pytest.mark.slow
def test_all_frames_come_out_in_one_world(whole):
    arrays, folder, result = whole
    assert arrays["rgb"].shape == (40, *SIZE, 3) and arrays["rgb"].dtype == np.uint8
    assert arrays["disparity"].shape == (40, *SIZE) and arrays["raymap"].shape == (40, 6, 4, 6)
    assert result.clip.starts == (0, 10, 20, 23) and len(result.merge.alignments) == 4
    assert {path.name for path in folder.iterdir()} == FILES
    report = json.loads((folder / "report.json").read_text())
    assert [window["start"] for window in report["windows"]] == [0, 10, 20, 23]
    assert report["settings"] | {"frames": 40, "window": 17, "stride": 10, "steps": 2} == report["settings"]
    with np.load(folder / "depth.npz") as file:
        assert np.array_equal(file["disparity"], arrays["disparity"])
        assert np.array_equal(file["raymap"], arrays["raymap"])
        assert np.array_equal(file["depth"], (1 / arrays["disparity"].clip(1e-3, 1)).astype(np.float32))
    assert len(json.loads((folder / "cameras.json").read_text())["frames"]) == 40


def test_every_window_is_a_plain_run(model, whole, clip):
    """Frames that only the last window sees are its own, but for the unit."""
    arrays, _, result = whole
    frames = dict(clip.windows())[3]
    inputs = job.Inputs("reconstruction", {"video": ""}, {"video": frames}, 17, *SIZE, 12)
    plain = job.run(model, inputs, QUICK).decoded
    factor = np.float32(result.merge.alignments[3].disparity / result.merge.unit)
    assert np.array_equal(arrays["rgb"][37:], (plain.rgb[14:] * 255 + 0.5).astype(np.uint8))
    assert np.array_equal(arrays["disparity"][37:], factor * plain.disparity[14:])


def test_one_window_changes_nothing(model, short, tmp_path):
    clip = open_clip(short, size=SIZE)
    result = reconstruct(model, clip, QUICK, tmp_path / "work")
    inputs = job.gather(model, "reconstruction", {"video": str(short)}, size=SIZE)
    plain = job.run(model, inputs, QUICK)
    arrays = arrays_of(result)
    assert np.array_equal(arrays["disparity"], plain.decoded.disparity)
    assert np.array_equal(arrays["raymap"], plain.decoded.raymap)
    assert np.array_equal(arrays["rgb"], (plain.decoded.rgb * 255 + 0.5).astype(np.uint8))
    assert np.array_equal(result.merge.cameras.poses, plain.cameras.poses)
    assert np.array_equal(result.merge.cameras.intrinsics, plain.cameras.intrinsics)
    source = inputs.pictures["video"]
    write_run(tmp_path / "plain", plain.decoded, plain.cameras, 12, notes=inputs.notes, source=source)
    write(tmp_path / "long", result)
    assert same_files(tmp_path / "plain", tmp_path / "long")


class Stop:
    """A callback that ends the run at a moment, by returning False or as Ctrl-C does."""

    def __init__(self, window, step=None, interrupt=False):
        self.window, self.step, self.interrupt, self.seen = window, step, interrupt, []

    def __call__(self, progress):
        step = None if progress.step is None else progress.step.index
        self.seen.append((progress.window, step))
        if (progress.window, step) == (self.window, self.step):
            if self.interrupt:
                raise KeyboardInterrupt
            return False
        return None


@pytest.mark.parametrize(
    "window, step",
    [
        pytest.param(0, 1, marks=pytest.mark.slow),
        (1, None),
        pytest.param(2, 0, marks=pytest.mark.slow),
        (3, 1),
    ],
)
@pytest.mark.parametrize("interrupt", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_and_ends_the_same(window, step, interrupt, model, clip, whole, tmp_path):
    stop = Stop(window, step, interrupt)
    with pytest.raises(KeyboardInterrupt if interrupt else SamplingStopped):
        reconstruct(model, clip, QUICK, tmp_path / "work", callback=stop)
    kept = [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert sorted(kept) == [f"window-{w:05d}.safetensors" for w in range(window)]
    rest = Stop(9)
    result = reconstruct(model, clip, QUICK, tmp_path / "work", callback=rest)
    assert result.resumed == window
    assert rest.seen == [(w, s) for w in range(window, 4) for s in (None, 0, 1)]
    assert same(arrays_of(result), whole[0])
    write(tmp_path / "out", result)
    assert same_files(tmp_path / "out", whole[1])
    result.store.remove()
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_changed_setting_or_model_starts_afresh(model, video, clip, tmp_path):
    work = tmp_path / "work"

    def again(model=model, clip=clip, settings=QUICK, accelerator=None):
        return reconstruct(model, clip, settings, work, accelerator=accelerator).resumed

    assert again() == 0 and again() == 4
    assert again(settings=replace(QUICK, seed=1)) == 0
    assert again(settings=replace(QUICK, steps=1)) == 0
    assert again(clip=open_clip(video, size=SIZE, length=17, stride=12)) == 0
    assert again(accelerator=Counter()) == 0 and again(accelerator=Counter(2)) == 0
    assert again(model=replace(model, prompt_embeds=model.prompt_embeds * 2)) == 0
    assert again() == 4, "the first setting's windows are still there"


def test_each_window_has_a_session_of_its_own(model, clip, tmp_path):
    counter = Counter()
    said = []
    result = reconstruct(model, clip, QUICK, tmp_path / "work", accelerator=counter, say=said.append)
    assert counter.sessions == 4
    assert said == [f"window {window} of 4: 2 steps" for window in (1, 2, 3, 4)]
    assert result.report["hero"] == {"runs": 4, "steps": 8, "summary": "8 steps\nmore"}
    assert [window["hero"]["forwards"] for window in result.report["windows"]] == [[1, 2]] * 4
    assert result.picture == b"4 runs"
    said.clear()
    again = reconstruct(model, clip, QUICK, tmp_path / "work", accelerator=Counter(), say=said.append)
    assert said == ["4 of 4 windows were finished before and are reused"] and again.picture == b"4 runs"


def test_the_contact_sheet_shows_the_input_of_the_whole_clip(whole, clip):
    source = whole[2].source
    pictures = {
        start + n: p for w, ps in clip.windows() for start in [clip.starts[w]] for n, p in enumerate(ps)
    }
    for frame in (0, 8, 16, 23, 31, 39):
        assert np.array_equal(source[frame], pictures[frame])
    assert source.shape == (40, *SIZE, 3)


def test_a_window_is_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    store = WindowStore(tmp_path / "work", {"a": 1})
    rng = np.random.default_rng(0)
    decoded = Decoded(
        rng.random((17, 16, 24, 3), np.float32),
        rng.random((17, 16, 24), np.float32),
        rng.random((17, 6, 2, 3), np.float32),
    )
    shape = (17, 16, 24)

    def break_(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", break_)
        with pytest.raises(OSError, match="space"):
            store.save(0, decoded, {"x": 1})
    assert not list(store.folder.iterdir()) and store.finished(2, shape) == set()
    store.save(1, decoded, {"x": 1})
    assert store.finished(2, shape) == {1} and store.report(1) == {"x": 1}
    assert store.finished(2, (17, 16, 16)) == set()
    assert np.array_equal(store.array(1, "disparity")[3], decoded.disparity[3])
    assert np.array_equal(store.array(1, "raymap")[2:4], decoded.raymap[2:4])

    content = store.path(1).read_bytes()
    for cut in (0, 7, 100, len(content) // 2, len(content) - 1):
        store.path(1).write_bytes(content[:cut])
        assert store.finished(2, shape) == set(), cut
    (store.folder / ".window-00000.abc.part").write_bytes(content)
    assert not list(WindowStore(tmp_path / "work", {"a": 1}).folder.glob(".*"))
    assert WindowStore(tmp_path / "work", {"a": 2}).finished(2, shape) == set()


def test_nan_is_not_kept(tmp_path):
    store = WindowStore(tmp_path / "work", {})
    ones = np.ones((2, 8, 8), np.float32)
    bad = Decoded(np.ones((2, 8, 8, 3), np.float32), ones * np.nan, np.ones((2, 6, 1, 1), np.float32))
    with pytest.raises(InputError, match="NaN") as error:
        store.save(0, bad, {})
    assert error.value.field == "disparity" and not store.work.exists()


def test_a_full_disk_is_seen_before_anything_runs(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(window_store.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match="GB beside the output") as error:
        reconstruct(model, clip, QUICK, tmp_path / "work")
    assert error.value.field == "out" and not list(tmp_path.iterdir())


# The command line

SMALL = ["--size", "32x48", "--steps", "2", "--hero", "off", "--device", "cpu"]


def run(*arguments, out):
    return cli.main(["reconstruct", *map(str, arguments), "--out", str(out)])


@pytest.mark.slow
def test_windows_on_the_command_line(video, tmp_path, capsys):
    halves = ["--warmup", 1, "--cooldown", 0]
    assert run(video, *SMALL[:4], *halves, "--windows", "--stride", 12, out=tmp_path / "out") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"report.png"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [window["start"] for window in report["windows"]] == [0, 12, 23]
    assert [window["hero"]["full_steps"] for window in report["windows"]] == [1, 1, 1]
    assert (report["hero"]["full_steps"], report["hero"]["cached_steps"]) == (3, 3)
    assert report["hero"]["runs"] == 3 and report["hero"]["predicted_speedup"] > 1
    assert "forwards" not in report["hero"] and len(report["windows"][2]["hero"]["forwards"]) == 2
    printed = capsys.readouterr()
    assert "40 frames of 48 x 32 at 12 fps" in printed.out and "3 windows of 17 frames" in printed.out
    assert "memory: weights" in printed.out and "cached by HERO at most" in printed.out
    assert "window 3 of 3: HERO: 1 full / 1 cached steps" in printed.out
    assert "HERO: 3 full / 3 cached steps in 3 runs" in printed.out and "bound by FLOPs" in printed.out
    assert "window 3 of 3" in printed.err and "6/6" in printed.err


@pytest.mark.slow
def test_ctrl_c_ends_the_bar_and_says_what_is_kept(video, tmp_path, capsys, monkeypatch):
    class Interrupted(Console):
        def windows(self):
            draw = super().windows()

            def advance(progress):
                draw(progress)
                if progress.window == 1 and progress.step is not None:
                    raise KeyboardInterrupt

            return advance

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(cli, "Console", Interrupted)
        assert run(video, *SMALL, "--windows", out=out) == 130
    last = capsys.readouterr().err.rpartition("\n")[0].splitlines()
    work = tmp_path / "out.windows"
    assert last[-1] == (
        f"interrupted; 1 finished window is kept in {work}; the same command goes on from there"
    )
    assert last[-2].endswith("step/s]") or last[-2].endswith("s/step]")
    assert [path.name for path in tmp_path.iterdir()] == ["out.windows"]
    assert run(video, *SMALL, "--windows", out=out) == 0
    assert "1 of 4 windows were finished before and are reused" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_commands_do_not_work_on_one_folder(video, tmp_path, capsys):
    with locked(tmp_path / "out.windows"):
        assert run(video, *SMALL, "--windows", out=tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        f"error: --out: {tmp_path / 'out.windows'} is in use by another command (process "
    )
    assert f"process {os.getpid()} on " in error
    assert not list(tmp_path.iterdir())


def test_a_clip_that_is_longer_is_offered_windows(video, tmp_path, capsys):
    assert run(video, *SMALL, out=tmp_path / "out") == 0
    assert "hint: --windows reconstructs the whole clip" in capsys.readouterr().out


@pytest.mark.slow
def test_a_clip_of_one_window_is_a_plain_run(short, tmp_path, capsys):
    assert run(short, *SMALL, out=tmp_path / "plain") == 0
    assert "--windows" not in capsys.readouterr().out
    assert run(short, *SMALL, "--windows", out=tmp_path / "long") == 0
    assert same_files(tmp_path / "plain", tmp_path / "long")


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept(video, tmp_path, capsys, monkeypatch):
    for stop, words in ((Stop(0, 1, True), "nothing was written"), (Stop(2, 0, True), "goes on from there")):
        with monkeypatch.context() as patched:
            patched.setattr(cli.Console, "windows", lambda self, stop=stop: stop)
            assert run(video, *SMALL, "--windows", out=tmp_path / "out") == 130
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert run(video, *SMALL, "--windows", out=tmp_path / "out") == 0
    assert "2 of 4 windows were finished before" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_tiles_on_the_command_line(tmp_path, capsys):
    """Five thirds of a tile wide, in time one window."""
    wide = tmp_path / "wide.mp4"
    write_video(wide, render(random_scene(4), 17, 32, 80, fps=12, samples=1).rgb, 12)
    halves = [*SMALL[:4], "--warmup", 1, "--cooldown", 0]
    assert run(wide, *halves, "--windows", "--tiles", out=tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "1 windows of 17 frames, each in 2 tiles" in printed
    assert "window 1 of 1: HERO: 2 full / 2 cached steps in 2 runs" in printed
    with np.load(tmp_path / "out" / "depth.npz") as file:
        assert file["depth"].shape == (17, 32, 80) and file["raymap"].shape == (17, 6, 4, 10)
    cameras = json.loads((tmp_path / "out" / "cameras.json").read_text())
    assert (cameras["height"], cameras["width"]) == (32, 80)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (window,) = report["windows"]
    assert report["hero"]["runs"] == 2 and [len(t["hero"]["forwards"]) for t in window["tiles"]] == [2, 2]
    assert [tile["start"] for tile in window["tiles"]] == [0, 32]
    assert max(tile["disparity_scale"] for tile in window["tiles"]) == 1


def test_each_tile_is_a_plain_run(model):
    """Columns that one tile alone sees are its own, but for the unit; steps of tiles count."""
    frames = render(random_scene(4), 17, 32, 80, fps=12, samples=1).rgb
    clip = array_clip(frames, size=SIZE, tiled=True)
    assert clip.size == (32, 80) and clip.model_size == SIZE
    (_, whole), seen = next(clip.windows()), []
    inputs = job.Inputs("reconstruction", {}, {"video": whole}, 17, *clip.size, 12)
    compute = PlainRun(model, QUICK, Counter())
    decoded, report = compute_window(compute, Window(0, inputs, clip.tiles), seen.append)
    alone = replace(inputs, pictures={"video": np.ascontiguousarray(whole[:, :, 32:])}, width=48)
    plain = job.run(model, alone, QUICK).decoded
    scale = np.float32(report["tiles"][1]["disparity_scale"])
    assert np.array_equal(decoded.rgb[:, :, 48:], plain.rgb[:, :, 16:])
    assert np.allclose(decoded.disparity[:, :, 48:], scale * plain.disparity[:, :, 16:], rtol=1e-5)
    assert len(seen) == 4 and report["hero"]["steps"] == 4 and report["settings"]["tile"] == [32, 48]


@pytest.mark.parametrize(
    "field, options",
    [
        ("stride", "--stride 12"),
        ("tiles", "--tiles"),
        ("workers", "--workers 2"),
        ("ray", "--ray auto"),
        ("stride", "--windows --stride 17"),
        ("stride", "--windows --stride 0"),
        ("frames", "--windows --frames 18"),
        ("size", "--windows --size 30x50"),
        ("raymap", "--windows --raymap path.npy"),
        ("guidance", "--windows --guidance 2"),
        ("seed", "--windows --seed -1"),
    ],
)
def test_bad_options(field, options, video, tmp_path, capsys):
    small = SMALL[2:] if "--size" in options else SMALL
    assert run(video, *small, *options.split(), out=tmp_path / "out") == 2
    assert f"error: --{field}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rendered_clips_have_no_windows(tmp_path, capsys):
    assert run("synthetic:3", *SMALL, "--windows", out=tmp_path / "out") == 2
    assert "error: video: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_leaves_whole_windows_and_the_next_goes_on(video, tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    small = [*SMALL, "--steps", "12", "--windows"]  # long enough to be killed before its end
    command = [sys.executable, "-m", "aether", "reconstruct", str(video), *small]
    root = Path(cli.__file__).parents[1]
    process = subprocess.Popen([*command, "--out", str(killed)], cwd=root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("killed.windows/*/window-00001*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    assert run(video, *small, out=killed) == 0
    assert "were finished before and are reused" in capsys.readouterr().out
    assert run(video, *small, out=whole) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    assert same_files(tmp_path / "killed", tmp_path / "whole")
