"""The layer analysis on a model: every step runs in full, and the states between the blocks are looked at."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from ..adapter import BlockCall, Forward, ModelCall
from ..analysis import LayerAnalysis, LayerMotion, LayersConfig
from ..errors import ConfigError
from ..schedule import Schedule
from .base import Method, Moment, Step


class Layers(Method[LayersConfig]):
    """An analysis on one model. Unlike other methods it holds the sums of the latest pass."""

    _sums: defaultdict[str, Any]
    _tokens: Tensor
    _grid: tuple[int, int, int]
    _steps = 0
    _timestep = -math.inf

    def branch(self, call: ModelCall) -> LayersBranch:
        """See :class:`~hero_engine.methods.base.Method`."""
        return LayersBranch(self)

    def enter(self, call: ModelCall, moment: Moment) -> Tensor:
        """A forward begins; the first of a pass empties the sums.

        Returns:
            indices of the tokens to look at.

        Raises:
            ConfigError: the clip has another size than at the pass's first step.
        """
        if call.timestep > self._timestep:
            self.config.check(call.shape)
            self._sums = defaultdict(float)
            self._grid = call.shape.grid
            order = torch.randperm(call.shape.video_tokens, generator=torch.Generator().manual_seed(0))
            self._tokens = order[: self.config.tokens].sort().values.to(call.device)
        elif call.shape.grid != self._grid:
            raise ConfigError(
                "latent", f"changed from {self._grid} to {call.shape.grid} tokens in the run; keep one size"
            )
        self._timestep, self._steps = call.timestep, moment.number + 1
        return self._tokens

    def motion(self) -> LayerMotion:
        """For a new branch."""
        hero = self.config.hero
        frames, rows, columns = hero.patch
        share = self.counts.tokens_per_patch / (frames * rows * columns)
        return LayerMotion(self._sums, Schedule(hero.interval, self.counts.warmup), share)

    def analysis(self) -> LayerAnalysis:
        """Of the latest pass.

        Raises:
            ConfigError: nothing has run, or see :meth:`LayerAnalysis.of`.
        """
        if not self._steps:
            raise ConfigError("steps", "nothing has run yet: call the model inside the session first")
        return LayerAnalysis.of(self._sums, self.config.hero, self._steps, self.counts.warmup)


class LayersBranch:
    """One branch's features, of a few steps."""

    ready = False  # no step is cached

    def __init__(self, method: Layers):
        self._method = method
        self._motion: LayerMotion | None = None

    @property
    def bytes(self) -> int:
        return 0 if self._motion is None else self._motion.bytes

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        tokens = self._method.enter(call, moment)
        if self._motion is None:
            self._motion = self._method.motion()
        return LayersStep(self._method, self._motion, tokens, call)

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        raise NotImplementedError("an analysis caches nothing")


class LayersStep(Step):
    """All runs unmodified."""

    def __init__(self, method: Layers, motion: LayerMotion, tokens: Tensor, call: ModelCall):
        super().__init__(method.adapter, call.shape.video_tokens)
        self._motion = motion
        self._tokens = tokens
        self._timestep = call.timestep
        self._states: list[Tensor] = []

    def block(self, number: int, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        video, text = super().block(number, forward, call)
        with torch.no_grad():
            for state in (call.video, video) if number == 0 else (video,):
                self._states.append(state.index_select(1, self._tokens).float())
        return video, text

    def finish(self) -> None:
        with torch.no_grad():
            self._motion.observe(torch.stack(self._states), self._timestep)
