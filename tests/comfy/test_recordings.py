"""Which recording of HERO Tuner answers the page: that of the same model, sampler, steps and size."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .tuned import STEPS, tuned

MINIATURE = {"loader": "AetherMiniature"}
RUN = {"steps": 50, "batch": 2, "sampler": {"aether": "dpm"}}


class Recording:
    """What is read of a recording: its run, an error for each step of the interval, and a spread."""

    damaged: type[Exception]
    """The pack's own ConfigError."""

    def __init__(self, about: dict[str, str], error: float, spread: float | None = None):
        self.about, self._error, self.spread = about, error, spread

    @classmethod
    def load(cls, path: Path) -> Recording:
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise cls.damaged("recording", "is damaged") from error

    def predict_error(self, config: Any) -> float | None:
        return None if config.threshold else self._error * config.interval


@pytest.fixture
def recordings(part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import folder_paths

    module = part("nodes.bridge.recordings")
    monkeypatch.setattr(module, "Recording", Recording)
    monkeypatch.setattr(Recording, "damaged", part("hero_engine").ConfigError, raising=False)
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    for cached in (module._load, module._run_of):
        cached.cache_clear()
    yield module
    for cached in (module._load, module._run_of):
        cached.cache_clear()


@pytest.fixture
def record(recordings: Any) -> Callable[..., Path]:
    """``record(run, error)`` writes a recording, each newer than the last."""
    times = iter(range(1, 1000))

    def write(run: Any, error: float = 0.01, name: str | None = None, spread: float | None = None) -> Path:
        number = next(times)
        folder = recordings.all_folders() / (name or f"run {number}")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / recordings.RECORDING
        beside = folder / "being written"
        beside.write_text(
            json.dumps({"about": run.about(), "error": error, "spread": spread}), encoding="utf-8"
        )
        os.utime(beside, (number, number))
        return beside.replace(file)

    return write


@pytest.fixture
def run(part: Any) -> Any:
    """The miniature's run that ``ask`` asks about."""
    made = part("nodes.bridge.recorded_run").RecordedRun
    return made("miniature", "", "no", "dpm", 50, 96, 64, 17)


@pytest.fixture
def ask(part: Any, recordings: Any) -> Callable[..., Any]:
    """``accuracy`` of an answer to the page."""
    answer = part("nodes.prediction").answer

    def asked(model: Any = MINIATURE, widgets: Any = None, node: str = "HeroPatch", **run: Any) -> Any:
        request = {"node": node, "widgets": widgets or {}, "model": model, "run": RUN | run}
        return json.loads(json.dumps(answer(request), allow_nan=False))["accuracy"]

    return asked


def unknown(why: str, known: Any = None, wanted: Any = None) -> dict[str, Any]:
    return {"error": None, "spread": None, "why": why, "known": known or {}, "wanted": wanted or {}}


def known(error: float, spread: float | None = None) -> dict[str, Any]:
    return {"error": pytest.approx(error), "spread": spread, "why": None, "known": {}, "wanted": {}}


def test_the_error_of_each_setting(ask: Any, record: Any, run: Any):
    assert ask() == unknown("model")  # not even a folder
    record(run)
    assert ask() == known(0.02)
    assert ask(widgets={"preset": "fast"}) == known(0.04)
    assert ask(widgets={"preset": "custom", "interval": 3}) == known(0.03)
    assert ask(widgets={"preset": "custom", "threshold": 0.2}) == unknown("setting")


def test_how_far_predictions_are_off(ask: Any, record: Any, run: Any):
    record(run, spread=1.5)
    assert ask() == known(0.02, 1.5)
    assert ask(widgets={"preset": "custom", "threshold": 0.2}) == unknown("setting")
    assert ask(steps=20) == unknown("run", {"steps": 50}, {"steps": 20})
    record(run, spread=None)
    assert ask() == known(0.02)


def test_where_nothing_is_said(ask: Any, record: Any, run: Any):
    record(run)
    assert ask(model=None) is None
    assert ask(widgets={"preset": "custom", "interval": 1}) is None
    assert ask(node="HeroMethod", widgets={"method": "fora"}) is None


def test_other_runs_of_the_model_are_named(ask: Any, record: Any, run: Any):
    record(run)
    assert ask(steps=20) == unknown("run", {"steps": 50}, {"steps": 20})
    assert ask(sampler={"aether": "ddim"}) == unknown("run", {"sampler": "dpm"}, {"sampler": "ddim"})
    assert ask(frames=9) == unknown("run", {"size": [96, 64, 17]}, {"size": [96, 64, 9]})
    assert ask(sampler={}, width=48) == unknown(
        "run", {"sampler": "dpm", "size": [96, 64, 17]}, {"sampler": "", "size": [48, 64, 17]}
    )
    assert ask(sampler={"core": "euler", "denoise": 0.5})["wanted"] == {"sampler": "euler with denoise 0.5"}
    record(replace(run, steps=20, sampler="ddim"))
    assert ask(steps=20) == unknown("run", {"sampler": "ddim"}, {"sampler": "dpm"})  # the newer of two
    record(replace(run, steps=30))
    assert ask(steps=20) == unknown("run", {"steps": 30}, {"steps": 20})
    record(replace(run, steps=20), 0.001)
    assert ask(steps=20) == known(0.002)
    assert ask() == known(0.02)


def test_an_unknown_sampler_is_nobodys(ask: Any, record: Any, run: Any):
    record(replace(run, sampler=""))
    assert ask(sampler={}) == unknown("run", {"sampler": ""}, {"sampler": ""})
    assert ask(sampler={"core": "no such sampler"})["why"] == "run"


def test_another_model(ask: Any, record: Any, run: Any):
    record(run)
    for model in (
        {"loader": "AetherLoader", "file": "AetherV1/"},
        {"loader": "AetherLoader"},
        {"loader": "SomeLoader"},
        {"loader": "UNETLoader", "file": "none.safetensors", "kind": "unet"},
        MINIATURE | {"patched": True},
    ):
        assert ask(model=model) == unknown("model")
    for file in ("AetherV1", "sub/AetherV1"):
        record(replace(run, file="AetherV1", width=720, height=480, frames=41))
        found = ask(model={"loader": "AetherLoader", "file": f"{file}.safetensors"})
        assert found == known(0.02)


def test_the_newest_recording_counts(ask: Any, record: Any, run: Any):
    for error in (0.03, 0.01, 0.02):
        record(run, error)
    assert ask() == known(0.04)


def test_a_file_that_changes_is_read_anew(ask: Any, record: Any, run: Any, monkeypatch: pytest.MonkeyPatch):
    reads = []
    load = Recording.load
    monkeypatch.setattr(Recording, "load", lambda path: reads.append(path) or load(path))
    for error in (0.01, 0.02):
        file = record(run, error, "one")
        for preset, interval in (("balanced", 2), ("fast", 4), ("paper-fast", 3)):
            assert ask(widgets={"preset": preset}) == known(error * interval)
    assert reads == [file, file]
    file.unlink()
    assert ask() == unknown("model")


def test_what_cannot_be_read_is_left_out_and_logged_once(
    ask: Any, record: Any, run: Any, recordings: Any, caplog: pytest.LogCaptureFixture
):
    record(run)
    damaged = record(run, 0.5)
    damaged.write_text("{", encoding="utf-8")
    foreign = record(run, 0.5)
    foreign.write_text(json.dumps({"about": {"model": "a pipeline"}, "error": 1}), encoding="utf-8")
    (recordings.all_folders() / "a file").write_text("", encoding="utf-8")
    (recordings.all_folders() / "an empty folder").mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert ask() == known(0.02)
    assert [line for line in caplog.messages if "left out" in line] == [
        f"Aether: {damaged} is left out of predictions: recording: is damaged"
    ]


def test_questions_while_recordings_are_written(ask: Any, record: Any, run: Any):
    """Beside, then put in its place: the answers are of one or the other."""
    record(run, 0.01, "one")
    stop, found = threading.Event(), []

    def questions() -> None:
        while not stop.is_set():
            found.append(ask()["error"])

    asking = [threading.Thread(target=questions) for _ in range(3)]
    for thread in asking:
        thread.start()
    for number in range(50):
        record(run, 0.01 * (1 + number % 2), "one")
        time.sleep(0.01)
    stop.set()
    for thread in asking:
        thread.join()
    assert len(found) > 3
    assert {round(error, 6) for error in found} <= {0.02, 0.04}


def test_no_request_about_a_run_crashes(part: Any, record: Any, run: Any):
    record(run)
    answer = part("nodes.prediction").answer
    for sampler in (None, {}, {"core": 1}, {"aether": []}, {"core": "\0"}, "dpm", 5, [1]):
        found = answer(
            {"node": "HeroPatch", "widgets": {}, "model": MINIATURE, "run": RUN | {"sampler": sampler}}
        )
        if isinstance(sampler, str | int | list):
            assert found["error"]["field"] == "sampler"
        else:
            assert found["accuracy"]["why"] == "run"
    for file in (None, 1, [], "\0", "../x", ""):
        model = {"loader": "UNETLoader", "file": file, "kind": "unet", "patched": file}
        found = answer({"node": "HeroPatch", "widgets": {}, "model": model, "run": RUN})
        assert found["accuracy"]["why"] == "model"


@pytest.mark.slow
def test_a_recording_of_the_engines_own(part: Any, ask: Any, run: Any, recordings: Any, monkeypatch: Any):
    """What HERO Tuner leaves is found, and says of each setting what the engine says."""
    from hero_engine import PRESETS
    from hero_engine.tune import Recording as Own

    monkeypatch.setattr(recordings, "Recording", part("hero_engine.tune").Recording)
    about = replace(run, steps=STEPS).about()
    found = tuned(recordings.all_folders() / "0a1b", about)
    assert found.recording.about == about
    own = Own.load(recordings.all_folders() / "0a1b" / recordings.RECORDING)
    errors = {name: own.predict_error(config) for name, config in PRESETS.items()}
    assert len(set(errors.values())) > 2 and all(0 < error < 1 for error in errors.values())
    for name, error in errors.items():
        assert ask(widgets={"preset": name}, steps=STEPS) == known(error, found.recording.spread)
    (trial,) = found.trials
    setting = {"preset": "balanced", "setting": trial.config.to_text()}
    assert ask(widgets=setting, steps=STEPS)["error"] == pytest.approx(trial.error, rel=1e-3)  # fitted to it
    found = tuned(recordings.all_folders() / "0a1b", about, budget=4)
    assert ask(steps=STEPS)["spread"] == pytest.approx(found.recording.spread) and found.recording.spread > 1
