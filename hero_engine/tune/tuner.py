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
        measured = self._store.read() or self._recorded(about)
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
        latent = self._run(session).detach().cpu()
        method: Any = session.finished().method
        recording = replace(method.recording(), about=about)
        if not torch.isfinite(latent).all():
            raise ConfigError("model", "the unaccelerated run gives NaN or infinite values")
        measured = Measured(recording, latent, session.fingerprints.array(), [])
        self._store.begin(measured)
        return measured

    def _tried(self, measured: Measured, candidate: Candidate) -> Trial:
        session = _TrialSession(candidate.config)
        latent = self._run(session).detach().cpu()
        report = session.finished().report
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

    def _errors(self, latent: Tensor, reference: Tensor) -> dict[str, float]:
        """Relative errors of the whole and of each stream."""
        if latent.shape != reference.shape:
            raise ConfigError(
                "run",
                f"gave a latent of {tuple(latent.shape)}, not {tuple(reference.shape)} as recorded: each run "
                "must have the same size",
            )
        pairs = {_WHOLE: (latent, reference)}
        if self._streams:
            other = self._streams(reference)
            pairs |= {name: (one, other[name]) for name, one in self._streams(latent).items()}
        return {name: _relative(*pair) for name, pair in pairs.items()}


def _relative(latent: Tensor, reference: Tensor) -> float:
    size = reference.double().norm()
    return float((latent.double() - reference.double()).norm() / size)


class _TrialSession:
    """The session that a run is given.

    Args:
        config: what is put on the model. Error feedback is left out where no scheduler is passed.

    Attributes:
        config: what was put on it.
        fingerprints: of the run's latents.
    """

    def __init__(self, config: MethodConfig):
        self.config: Any = config
        self.fingerprints = Fingerprints()
        self._hero: HeroRun | None = None

    @contextmanager
    def __call__(self, model: Any, steps: int | None = None, scheduler: Any = None) -> Iterator[HeroRun]:
        if getattr(self.config, "feedback", 0) and scheduler is None and not is_pipeline(model):
            self.config = replace(self.config, feedback=0.0)
        with hero_session(model, self.config, steps, scheduler) as hero:
            hero.observer = self.fingerprints
            self._hero = hero
            yield hero

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
