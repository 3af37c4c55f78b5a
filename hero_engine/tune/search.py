"""Which setting to run next."""

from __future__ import annotations

from collections.abc import Sequence

from .candidates import Candidate, Candidates
from .recording import Recording
from .trials import Target, Trial


class Search:
    """The way to a target.

    Args:
        recording: of the unaccelerated run.
        target: what is wanted.
    """

    def __init__(self, recording: Recording, target: Target):
        self._candidates = Candidates(recording)
        self._target = target
        self._steps = recording.steps
        self._fast: list[Candidate] | None = None

    def next(self, trials: Sequence[Trial]) -> Candidate | None:
        """The setting to run next; None where no other is worth it.

        Args:
            trials: what has run.
        """
        if self._target.speed is not None:
            return self._next_fast(self._target.speed, trials)
        return self._next_close(self._target.error or 0.0, trials)

    def _next_fast(self, speed: float, trials: Sequence[Trial]) -> Candidate | None:
        """Of the settings that are fast enough, the one with the lowest predicted error."""
        if self._fast is None:
            self._fast = self._candidates.at_speed(min(speed, self._candidates.reach()))
        as_mask = self._candidates.as_mask
        tried = {as_mask(trial.config) for trial in trials}
        return next((one for one in self._fast if as_mask(one.config) not in tried), None)

    def _next_close(self, error: float, trials: Sequence[Trial]) -> Candidate | None:
        """The mask with the fewest full steps whose predicted error is low enough, between the most that was
        too far off and the fewest that was not."""
        good = [trial.full_steps for trial in trials if trial.error <= error]
        bad = [trial.full_steps for trial in trials if trial.error > error]
        low, high = max(bad, default=1) + 1, min(good, default=self._steps) - 1
        if low > high:
            return None
        scale = self._candidates.scale(trials)
        while low < high:
            middle = (low + high) // 2
            if not self._candidates.predicts:
                return self._candidates.masked(middle)
            if self._candidates.masked(middle).error * scale <= error:
                high = middle
            else:
                low = middle + 1
        return self._candidates.masked(low)
