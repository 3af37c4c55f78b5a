"""HERO: what happens in the blocks on a full and on a cached step.

Full step t:    all blocks run;  S = x_tau - x_0;  D = x_L - x_tau
Cached step t': the selected tokens run through the tau shallow blocks, S is refreshed there, and
                x'_L = x'_0 + S (or its forecast at t') + forecast of D at t'; deep blocks do not run.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..method import Method, Moment, Step
from ..models.adapter import BlockCall, Forward, ModelAdapter, ModelCall
from ..optional import require
from ..storage import check_storage
from .config import HeroConfig
from .feedback import CallContext, Feedback, Ledger
from .residuals import BranchCache
from .token_sampling import PatchSampler, SharedDraws


class Hero(Method[HeroConfig]):
    """HERO on one model. The branches of a pass share the choice of tokens."""

    def __init__(self, adapter: ModelAdapter, config: HeroConfig, counts: Any):
        super().__init__(adapter, config, counts)
        self._draws: dict[Hashable, SharedDraws] = {}
        self._ledger = Ledger()
        if config.feedback and adapter.noise is None:
            raise ConfigError(
                "scheduler",
                "feedback needs it: pass the pipeline, or its scheduler beside the transformer, or set "
                "feedback to 0",
            )

    def forget(self) -> None:
        """See :class:`~hero_engine.method.Method`."""
        self._draws.clear()
        self._ledger = Ledger()

    def draws(self, call: ModelCall) -> SharedDraws:
        """The choice of tokens for calls of this size."""
        shape, config = call.shape, self.config
        key = (shape.grid, shape.extra, call.device)
        if key not in self._draws:
            taken = self.counts.tokens_per_patch
            self._draws[key] = SharedDraws(
                PatchSampler(shape.grid, config.patch, taken, config.seed, call.device, shape.extra)
            )
        return self._draws[key]

    def feedback(self) -> Feedback | None:
        """Of a branch; None where the settings have none, or the sampler does not go with it."""
        share, noise = self.config.feedback, self.adapter.noise
        return Feedback(share, noise, self._ledger) if share and noise and noise.supports_feedback else None

    def branch(self, call: ModelCall) -> HeroBranch:
        """See :class:`~hero_engine.method.Method`."""
        return HeroBranch(self, call)


class HeroBranch:
    """One branch's cache, and the steps that read and write it.

    Attributes:
        method: it belongs to.
        cache, feedback: what is kept from step to step; no feedback where the settings have none.
    """

    ready = True  # a branch begins with a full step

    def __init__(self, method: Hero, call: ModelCall):
        config = method.config
        check_storage(config.storage, call.device)
        self.method = method
        self.cache = BranchCache(config.shallow, config.trend, config.storage)
        self.feedback = method.feedback()
        self._draws = method.draws(call)

    @property
    def bytes(self) -> int:
        return self.cache.bytes + (self.feedback.bytes if self.feedback else 0)

    def full_step(self, call: ModelCall, moment: Moment) -> FullStep:
        # The branch alone is full where it had nothing cached: the others have drawn for this step.
        elapsed = self._draws.elapsed() if moment.age else self._draws.reset(moment.number)
        return FullStep(self, call, moment, *elapsed)

    def cached_step(self, call: ModelCall, moment: Moment) -> CachedStep:
        return CachedStep(self, call, moment, *self._draws.draw(moment.number))


class HeroStep(Step):
    """A step whose answer error feedback records and corrects."""

    def __init__(self, branch: HeroBranch, call: ModelCall, moment: Moment, refreshed: int):
        super().__init__(branch.method.adapter, refreshed)
        self._cache = branch.cache
        self._feedback = branch.feedback
        self._tau = branch.method.counts.tau
        self._timestep = call.timestep
        self._context = CallContext(call.timestep, moment.number, call.weights)

    def forward(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The whole model."""
        result = super().forward(original, args, kwargs)
        if self._feedback is None:
            return result
        with torch.no_grad():
            latent, velocity = self._adapter.read_latent(args, kwargs), self._adapter.read_output(result)
            mended = self._correct(self._feedback, latent, velocity)
        return result if mended is None else self._adapter.make_output(mended, args, kwargs)

    def _kept(self, video: Tensor) -> Tensor:
        """Video tokens that blocks are given and that are needed later."""
        return video.clone() if self._adapter.in_place else video

    def _correct(self, feedback: Feedback, latent: Tensor, velocity: Tensor) -> Tensor | None:
        """Record the model's input and output. Returns the corrected output, None to leave it as it is."""
        raise NotImplementedError


