"""What a run can read of the sampling around it: scheduler, number of steps, guidance.

Everything is read when a pass begins and not before: a pipeline's scheduler may be replaced between two
requests, and its steps are known only once it has set its timesteps.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

from torch import Tensor, nn

from .checks import integer
from .host import TimestepReader
from .noise import NoiseSchedule

log = logging.getLogger(__name__)


def is_pipeline(thing: Any) -> bool:
    """Whether something is a diffusers pipeline that holds a transformer and its scheduler."""
    return not isinstance(thing, nn.Module) and hasattr(thing, "transformer") and hasattr(thing, "scheduler")


class Sampling:
    """The sampling that runs an accelerated model.

    Args:
        pipeline: a diffusers pipeline; its scheduler and guidance are read as they are at each pass.
        scheduler: where there is no pipeline: the scheduler that runs the model, or a
            :class:`~hero_engine.NoiseSchedule`, which is taken as it is.
        steps: number of steps of a pass, where it cannot be read off a scheduler.
        needs_noise: whether the method needs the noise schedule.

    Attributes:
        noise: the noise schedule of the pass at hand, before the first one what was passed; None where it is
            not known.

    Raises:
        ConfigError: ``steps`` is no whole number from 1, or the scheduler is of another kind.
    """

    def __init__(self, pipeline: Any, scheduler: Any, steps: int | None, needs_noise: bool):
        self.passed_steps = None if steps is None else integer("steps", steps, 1)
        self._pipeline = pipeline
        self.noise = None if scheduler is None else NoiseSchedule.of(scheduler)
        self._fixed = self.noise if self.noise is scheduler else None
        # Weak: a scheduler that nobody else holds is not the one that runs.
        self._given = None if scheduler is None or self._fixed else weakref.ref(scheduler)
        self._announced: tuple[Any, int] | None = None
        self._timesteps: Any = None
        self._reader = TimestepReader()
        self._read: tuple[float, float] | None = None
        self._guidance: float | None = None
        self._warned: set[str] = set()
        self._needs_noise = needs_noise
        if pipeline is not None:
            self.noise = self._noise_of(pipeline.scheduler)

    @property
    def reads_steps(self) -> bool:
        """Whether a number of steps need not be passed."""
        return self._scheduler() is not None

    def announce(self, scheduler: Any, steps: int) -> None:
        """The next pass is run by this scheduler, in so many steps, whatever was passed before."""
        self._announced = scheduler, steps

    def timestep_of(self, timestep: float) -> float:
        """The scheduler's timestep in a call of the model.

        Pipelines give the model theirs rounded to its dtype, where several may become one, or another measure
        of the noise (Cosmos), and keep the scheduler's beside.

        Args:
            timestep: that the model was called with.

        Returns:
            the pipeline's; `timestep` where there is none, or one that stands still while the model's goes
            on, as after a run that was stopped.
        """
        current = getattr(self._pipeline, "_current_timestep", None)
        if current is None:
            return timestep
        now = self._reader.read(current)
        latest, self._read = self._read, (now, timestep)
        return timestep if latest is not None and now == latest[0] and timestep != latest[1] else now

    def begin(self, timestep: float) -> int | None:
        """A pass begins at a timestep: read its scheduler.

        Returns:
            its number of steps; None where nobody knows.

        Raises:
            ConfigError: the pipeline's scheduler has been replaced by one of another kind.
        """
        announced, self._announced = self._announced, None
        scheduler, steps = announced or (self._scheduler(), None)
        self._timesteps, self._guidance = getattr(self._scheduler(), "timesteps", None), None
        if steps is None and scheduler is not None:
            steps = _steps_from(scheduler, timestep, self._last(scheduler))
        runs = self._given is None or announced is not None or steps is not None
        self.noise = self._noise_of(scheduler) if runs else None
        if not runs and self._needs_noise:
            self._warn(
                "the scheduler that was passed is not the one that runs the model: its noise is not known, "
                "so error feedback is off; pass the pipeline instead of its parts, or a NoiseSchedule"
            )
        return self._agreed(steps)

    def renewed(self) -> bool:
        """Whether the scheduler has set timesteps anew since the pass began, so that it is over."""
        return getattr(self._scheduler(), "timesteps", None) is not self._timesteps

    def weights(self, passed: tuple[float, ...] | None, halves: bool) -> tuple[float, ...] | None:
        """What the parts of a batch weigh in the guided answer.

        Args:
            passed: by the caller; they take precedence.
            halves: whether the call may be a batch of the unconditional and the conditional half.

        Returns:
            those; or else (1 - s, s) for such a batch of a pipeline that guides at one scale s; None where
            they are not known, say with a scale that changes from step to step, which pipelines set after
            they have called the model.
        """
        scale = self._scale()
        if scale is None:
            return passed
        if passed is not None:
            if len(passed) == 2 and abs(passed[1] - scale) > 1e-6:
                self._warn(f"weights {passed} were passed for a guidance of scale {scale:g}; they are used")
            return passed
        return (1 - scale, scale) if halves else None

    def _scale(self) -> float | None:
        """The pipeline's guidance scale; None without guidance, and from where it has changed in a pass."""
        scale = getattr(self._pipeline, "guidance_scale", None)
        if not isinstance(scale, int | float) or scale <= 1:
            return None
        if self._guidance is None:
            self._guidance = float(scale)
        if self._guidance != scale:
            self._guidance = float("nan")
        return self._guidance if self._guidance == scale else None

    def _last(self, scheduler: Any) -> float:
        """From which timestep on another transformer goes on (Wan 2.2's pipeline has two)."""
        ratio = getattr(getattr(self._pipeline, "config", None), "boundary_ratio", None)
        return float("-inf") if ratio is None else ratio * scheduler.config.num_train_timesteps

    def _scheduler(self) -> Any:
        if self._pipeline is not None:
            return self._pipeline.scheduler
        return None if self._given is None else self._given()

    def _noise_of(self, scheduler: Any) -> NoiseSchedule | None:
        if self._fixed or scheduler is None or not self._needs_noise:
            return self._fixed
        return NoiseSchedule.of(scheduler)

    def _agreed(self, steps: int | None) -> int | None:
        """The number of steps: what is read counts, and a different one that was passed is reported."""
        if steps is not None and self.passed_steps not in (None, steps):
            self._warn(f"steps={self.passed_steps} was passed, and the scheduler runs {steps}, which counts")
        return self.passed_steps if steps is None else steps

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("HERO: %s", text)


def _steps_from(scheduler: Any, timestep: float, last: float) -> int | None:
    """How many steps a scheduler runs from a timestep (video-to-video does not begin at its first) to the
    last one; None where it has set no timesteps, or not this one."""
    timesteps = getattr(scheduler, "timesteps", None)
    if getattr(scheduler, "num_inference_steps", None) is None or not isinstance(timesteps, Tensor):
        return None
    values = {float(value) for value in timesteps.tolist()}
    return len([value for value in values if last <= value <= timestep]) if timestep in values else None
