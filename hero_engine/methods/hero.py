"""HERO: what happens in the blocks on a full and on a cached step.

Full step t:    all blocks run;  S = x_tau - x_0;  D = x_L - x_tau
Cached step t': the selected tokens run through the tau shallow blocks, S is refreshed there, and
                x'_L = x'_0 + S + forecast of D at t'; deep blocks do not run.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from ..adapter import Attend, BlockCall, Forward, ModelCall, See
from ..config import HeroConfig
from ..patches import PatchSampler
from ..residuals import BranchCache
from .base import Method, Moment, Step


class Hero(Method[HeroConfig]):
    """HERO on one model."""

    def branch(self, call: ModelCall) -> HeroBranch:
        """See :class:`~hero_engine.methods.base.Method`."""
        return HeroBranch(self, call)

    @property
    def inside_blocks(self) -> bool:
        """See :class:`~hero_engine.methods.base.Method`."""
        return self.config.context == "cached_kv"

    def attach(self, attend: Attend, see: See) -> AbstractContextManager[None]:
        """See :class:`~hero_engine.methods.base.Method`."""
        if self.inside_blocks:
            return self.adapter.attention(self.counts.tau, attend)
        return super().attach(attend, see)


class HeroBranch:
    """One branch's cache, and the steps that read and write it."""

    ready = True  # a branch begins with a full step

    def __init__(self, method: Hero, call: ModelCall):
        # One seed for all branches: conditional and unconditional must refresh the same tokens.
        sampler = PatchSampler(
            call.shape.grid,
            method.config.patch,
            method.counts.tokens_per_patch,
            method.config.seed,
            call.device,
        )
        self._method = method
        self._cache = BranchCache(method.config.forecast, sampler)

    @property
    def bytes(self) -> int:
        return self._cache.bytes

    def full_step(self, call: ModelCall, moment: Moment) -> FullStep:
        return FullStep(self._method, self._cache, call)

    def cached_step(self, call: ModelCall, moment: Moment) -> CachedStep:
        return CachedStep(self._method, self._cache, call)


class FullStep(Step):
    """All blocks run unmodified on all tokens; the stream is remembered before and after the shallow ones.

    Attributes:
        drift: relative change of S since it was cached, None where it was not.
        age: mean number of steps since S was last computed.
        missed: what the forecast of D missed, relative; None the first time or without deep blocks.
    """

    def __init__(self, method: Hero, cache: BranchCache, call: ModelCall):
        super().__init__(method.adapter, call.shape.video_tokens)
        self.age: Tensor = cache.sampler.mean_age() + 1
        self.gap = cache.sampler.steps_since_reset + 1
        self._cache = cache
        self._tau = method.counts.tau
        self._timestep = call.timestep
        self._before: Tensor | None = None

    def block(self, number: int, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        if number == 0:
            self._before = call.video
        video, text = self._adapter.call_block(forward, call)
        last = number == len(self._adapter.blocks) - 1
        with torch.no_grad():
            if number == self._tau - 1:
                self.drift = self._cache.shallow.replace(self._before, video)
                self._before = video
            elif last:
                self.missed = self._cache.deep.observe(self._before, video, self._timestep)
        if last:
            self._before = None
            self._cache.sampler.reset()
        return video, text

    def attend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values for the cached steps to come."""
        self._cache.keyvalues.replace(block, keys, values)
        return keys, values

    def finish(self) -> Tensor | None:
        """Drift per step."""
        if self.missed is not None:
            self._cache.missed_per_step = self.missed / self.gap
        return None if self.drift is None else self.drift / self.age + self._cache.missed_per_step


class CachedStep(Step):
    """Selected tokens run through the shallow blocks; all else comes from the cache.

    Attributes:
        drift: relative change of S on the selected tokens.
        age: mean number of steps since those were last computed.
    """

    def __init__(self, method: Hero, cache: BranchCache, call: ModelCall):
        super().__init__(method.adapter, cache.sampler.tokens)
        self.index, self.age = cache.sampler.draw()
        self._cache = cache
        self._tau = method.counts.tau
        self._timestep = call.timestep
        self._refresh_text = method.config.text == "refresh"

    def block(self, number: int, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        if number >= self._tau:
            return call.video, call.text
        if number == 0:
            call = self._select(call)
        video, text = self._adapter.call_block(forward, replace(call, rotary=self._rotary))
        if number < self._tau - 1:
            return video, text
        return self._leave(video), self._text

    def _select(self, call: BlockCall) -> BlockCall:
        self._stream, self._text = call.video, call.text
        self._rotary = call.rotary
        if call.rotary is not None:
            self._rotary = tuple(table.to(self.index.device)[self.index] for table in call.rotary)
        with torch.no_grad():
            self._selected = call.video.index_select(1, self.index)
        return replace(call, video=self._selected, text=call.text[:, : self._text_kept])

    @property
    def _text_kept(self) -> int:
        """Text tokens that run along."""
        return self._text.shape[1] if self._refresh_text else 0

    @functools.cached_property
    def _rows(self) -> Tensor:
        """Where the tokens that run stand among text and video tokens; asked for with cached keys only."""
        text = torch.arange(self._text_kept, device=self.index.device)
        return torch.cat([text, self.index + self._text.shape[1]])

    def _leave(self, refreshed: Tensor) -> Tensor:
        """The stream behind the last block."""
        with torch.no_grad():
            self.drift = self._cache.shallow.refresh(self.index, self._selected, refreshed)
            stream = self._stream + self._cache.shallow.value
            if self._cache.deep.ready:
                self._cache.deep.add_to(stream, self._timestep)
        self._stream = self._selected = None
        return stream

    def attend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the fresh keys and values among the cached ones and attend to all."""
        return self._cache.keyvalues.refresh(block, self._rows, keys, values)

    def finish(self) -> Tensor | None:
        """Drift per step."""
        return self.drift / self.age + self._cache.missed_per_step
