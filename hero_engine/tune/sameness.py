"""Whether two runs are the same up to what HERO does in one of them.

Up to the first cached step, the latent of that step included, a run does not know of HERO. Where its latents
differ from the recorded ones there, a comparison of the results would be meaningless.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

_NUMBERS = 256
_APART = 0.02
"""Relative difference of latents that rounding does not make."""


class Fingerprints:
    """Some numbers of the latent of each step, evenly spaced in it."""

    def __init__(self) -> None:
        self._found: dict[int, Tensor] = {}

    def __call__(self, number: int, latent: Tensor) -> None:
        """The latent of a call of the model in step `number`; the first of each step counts."""
        if number not in self._found:
            with torch.no_grad():
                numbers = latent[0].flatten()
                self._found[number] = numbers[:: max(1, len(numbers) // _NUMBERS)][:_NUMBERS].float().clone()

    def array(self) -> np.ndarray:
        """(steps, numbers) float32."""
        return torch.stack([self._found[number] for number in sorted(self._found)]).cpu().numpy()


def check_same(found: np.ndarray, recorded: np.ndarray, first_cached: int) -> None:
    """Refuse a run that differs from the recorded one where it should not.

    Args:
        found, recorded: (steps, numbers) of the run and of the recorded one.
        first_cached: the run's first cached step.

    Raises:
        ConfigError: the runs begin with other noise (field ``"run"``), or part before the first cached step
            (field ``"model"``).
    """
    if found.shape != recorded.shape:
        raise ConfigError(
            "run",
            f"is not the recorded one ({len(found)} steps against {len(recorded)}, or another size): each "
            "run must have the same latent, sampler and steps",
        )
    for number in range(min(first_cached + 1, len(found))):
        apart = float(np.linalg.norm(found[number] - recorded[number]) / np.linalg.norm(recorded[number]))
        if apart <= _APART:
            continue
        if number == 0:
            raise ConfigError(
                "run", "begins with other noise than the recorded run: each run needs the same seed"
            )
        raise ConfigError(
            "model",
            "differs from the recorded run before anything is reused: the model or the prompt was changed, "
            "or the sampler draws noise that the seed does not decide; use the same inputs, or tune anew",
        )
