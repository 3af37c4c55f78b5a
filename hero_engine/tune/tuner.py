"""Finding a setting for a target: one recorded run, then the most promising settings, each compared with
it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..checks import integer
from ..errors import ConfigError
from ..run import HeroRun
from ..sampling import is_pipeline
from ..session import hero_session
from ..settings import MethodConfig
from .candidates import Candidate
from .recorder import RecordingConfig
from .recording import Recording
from .sameness import Fingerprints, check_same
from .search import Search
from .store import Measured, Store
from .trials import Progress, Target, Trial, Tuning

LEAST_BUDGET = 2
_WHOLE = "whole latent"


class Session(Protocol):
    """Puts what a run is for on a model, as :func:`~hero_engine.hero_session` does without its ``config``."""

    def __call__(
        self, model: Any, steps: int | None = None, scheduler: Any = None
    ) -> AbstractContextManager[HeroRun]: ...


Runner = Callable[[Session], Tensor]
Streams = Callable[[Tensor], Mapping[str, Tensor]]


def tune(
    run: Runner,
    target: Target,
    budget: int = 6,
    *,
    folder: Path | None = None,
    streams: Streams | None = None,
    progress: Callable[[Progress], None] | None = None,
    about: Mapping[str, str] | None = None,
) -> Tuning:
    """Find a setting of HERO for a target, on the model, sampler, steps and inputs at hand.

    The first run is unaccelerated, and recorded. The recording predicts the error of settings; the most
    promising ones really run, and are compared with it.

    Args:
        run: makes one whole sampling run, always from the same noise, inside the session that it is given
            (``with session(pipe): ...``, arguments as for :func:`~hero_engine.hero_session` without
            ``config``), and returns the final latent.
        target: what is wanted.
        budget: number of runs, the recorded one included, 2 or more. What `folder` holds counts as run.
        folder: where every finished run is kept, so that the next call goes on from there. None keeps
            nothing.
        streams: splits a latent into named streams, whose errors are told apart.
        progress: is called before each run.
        about: what else is to be kept with the recording, as text by name.

    Returns:
        what was found; see its ``reached`` for whether the target was.

    Raises:
        ConfigError: ``budget`` is no count from 2 on, the run has fewer than 6 steps, gives NaN or infinite
            values, is another in every run, or `folder` holds something else. Whatever `run` raises is passed
            on. What was measured before is kept in `folder`.
    """
    integer("budget", budget, LEAST_BUDGET)
    tuning = _Tuning(run, target, budget, Store(folder), streams, progress or (lambda _: None))
    return tuning.whole(dict(about or {}))


class _Tuning:
    """One call of :func:`tune`."""

    def __init__(
        self,
        run: Runner,
        target: Target,
        budget: int,
        store: Store,
        streams: Streams | None,
        progress: Callable[[Progress], None],
    ):
        self._run, self._target, self._budget, self._store = run, target, budget, store
        self._streams, self._progress = streams, progress

    def whole(self, about: dict[str, str]) -> Tuning:
        measured = self._store.read()
        if measured is None:
            measured = self._recorded(about)
        _check_about(measured.recording.about, about)
        search = Search(measured.recording, self._target)
        while len(measured.trials) + 1 < self._budget:
            candidate = search.next(measured.trials, measured.recording.scale)
            if candidate is None:
                break
            number = len(measured.trials) + 2
            self._progress(Progress(number, self._budget, f"{candidate.speedup:.2f}x by FLOPs"))
            measured = measured.with_trial(self._tried(measured, candidate))
            self._store.keep(measured)
        return Tuning(self._target, measured.recording, tuple(measured.trials))

    def _recorded(self, about: dict[str, str]) -> Measured:
        self._progress(Progress(1, self._budget, "without acceleration, recorded"))
        session = _TrialSession(RecordingConfig())
        latent = self._latent(session)
        method: Any = session.finished().method
        recording = replace(method.recording(), about=about)
        if not torch.isfinite(latent).all():
            raise ConfigError("model", "the unaccelerated run gives NaN or infinite values")
        measured = Measured(recording, latent, session.fingerprints.array(), [])
        self._store.begin(measured)
        return measured

    def _tried(self, measured: Measured, candidate: Candidate) -> Trial:
        session = _TrialSession(candidate.config, measured.recording)
        latent = self._latent(session)
        report = session.finished().report
        _check_size(latent, measured.latent)
        full = report.strip
        first = full.index(False) if False in full else len(full)
        check_same(session.fingerprints.array(), measured.fingerprints, first)
        errors = self._errors(latent, measured.latent)
        if not all(map(math.isfinite, errors.values())):
            raise ConfigError("model", "gives NaN or infinite values with HERO; try another dtype")
        predicted = candidate.error * measured.recording.scale
        return Trial(
            config=session.config,
            error=errors.pop(_WHOLE),
            errors=errors,
            predicted_error=predicted if math.isfinite(predicted) else None,
            speedup=report.predicted_speedup,
            clock=report.measured_speedup,
            strip=tuple(report.strip),
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
        """Relative errors of the whole and of each stream."""
        pairs = {_WHOLE: (latent, reference)}
        if self._streams:
            other = self._streams(reference)
            pairs |= {name: (one, other[name]) for name, one in self._streams(latent).items()}
        return {name: _relative(*pair) for name, pair in pairs.items()}


def _check_size(latent: Tensor, reference: Tensor) -> None:
    if latent.shape != reference.shape:
        raise ConfigError(
            "run",
            f"gave a latent of {tuple(latent.shape)}, not {tuple(reference.shape)} as recorded: each run must "
            "have the same size",
        )


def _check_about(there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse a folder's recording of something else."""
    for name in sorted({*there, *here}):
        one, other = there.get(name, "nothing"), here.get(name, "nothing")
        if one != other:
            raise ConfigError(
                "folder",
                f"holds a tuning of something else ({name}: {one} there, {other} here); use another or "
                "delete it",
            )


def _relative(latent: Tensor, reference: Tensor) -> float:
    size = reference.double().norm()
    return float((latent.double() - reference.double()).norm() / size)


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
