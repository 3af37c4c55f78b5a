"""The recordings that HERO Tuner left in ComfyUI's user folder, and the error that they predict."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...hero_engine import ConfigError, HeroConfig
from ...hero_engine.tune import Recording
from ...hero_engine.tune.store import RECORDING
from .measurements import all_folders
from .recorded_run import RecordedRun

_READY, _REMEMBERED = 4, 256
"""Recordings kept in memory, a few MB each, and those of which only the run is remembered."""


@dataclass(frozen=True)
class PredictedError:
    """What the recordings say of a setting.

    Attributes:
        error: relative error of the final latent, None where it is not known.
        spread: factor by which the recording's predictions are off on average; None where it is not known.
        why: None where it is known; "model": no recording of this model; "run": only of other runs of it;
            "setting": what is recorded cannot judge this setting.
        known, wanted: with "run", what is different in the newest of the closest recordings, and what it is
            in the run asked about: "sampler", "steps", "size" ([width, height, frames]).
    """

    error: float | None
    why: str | None = None
    known: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)
    spread: float | None = None


def predict_error(run: RecordedRun, config: HeroConfig) -> PredictedError:
    """The error of a setting in a run, by the newest recording of the same run.

    A file that is damaged, or being written, counts as none and is logged once. What files hold is remembered
    until they change.
    """
    of_model = [(file, found) for file, found in _newest_first() if run.has_model_of(found)]
    if not of_model:
        return PredictedError(None, "model")
    # Stable: of those that are equally close the newest stays first.
    file, closest = min(of_model, key=lambda one: len(run.differences(one[1])))
    wanted = run.differences(closest)
    if wanted:
        known = {name: value for name, value in closest.compared().items() if name in wanted}
        return PredictedError(None, "run", known, wanted)
    recording = _load(*file)
    error = None if recording is None else _predicted(recording, config)
    if recording is None or error is None:
        return PredictedError(None, "setting")
    return PredictedError(error, spread=recording.spread)


def last_folder() -> Path | None:
    """The folder of the newest recording; None where there is none."""
    newest = max(_files(), key=lambda file: file[1], default=None)
    return None if newest is None else newest[0].parent


_Stamped = tuple[Path, int, int]
"""A file, when it was changed in ns, and its bytes."""


def _newest_first() -> Iterator[tuple[_Stamped, RecordedRun]]:
    files = sorted(_files(), key=lambda file: file[1], reverse=True)
    for file in files[:_REMEMBERED]:
        run = _run_of(*file)
        if run is not None:
            yield file, run


def _files() -> Iterator[_Stamped]:
    for path in all_folders().glob(f"*/{RECORDING}"):
        try:
            found = path.stat()
        except OSError:  # removed meanwhile
            continue
        yield path, found.st_mtime_ns, found.st_size


@functools.lru_cache(_REMEMBERED)
def _run_of(path: Path, changed: int, size: int) -> RecordedRun | None:
    recording = _load(path, changed, size)
    return None if recording is None else RecordedRun.read(recording.about)


@functools.lru_cache(_READY)
def _load(path: Path, changed: int, size: int) -> Recording | None:
    try:
        return Recording.load(path)
    except (ConfigError, OSError) as error:
        logging.warning("Aether: %s is left out of predictions: %s", path, error)
        return None


def _predicted(recording: Recording, config: HeroConfig) -> float | None:
    try:
        return recording.predict_error(config)
    except ConfigError as error:
        logging.info("Aether: the recording cannot judge these settings (%s)", error)
        return None