class FullStep(HeroStep):
    """All blocks run unmodified on all tokens; the stream is remembered before and after the shallow ones.

    Args:
        age: mean number of steps since S was last computed.
        gap: number of steps since the last full one.

    Attributes:
        drift: how far what was cached of S is off, relative; None where nothing was.
        forecast_error: relative error of the forecast of D; None the first time or without deep blocks.
    """

    def __init__(self, branch: HeroBranch, call: ModelCall, moment: Moment, age: Tensor, gap: int):
        super().__init__(branch, call, moment, call.shape.video_tokens)
        self.age = age
        self.gap = gap
        self._before: Tensor | None = None

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        if number == 0:
            self._before = self._kept(call.video)
        result = super().block(number, forward, call)
        last = number == len(self._adapter.blocks) - 1
        if last or number == self._tau - 1:
            with torch.no_grad():
                self._observe(number, self._adapter.unpack(call, result)[0])
        if last:
            self._before = None
        return result

    def _observe(self, number: int, video: Tensor) -> None:
        """The stream behind the shallow blocks, or behind the last one."""
        before = require(self._before)
        if number == self._tau - 1:
            self.drift = self._cache.shallow.observe(before, video, self._timestep)
            self._before = self._kept(video)
        else:
            self.forecast_error = self._cache.deep.observe(before, video, self._timestep)

    def _correct(self, feedback: Feedback, latent: Tensor, velocity: Tensor) -> Tensor | None:
        return feedback.full(latent, velocity, self._context)

    def finish(self) -> Tensor | None:
        """Drift per step."""
        if self.forecast_error is not None:
            self._cache.error_per_step = self.forecast_error / self.gap
        return None if self.drift is None else self.drift / self.age + self._cache.error_per_step


class CachedStep(HeroStep):
    """Selected tokens run through the shallow blocks; all else comes from the cache.

    Args:
        index: (selected,) the tokens.
        age: mean number of steps since those were last computed.

    Attributes:
        drift: how far what was cached of S is off on the selected tokens, relative.
    """

    def __init__(self, branch: HeroBranch, call: ModelCall, moment: Moment, index: Tensor, age: Tensor):
        super().__init__(branch, call, moment, len(index))
        self.index = index.sort().values if self._adapter.in_order else index
        self.age = age
        self._cache.prefetch()
        self._refresh_text = branch.method.config.text == "refresh" or call.shape.keeps_text
        self._positions: dict[str, Mapping[str, Any]] = {}

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        # The model has its own stream between the blocks, whatever it does with it there.
        if number < self._tau:
            self._inside = self._select(call) if number == 0 else self._entering(call)
            video, text = self._adapter.call_block(forward, self._inside)
            self._inside = replace(self._inside, video=video, text=text)
        if number == self._tau - 1:
            self._result = self._leave(video)
        if number < len(self._adapter.blocks) - 1:
            return call.unchanged
        result = self._adapter.pack(call, self._result, self._text)
        del self._result, self._text
        return result

    def _select(self, call: BlockCall) -> BlockCall:
        self._stream, self._text = self._kept(call.video), call.text
        with torch.no_grad():
            selected = self._adapter.select(call, self.index, self._refresh_text)
        self._selected = self._kept(selected.video)
        self._positions[call.kind] = selected.positions
        return selected

    def _entering(self, call: BlockCall) -> BlockCall:
        """The call with what has left the block before, and with the positions of the selected tokens, which
        are gathered once for each kind of block."""
        if call.kind not in self._positions:
            with torch.no_grad():
                self._positions[call.kind] = self._adapter.gather(call, self.index, self._refresh_text)
        inside, positions = self._inside, self._positions[call.kind]
        return replace(call, video=inside.video, text=inside.text, positions=positions)

    def _leave(self, refreshed: Tensor) -> Tensor:
        """The stream behind the last block."""
        with torch.no_grad():
            shallow, time = self._cache.shallow, self._timestep
            self.drift = shallow.refresh(self.index, self._selected, refreshed, time)
            stream = shallow.add_to(self._stream, time)
            if self._cache.deep.ready:
                self._cache.deep.add_to(stream, time, in_place=True)
        del self._stream, self._selected, self._inside
        return stream

    def _correct(self, feedback: Feedback, latent: Tensor, velocity: Tensor) -> Tensor | None:
        feedback.cached(latent, velocity, self._context)
        return None

    def finish(self) -> Tensor | None:
        """Drift per step."""
        return require(self.drift) / self.age + self._cache.error_per_step
