"""The layer analysis on a model: every step runs in full, and the states between the blocks are looked at. On
steps that HERO would cache, its refresh runs beside the step."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..method import Method, Moment, Step
from ..models.adapter import BlockCall, Forward, ModelCall
from .layer_analysis import LayerAnalysis, LayerMotion, LayersConfig
from .refresh_beside import RefreshBeside
from .token_sampling import PatchSampler


class Layers(Method[LayersConfig]):
    """An analysis on one model. Unlike other methods it holds the sums of the latest pass."""

    _sums: defaultdict[str, Any]
    _tokens: Tensor
    _grid: tuple[int, int, int]
    _steps = 0
    _timestep = -math.inf

    def branch(self, call: ModelCall) -> LayersBranch:
        """See :class:`~hero_engine.method.Method`."""
        return LayersBranch(self, call)

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
        return LayerMotion(self._sums, self.config.hero.shallow)

    def analysis(self) -> LayerAnalysis:
        """Of the latest pass.

        Raises:
            ConfigError: nothing has run, or see :meth:`LayerAnalysis.of`.
        """
        if not self._steps:
            raise ConfigError("steps", "nothing has run yet: call the model inside the session first")
        return LayerAnalysis.of(self._sums, self.config.hero, self._steps, self.counts.warmup)


class LayersBranch:
    """One branch's features of a few steps, and the schedule and the tokens that HERO would have."""

    ready = False  # no step is cached

    def __init__(self, method: Layers, call: ModelCall):
        hero, counts = method.config.hero, method.counts
        self._method = method
        self._motion: LayerMotion | None = None
        self._schedule = replace(hero, threshold=0.0).schedule(counts)
        shape, taken = call.shape, counts.tokens_per_patch
        self._sampler = PatchSampler(shape.grid, hero.patch, taken, hero.seed, call.device, shape.extra)

    @property
    def bytes(self) -> int:
        return 0 if self._motion is None else self._motion.bytes

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        tokens = self._method.enter(call, moment)
        if self._motion is None:
            self._motion = self._method.motion()
        if self._schedule.next().full:
            self._sampler.reset()
            return LayersStep(self._method, self._motion, tokens, call)
        return RefreshedStep(self._method, self._motion, tokens, call, self._sampler.draw()[0])

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

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        if number == 0:
            self._look(call.video)
        result = super().block(number, forward, call)
        self._look(self._adapter.unpack(call, result)[0])
        return result

    def _look(self, video: Tensor) -> None:
        with torch.no_grad():
            self._states.append(video.index_select(1, self._tokens).float())

    def finish(self) -> None:
        with torch.no_grad():
            self._motion.observe(torch.stack(self._states), self._timestep, self._refresh())

    def _refresh(self) -> tuple[Tensor, Tensor] | None:
        """What the refresh gave for the tokens that are looked at, see :meth:`LayerMotion.observe`."""
        return None


class RefreshedStep(LayersStep):
    """All runs unmodified, and beside it what a cached step would run, through all blocks."""

    def __init__(self, method: Layers, motion: LayerMotion, tokens: Tensor, call: ModelCall, drawn: Tensor):
        super().__init__(method, motion, tokens, call)
        with_text = method.config.hero.text == "refresh" or call.shape.keeps_text
        self._beside = RefreshBeside(method.adapter, drawn, with_text)
        self._drawn = self._beside.tokens
        self._seen = torch.isin(self._drawn, tokens).nonzero().squeeze(1)
        self._refreshed: list[Tensor] = []

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        if number == 0:
            self._beside.begin(call)
            self._keep()
        self._beside.run(number, forward, call)
        self._keep()
        return super().block(number, forward, call)

    def _keep(self) -> None:
        with torch.no_grad():
            self._refreshed.append(self._beside.video.index_select(1, self._seen).float())

    def _refresh(self) -> tuple[Tensor, Tensor]:
        rows = torch.searchsorted(self._tokens, self._drawn[self._seen])
        return rows, torch.stack(self._refreshed)
