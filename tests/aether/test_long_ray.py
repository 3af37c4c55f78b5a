"""Windows shared among two workers of Ray on this machine."""

import os
import signal
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from aether.cli import commands as cli
from aether.errors import InputError, SamplingStopped
from aether.formats.export import write_video
from aether.long import ray_executor as ray_windows
from aether.long.ray_executor import RayWindows
from aether.long.reader import array_clip
from aether.long.reconstruct import reconstruct
from aether.miniature import random_scene, render
from aether.run import job

ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray): no windows on workers")

pytestmark = pytest.mark.slow
SIZE = (32, 48)
QUICK = job.Settings(steps=2)


class Deadly:
    """An accelerator that kills its process some times, which it counts by files."""

    def __init__(self, folder, times):
        self.folder, self.times = folder, times

    def session(self, model, steps):
        deaths = len(list(self.folder.iterdir()))
        if deaths < self.times:
            (self.folder / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return nullcontext()

    def settings(self):
        return {}

    def to_dict(self):
        return {"pid": os.getpid()}

    def total(self, reports):
        return {"summary": ""}

    def picture(self, report):
        return b""


@pytest.fixture(scope="module", autouse=True)
def fair_share():
    """Ray's workers are as nice as can be; beside tests in other processes they would never be done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def cluster(fair_share):
    """One for all tests. Workers do not know this module: its classes are sent along."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def clip():
    frames = render(random_scene(4), 34, *SIZE, fps=12, samples=1).rgb
    return array_clip(frames, size=SIZE, length=17)


def arrays_of(result):
    return {name: np.stack(list(getattr(result, name))) for name in ("rgb", "disparity", "raymap")}


@pytest.fixture(scope="module")
def serial(model, clip, tmp_path_factory):
    return arrays_of(reconstruct(model, clip, QUICK, tmp_path_factory.mktemp("serial")))


def test_on_the_command_line(tmp_path, capsys):
    """With a cluster of its own, which ends with the run."""
    path = tmp_path / "film.mp4"
    write_video(path, render(random_scene(4), 27, *SIZE, fps=12, samples=1).rgb, 12)
    small = ["--size", "32x48", "--steps", "2", "--hero", "off", "--device", "cpu", "--windows"]
    for name, options in (("serial", []), ("ray", ["--workers", "1"])):
        out = str(tmp_path / name)
        assert cli.main(["reconstruct", str(path), *small, *options, "--out", out]) == 0
    assert not ray.is_initialized()
    one, other = (np.load(tmp_path / name / "depth.npz") for name in ("serial", "ray"))
    assert all(np.abs(one[name] - other[name]).max() <= 1e-5 for name in ("disparity", "raymap"))
    assert cli.main(["reconstruct", str(path), *small, "--workers", "0", "--out", str(tmp_path / "bad")]) == 2
    assert "error: --workers: " in capsys.readouterr().err


def test_two_workers_give_what_one_process_gives(cluster, model, clip, serial, tmp_path):
    """Though one of them is killed within its first window."""
    (tmp_path / "deaths").mkdir()
    seen = []
    result = reconstruct(
        model,
        clip,
        QUICK,
        tmp_path / "work",
        accelerator=Deadly(tmp_path / "deaths", 1),
        executor=RayWindows(2, device="cpu"),
        callback=lambda progress: seen.append((progress.window, progress.done)),
    )
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert len(clip.starts) == 3 and seen[-1][1] == 6
    pids = {result.store.report(window)["hero"]["pid"] for window in range(3)}
    assert os.getpid() not in pids and len(pids) == 2
    for name, array in arrays_of(result).items():
        # RGB is kept in 8 bits.
        assert np.abs(array.astype(float) - serial[name]).max() <= (1 if name == "rgb" else 1e-5)
    assert ray.is_initialized(), "a cluster that was there before stays"


def test_a_window_that_always_kills_ends_the_run(cluster, model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_windows, "RETRIES", 1)
    (tmp_path / "deaths").mkdir()
    deadly = Deadly(tmp_path / "deaths", 99)
    with pytest.raises(RuntimeError, match="worker died 2 times"):
        reconstruct(
            model,
            clip,
            QUICK,
            tmp_path / "work",
            accelerator=deadly,
            executor=RayWindows(1, device="cpu"),
        )
    assert len(list((tmp_path / "deaths").iterdir())) == 2


def test_a_stopped_run_keeps_what_is_finished(cluster, model, clip, serial, tmp_path):
    """And this process finishes the rest."""
    executor = RayWindows(1, device="cpu")
    with pytest.raises(SamplingStopped):
        reconstruct(
            model, clip, QUICK, tmp_path, executor=executor, callback=lambda progress: progress.done < 4
        )
    result = reconstruct(model, clip, QUICK, tmp_path)
    assert result.resumed == 1
    assert np.abs(arrays_of(result)["disparity"] - serial["disparity"]).max() <= 1e-5


def test_errors_of_workers_are_the_runs(cluster, model, clip, tmp_path):
    with pytest.raises(InputError) as error:
        reconstruct(
            model, clip, job.Settings(steps=2, guidance=2), tmp_path, executor=RayWindows(1, device="cpu")
        )
    assert error.value.field == "guidance"


@pytest.mark.parametrize(
    "field, options",
    [
        ("workers", {"workers": 0}),
        ("workers", {"workers": 1.5}),
        ("workers", {"workers": 3, "device": "cpu"}),
        ("workers", {"device": "cpu"}),
        ("device", {"device": "mps"}),
    ],
)
def test_bad_values(field, options, cluster, model, clip, tmp_path):
    with pytest.raises(InputError) as error:
        reconstruct(model, clip, QUICK, tmp_path, executor=RayWindows(**options))
    assert error.value.field == field
