"""Finding a setting for a target: one recorded run, then the most promising settings, compared with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..checks import integer
from ..errors import ConfigError
from .compared_runs import ComparedRuns, Runner, Streams
from .search import Search
from .store import Store
from .trials import Progress, Target, Trial, Tuning

_LEAST_BUDGET = 2


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
        streams: splits a latent into named streams, whose errors are given apart.
        progress: is called before each run.
        about: what else is to be kept with the recording, as text by name; in `folder` it must be the same.
            Every run is compared with the recorded one up to its first cached step. Where `folder` holds
            enough, nothing runs: then another model is noticed only by what is passed here, such as
            :func:`~hero_engine.tune.weights_digest` of it.

    Returns:
        what was found; see its ``reached`` for whether the target was.

    Raises:
        ConfigError: ``budget`` is no count from 2 on; the run has fewer than 6 steps, is another in every
            run, or gives NaN or infinite values without acceleration or with every setting that was tried; or
            `folder` holds something else. Whatever `run` raises is passed on. What was measured before is
            kept in `folder`.
    """
    check_budget(budget)
    runs, store, tell = ComparedRuns(run, streams), Store(folder), progress or (lambda _: None)
    measured = store.read()
    if measured is None:
        tell(Progress(1, budget, "without acceleration, recorded"))
        measured = runs.record(about)
        store.begin(measured)
    _check_about(measured.recording.about, about or {})
    search = Search(measured.recording, target)
    while len(measured.trials) + 1 < budget:
        candidate = search.next(measured.trials)
        if candidate is None:
            break
        tell(Progress(len(measured.trials) + 2, budget, f"{candidate.speedup:.2f}x by FLOPs"))
        measured = measured.with_trial(runs.trial(measured, candidate.config))
        store.keep(measured)
    _check_numbers(measured.trials)
    return Tuning(target, measured.recording, tuple(measured.trials))


def _check_numbers(trials: Sequence[Trial]) -> None:
    """Refuse a tuning in which nothing but the unaccelerated run gave numbers."""
    if all(trial.failed for trial in trials):
        raise ConfigError(
            "model",
            f"gives NaN or infinite values with HERO, in all of {len(trials)} trials; try another dtype, or "
            "a larger budget",
        )


def check_budget(budget: int) -> None:
    """
    Raises:
        ConfigError: too few runs, or no count.
    """
    integer("budget", budget, _LEAST_BUDGET)


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
