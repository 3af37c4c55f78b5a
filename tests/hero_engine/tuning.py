"""Ways to run a small model, for the tests of the tuner."""

from __future__ import annotations

import torch

from hero_engine import hero_session
from hero_engine.tune.recorder import RecordingConfig

from .models import denoise, noise, tiny_transformer

GRID = (2, 3, 4)
STEPS = 9


def small_model(seed: int = 0, blocks: int = 4):
    """Rather large weights, so that steps differ."""
    model = tiny_transformer(blocks, grid=GRID, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.08 * torch.randn(parameter.shape, generator=generator))
    return model


class WayToRun:
    """A run of :func:`denoise`, as ``tune`` takes it.

    Attributes:
        count: runs that were begun.
    """

    def __init__(self, model, *, steps: int = STEPS, scheduler: bool = True):
        self.model, self.steps, self.count = model, steps, 0
        self._noise = noise() if scheduler else None

    def __call__(self, session):
        self.count += 1
        with session(self.model, self.steps, self._noise):
            return self.denoised()

    def denoised(self):
        return denoise(self.model, steps=self.steps, grid=GRID)


def recorded(model, steps: int = STEPS, tokens: int = 24, batch: int = 1):
    """A recording of an unaccelerated run; all tokens of a small model."""
    with hero_session(model, RecordingConfig(tokens=tokens), steps, noise()) as run:
        denoise(model, steps=steps, grid=GRID, batch=batch)
        return run.method.recording()
