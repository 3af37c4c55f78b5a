"""What is wanted of a tuning, what was tried, and what came of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..checks import real
from ..errors import ConfigError
from ..hero.config import HeroConfig
from ..relative_error import percent
from .recording import Recording

_REACHED = 1e-6


@dataclass(frozen=True)
class Target:
    """What a setting must reach: exactly one of the two.

    Args:
        speed: speed-up by FLOPs of at least so much, 1.1 to 20. Of such settings the one with the lowest
            error is wanted.
        error: relative error of the final latent of at most so much, above 0 to 1 (0.01 is 1 %). Of such
            settings the fastest is wanted.

    Raises:
        ConfigError: none or both, or out of range.
    """

    speed: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        if (self.speed is None) == (self.error is None):
            raise ConfigError("target", "give either a speed or an error")
        if self.speed is not None:
            object.__setattr__(self, "speed", real("speed", self.speed, 1.1, 20.0))
        if self.error is not None:
            object.__setattr__(self, "error", real("error", self.error, 0.0, 1.0, open_low=True))

    def reached_by(self, trial: Trial) -> bool:
        if self.speed is not None:
            return not trial.failed and trial.speedup >= self.speed * (1 - _REACHED)
        return trial.error <= (self.error or 0.0)

    def best(self, trials: tuple[Trial, ...]) -> Trial:
        """Of those that reach it, the one with the lowest error, or the fastest; of others the nearest. At
        least one must not have failed."""
        good = [trial for trial in trials if self.reached_by(trial)]
        trials = tuple(trial for trial in trials if not trial.failed)
        if self.speed is not None:
            return min(good, key=lambda one: one.error) if good else max(trials, key=lambda one: one.speedup)
        return max(good, key=lambda one: one.speedup) if good else min(trials, key=lambda one: one.error)

    def __str__(self) -> str:
        if self.speed is not None:
            return f"at least {self.speed:g}x faster"
        return f"an error of at most {100 * (self.error or 0):g} %"


@dataclass(frozen=True)
class Progress:
    """Before each run: its number from 1, how many there will be, and what it is."""

    number: int
    total: int
    text: str


@dataclass(frozen=True)
class Trial:
    """One setting that really ran, compared with the unaccelerated run.

    Attributes:
        config: the setting.
        error: |latent - unaccelerated| / |unaccelerated| of the final latents; infinite where the run gave
            NaN or infinite values.
        errors: the same of each stream, by name.
        predicted_error: what the recording said before; None where it says nothing.
        speedup: by FLOPs, of the steps that were full.
        clock: by the clock, in the model; None where it could not be measured.
        strip: for each step, whether it was full.
    """

    config: HeroConfig
    error: float
    errors: dict[str, float]
    predicted_error: float | None
    speedup: float
    clock: float | None
    strip: tuple[bool, ...]

    @property
    def failed(self) -> bool:
        """Whether the run gave NaN or infinite values."""
        return math.isinf(self.error)

    @property
    def full_steps(self) -> int:
        return sum(self.strip)

    @property
    def steps(self) -> int:
        return len(self.strip)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON (an infinite error is None); :meth:`from_dict` reads it back."""
        return {
            **asdict(self),
            "config": self.config.to_dict(),
            "strip": list(self.strip),
            "error": None if self.failed else self.error,
            "errors": {name: None if math.isinf(one) else one for name, one in self.errors.items()},
        }

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Trial:
        return cls(
            **{
                **found,
                "config": HeroConfig.from_dict(found["config"]),
                "strip": tuple(found["strip"]),
                "error": _or_infinite(found["error"]),
                "errors": {name: _or_infinite(one) for name, one in found["errors"].items()},
            }
        )


def _or_infinite(error: float | None) -> float:
    return math.inf if error is None else float(error)


@dataclass(frozen=True)
class Tuning:
    """What a tuning found. At least one of its trials has not failed.

    Attributes:
        target: what was wanted.
        recording: of the unaccelerated run, with its scale and spread from the trials.
        trials: in the order in which they ran.
    """

    target: Target
    recording: Recording
    trials: tuple[Trial, ...]

    @property
    def choice(self) -> Trial:
        """The trial that meets the target best."""
        return self.target.best(self.trials)

    @property
    def reached(self) -> bool:
        return self.target.reached_by(self.choice)

    @property
    def successful(self) -> tuple[Trial, ...]:
        """The trials that gave numbers."""
        return tuple(trial for trial in self.trials if not trial.failed)

    @property
    def frontier(self) -> tuple[Trial, ...]:
        """Trials of which no other is both at least as fast and closer, from the slowest on."""
        ordered = sorted(self.successful, key=lambda one: (one.speedup, -one.error))
        return tuple(
            trial
            for place, trial in enumerate(ordered)
            if all(trial.error < o.error for o in ordered[place + 1 :])
        )

    @property
    def setting(self) -> str:
        """The choice as text that ``HeroConfig.from_text`` reads."""
        return self.choice.config.to_text()

    def summary(self) -> str:
        """A few lines for a person."""
        one = self.choice
        clock = "" if one.clock is None else f", {one.clock:.2f}x measured in the model"
        lines = [
            f"{one.full_steps} of {one.steps} steps in full: {one.speedup:.2f}x by FLOPs{clock}, error "
            f"{percent(one.error)}.",
            f"Setting: {self.setting}",
        ]
        if not self.reached:
            lines.insert(
                0, f"The target ({self.target}) was not reached in {len(self.trials)} trials; the nearest:"
            )
        failed = len(self.trials) - len(self.successful)
        if failed:
            lines.append(f"{failed} of {len(self.trials)} trials failed: they gave NaN or infinite values.")
        return "\n".join(lines)

    def table(self) -> str:
        """All trials as text, the choice marked."""
        streams = list(self.trials[0].errors)
        head = ["", "full steps", "speed-up", "by the clock", "error", "predicted", *streams]
        rows = [
            [
                ">" if trial is self.choice else "",
                f"{trial.full_steps} of {trial.steps}",
                f"{trial.speedup:.2f}x",
                "-" if trial.clock is None else f"{trial.clock:.2f}x",
                "failed" if trial.failed else percent(trial.error),
                "-" if trial.predicted_error is None else percent(trial.predicted_error),
                *("-" if math.isinf(one := trial.errors[name]) else percent(one) for name in streams),
            ]
            for trial in self.trials
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in (head, *rows))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the recording, ready for JSON."""
        return {
            "target": asdict(self.target),
            "reached": self.reached,
            "setting": self.setting,
            "choice": self.choice.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
            "frontier": [self.trials.index(trial) for trial in self.frontier],
            "spread": self.recording.spread,
            "summary": self.summary(),
        }
