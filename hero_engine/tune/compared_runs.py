"""Runs that are compared with a recorded one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..hero.config import HeroConfig
from ..relative_error import relative_error
from ..run import HeroRun
from ..sampling import is_pipeline
from ..session import hero_session
from ..settings import MethodConfig
from .recorder import RecordingConfig
from .recording import Recording
from .sameness import Fingerprints, check_same
from .store import Measured
from .trials import Trial

_WHOLE = "whole latent"


class Session(Protocol):
    """Puts what a run is for on a model, as :func:`~hero_engine.hero_session` does without its ``config``."""

    def __call__(
        self, model: Any, steps: int | None = None, scheduler: Any = None
    ) -> AbstractContextManager[HeroRun]: ...


Runner = Callable[[Session], Tensor]
Streams = Callable[[Tensor], Mapping[str, Tensor]]


class ComparedRuns:
    """Makes runs.

    Args:
        run, streams: see :func:`~hero_engine.tune.tune`.
    """

    def __init__(self, run: Runner, streams: Streams | None = None):
        self._run, self._streams = run, streams

    def record(self, about: Mapping[str, str] | None = None) -> Measured:
        """Make the unaccelerated run, and record it.

        Args:
            about: what is kept with the recording.

        Raises:
            ConfigError: it gives NaN or infinite values (field ``"model"``).
        """
        session = _TrialSession(RecordingConfig())
        latent = self._latent(session)
        method: Any = session.finished().method
        recording = replace(method.recording(), about=dict(about or {}))
        if not torch.isfinite(latent).all():
            raise ConfigError("model", "the unaccelerated run gives NaN or infinite values")
        return Measured(recording, latent, session.fingerprints.array(), [])

    def trial(self, measured: Measured, config: HeroConfig) -> Trial:
        """Make a run with a setting, and compare it.

        Raises:
            ConfigError: it is another run than the recorded one.
        """
        predicted = measured.recording.predict_error(config)
        session = _TrialSession(config, measured.recording)
        latent = self._latent(session)
        report = session.finished().report
        _check_size(latent, measured.latent)
        strip = tuple(report.strip)
        first_cached = strip.index(False) if False in strip else len(strip)
        check_same(session.fingerprints.array(), measured.fingerprints, first_cached)
        errors = self._errors(latent, measured.latent)
        return Trial(
            config=session.config,
            error=errors.pop(_WHOLE),
            errors=errors,
            predicted_error=predicted,
            speedup=report.predicted_speedup,
            clock=report.measured_speedup,
            strip=strip,
        )

    def _latent(self, session: _TrialSession) -> Tensor:
        """The result of a run."""
        latent: Any = self._run(session)
        if not isinstance(latent, Tensor):
            raise ConfigError(
                "run", f"returned {type(latent).__name__}, not the final latent as a tensor; return that"
            )
        return latent.detach().cpu()

    def _errors(self, latent: Tensor, reference: Tensor) -> dict[str, float]:
        """Relative errors of the whole and of each stream; infinite where there are other values than
        numbers."""
        pairs = {_WHOLE: (latent, reference)}
        if self._streams:
            other = self._streams(reference)
            pairs |= {name: (one, other[name]) for name, one in self._streams(latent).items()}
        errors = {name: relative_error(*pair) for name, pair in pairs.items()}
        return {name: error if math.isfinite(error) else math.inf for name, error in errors.items()}


def _check_size(latent: Tensor, reference: Tensor) -> None:
    if latent.shape != reference.shape:
        raise ConfigError(
            "run",
            f"gave a latent of {tuple(latent.shape)}, not {tuple(reference.shape)} as recorded: each run "
            "must have the same size",
        )


class _TrialSession:
    """The session that a run is given.

    Args:
        config: what is put on the model. Error feedback is left out where no scheduler is passed.
        recording: of the model that it must be; None for any.

    Attributes:
        config: what was put on it.
        fingerprints: of the run's latents.
    """

    def __init__(self, config: MethodConfig, recording: Recording | None = None):
        self.config: Any = config
        self._recording = recording
        self.fingerprints = Fingerprints()
        self._hero: HeroRun | None = None

    @contextmanager
    def __call__(self, model: Any, steps: int | None = None, scheduler: Any = None) -> Iterator[HeroRun]:
        if scheduler is None and not is_pipeline(model):
            self.config = _without_feedback(self.config)
        with hero_session(model, self.config, steps, scheduler) as hero:
            self._check(hero)
            hero.observer = self.fingerprints
            self._hero = hero
            yield hero

    def _check(self, hero: HeroRun) -> None:
        """Refuse another model than the recorded one before it runs."""
        adapter, recording = hero.method.adapter, self._recording
        found = f"{len(adapter.blocks)} blocks of {type(adapter.model).__name__}"
        if recording and found != f"{recording.blocks} blocks of {recording.model}":
            raise ConfigError(
                "model",
                f"has {found}, and the recording is of {recording.blocks} of {recording.model}; use the same "
                "model, or another folder",
            )

    def finished(self) -> HeroRun:
        """The session's run, when it is over.

        Raises:
            ConfigError: it was never opened, or nothing ran in it (field ``"run"``).
        """
        if self._hero is None or not self._hero.reports:
            raise ConfigError(
                "run", "did not sample inside the session that it was given; use: with session(model): ..."
            )
        return self._hero


def _without_feedback(config: Any) -> Any:
    if isinstance(config, RecordingConfig):
        return replace(config, hero=replace(config.hero, feedback=0.0))
    return replace(config, feedback=0.0)
