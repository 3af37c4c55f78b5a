"""One job again and again, as far as its latent."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from ..generation.sampling import Callback
from ..model.parts import AetherModel
from .job import Inputs, Settings, condition_on, denoise, make_generator


class RepeatedRun:
    """Runs of one job, each from the same noise. The inputs are encoded once.

    Args:
        model, inputs, settings: as for `aether.run.job.run`.

    Raises:
        InputError: a value out of range.
    """

    def __init__(self, model: AetherModel, inputs: Inputs, settings: Settings) -> None:
        self._model, self._inputs, self._settings = model, inputs, settings
        self._generator = make_generator(model, settings.seed)
        self._conditions = condition_on(model, inputs, self._generator)
        self._noise = self._generator.get_state()

    def latent(
        self, session: AbstractContextManager | None = None, callback: Callback | None = None
    ) -> torch.Tensor:
        """The latent (1, T, 56, h, w) that `aether.run.job.run` would decode.

        Args:
            session: is entered around the denoising loop.
            callback: called after every step, see `aether.generation.sampling.sample`.
        """
        self._generator.set_state(self._noise)
        return denoise(
            self._model, self._inputs, self._conditions, self._settings, self._generator, session, callback
        )
