"""`python -m aether tune`: a setting of HERO for a speed or an error."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..defaults import TASKS
from ..errors import InputError
from .console import Console
from .hero import Hero
from .kept import reporting_kept
from .model import Work, prepare
from .parser import listed_inputs

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hero_engine.tune import Progress, Target, Tuning

    from ..generation.sampling import StepInfo
    from ..run.job import Inputs


def run_tuning(arguments: argparse.Namespace, console: Console) -> None:
    """Tune in a folder, or go on with what it holds.

    Raises:
        InputError, ConfigError: an input or a setting that cannot be used; the folder holds something else.
    """
    from hero_engine.tune.store import REFERENCE

    from ..formats.export import check_out_dir
    from ..locks import locked
    from ..run import job

    target = _checked_target(arguments)
    task, sources = listed_inputs(arguments)
    _check_counts(arguments, task)
    # The first file of a tuning.
    folder = check_out_dir(arguments.out, overwrite=True, marks=(REFERENCE,))
    job.check_sources(sources)
    with locked(folder) as unlocked:
        if unlocked:
            console.say(f"note: out: {unlocked}")
        work = prepare(arguments, console, task, None)
        found = _tune(work, work.gather(sources), target, folder)
    console.say(f"\n{found.table()}\n\n{found.summary()}\n\n{folder}: tuning.json, tuning.png")
    if arguments.quiet and not found.reached:
        console.note(found.summary())
    console.answer(found.setting)


def _checked_target(arguments: argparse.Namespace) -> Target:
    from hero_engine import ConfigError
    from hero_engine.tune import Target

    if arguments.speed is not None:
        return Target(speed=arguments.speed)
    try:
        return Target(error=arguments.error / 100)
    except ConfigError as error:
        wanted = "use a percentage above 0 and up to 100"
        raise InputError("error", f"{arguments.error:g} is out of range; {wanted}") from error


def _check_counts(arguments: argparse.Namespace, task: str) -> None:
    """Refuse numbers of runs and steps before a model is loaded for nothing."""
    from hero_engine.tune.recorder import check_steps
    from hero_engine.tune.tuner import check_budget

    check_budget(arguments.budget)
    check_steps(TASKS[task].accelerated_steps if arguments.steps is None else arguments.steps)


def _tune(work: Work, inputs: Inputs, target: Target, folder: Path) -> Tuning:
    """Make the runs, and write what was found."""
    from hero_engine import HeroConfig
    from hero_engine.tune import tune
    from hero_engine.tune.store import finished_runs

    from ..generation.latents import split
    from ..run import job
    from ..run.repeated import RepeatedRun

    model, settings, console = work.model, work.settings, work.console
    show = _Show(console)
    if work.arguments.compile:
        hero = Hero(HeroConfig.preset("balanced"))
        job.rehearse(model, inputs, settings, hero, console.steps("compiling"))
    runs = RepeatedRun(model, inputs, settings)

    def run(session: Any) -> torch.Tensor:
        opened = session(model.transformer, settings.steps, model.scheduler)
        return runs.latent(opened, show.step)

    with reporting_kept(console, folder, lambda: finished_runs(folder) if show.began else 0, "run"):
        found = tune(
            run,
            target,
            work.arguments.budget,
            folder=folder,
            streams=lambda latent: split(model.spec, latent)._asdict(),
            progress=show.begin,
            about=_about(work, inputs),
        )
        _write(found, folder)
    return found


class _Show:
    """Progress: a bar for each run.

    Attributes:
        began: whether a run has begun.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.began = False

    def begin(self, run: Progress) -> None:
        """A run begins."""
        self.began = True
        self._step = self._console.steps(f"run {run.number} of {run.total}, {run.text}")

    def step(self, info: StepInfo) -> None:
        """A step of it is done."""
        self._step(info)


def _about(work: Work, inputs: Inputs) -> dict[str, str]:
    """All that the runs hang on, by name: runs in the folder must have the same."""
    from hero_engine.tune import weights_digest

    model, settings = work.model, work.settings
    guidance = TASKS[work.task].default_guidance if settings.guidance is None else settings.guidance
    return {
        "task": work.task,
        **{name: _named(inputs.sources[name], pictures) for name, pictures in inputs.pictures.items()},
        "camera path": "none" if inputs.raymap is None else _digest(inputs.raymap),
        "size": f"{inputs.frames} frames of {inputs.width} x {inputs.height} at {inputs.fps} fps",
        "steps": str(settings.steps),
        "scheduler": type(model.scheduler).__name__,
        "guidance": f"{guidance:g}, skipped up to 1 + {settings.guidance_skip:g}",
        "seed": str(settings.seed),
        "model": f"{model.name} with weights {weights_digest(model.transformer)}",
        "VAE": weights_digest(model.vae),
        "device": f"{model.device.type}, {model.dtype}, attention {work.arguments.attention}",
    }


def _named(source: str, pictures: np.ndarray) -> str:
    return f"{Path(source).name} ({_digest(pictures)})"


def _digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.tobytes()).hexdigest()[:8]


def _write(found: Tuning, folder: Path) -> None:
    from hero_engine import tuning_png

    from ..files import write_file

    document: Mapping[str, Any] = {"run": found.recording.about, **found.to_dict()}
    write_file(folder / "tuning.json", json.dumps(document, indent=1))
    write_file(folder / "tuning.png", tuning_png(found))
