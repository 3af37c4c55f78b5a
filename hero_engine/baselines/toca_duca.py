"""ToCa: attention is reused, the feed-forward runs for the tokens that score highest.
DuCa: every other cached step skips all blocks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..method import Moment, Step
from ..models.adapter import (
    FEED_FORWARD,
    KEYS,
    MODULES,
    VALUES,
    BlockCall,
    Forward,
    ModelCall,
    OutputCallback,
)
from ..optional import require
from ..storage import held_bytes
from .config import DucaConfig, TocaConfig
from .fora_taylorseer import CachedModules, FullModules, ModuleMethod, ModulesBranch
from .token_scores import TokenQueue, key_score, squares, value_score

# What is watched for each kind of score, and what is made of it.
_SCORED = {"value": (VALUES, value_score), "key": (KEYS, key_score)}


class Toca(ModuleMethod[TocaConfig]):
    """ToCa on one model."""

    def branch(self, call: ModelCall) -> TocaBranch:
        """See :class:`~hero_engine.method.Method`."""
        return TocaBranch(self, call)

    def attach(self, on_output: OutputCallback) -> AbstractContextManager[None]:
        """See :class:`~hero_engine.method.Method`."""
        watched, _ = _SCORED.get(self.config.score, (None, None))
        kinds = MODULES if watched is None else (watched, *MODULES)
        watching: AbstractContextManager[None] = self.adapter.watch(kinds, on_output)
        return watching


class TocaBranch(ModulesBranch):
    """The features of one branch, and the tokens waiting to be computed."""

    method: Toca

    def __init__(self, method: Toca, call: ModelCall):
        super().__init__(method, order=0)
        # Sent to the device once: every block asks for it in every cached step.
        self._squares = squares(call.shape.grid, call.device)
        self._text = call.shape.text_tokens
        # One seed for all branches: conditional and unconditional draw the same tokens.
        self._generator = torch.Generator(device=call.device).manual_seed(method.config.seed)
        # Of each block: text and video, which are scored apart.
        self._queues: list[tuple[TokenQueue, TokenQueue]] = []

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        shape = call.shape
        self._queues = [
            (TokenQueue(shape.text_tokens, call.device), TokenQueue(shape.video_tokens, call.device))
            for _ in self.adapter.blocks
        ]
        return FullModules(self, call, moment)

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        return TocaStep(self, self.method.config.fresh(call.shape.video_tokens), moment)

    def on_output(self, block: int, kind: str, output: Tensor, moment: Moment) -> None:
        """See :class:`~hero_engine.baselines.fora_taylorseer.ModulesBranch`."""
        if kind in MODULES:
            # Cached steps write into what is kept; autograd may need it as it was.
            super().on_output(block, kind, output.clone() if output.requires_grad else output, moment)
            return
        _, score = _SCORED[self.method.config.score]
        text, video = self._queues[block]
        text.score, video.score = score(output[:, : self._text]), score(output[:, self._text :])

    def choose(self, block: int) -> tuple[Tensor, Tensor]:
        """The text tokens and the video tokens that the block computes on this cached step."""
        config = self.method.config
        chosen = []
        for queue, members in zip(self._queues[block], (None, self._squares), strict=True):
            if config.score == "random":
                queue.score = torch.empty_like(queue.score).uniform_(generator=self._generator)
            count = config.fresh(len(queue.score))
            chosen.append(queue.choose(count, config.staleness / config.interval, config.bonus, members))
        return chosen[0], chosen[1]


class TocaStep(CachedModules):
    """Attentions are reused, feed-forwards run for the chosen tokens."""

    _branch: TocaBranch

    def _output(self, number: int, kind: str, call: BlockCall) -> Tensor:
        if kind == FEED_FORWARD:
            with torch.no_grad():
                self._refresh(number, call)
        return super()._output(number, kind, call)

    def _refresh(self, number: int, call: BlockCall) -> None:
        text, video = self._branch.choose(number)
        rows = torch.cat([text, video + call.text.shape[1]])
        if len(rows):
            chosen = replace(call, video=call.video[:, video], text=call.text[:, text])
            part = self._adapter.feed_forward(number, chosen)
            self._branch.features[number, FEED_FORWARD].refresh(rows, part)


class Duca(Toca):
    """DuCa on one model."""

    config: DucaConfig

    def branch(self, call: ModelCall) -> DucaBranch:
        """See :class:`~hero_engine.method.Method`."""
        return DucaBranch(self, call)


class DucaBranch(TocaBranch):
    """ToCa's branch, and what came out of the last block when blocks last ran.

    Attributes:
        stream: (batch, video tokens, width).
    """

    method: Duca

    def __init__(self, method: Duca, call: ModelCall):
        super().__init__(method, call)
        self.stream: Tensor | None = None

    @property
    def bytes(self) -> int:
        return super().bytes + held_bytes(self.stream)

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        if self.method.config.aggressive(moment.age):
            return AggressiveStep(self)
        return super().cached_step(call, moment)

    def leave(self, block: int, video: Tensor) -> None:
        """See :class:`~hero_engine.baselines.fora_taylorseer.ModulesBranch`."""
        if block == len(self.adapter.blocks) - 1:
            self.stream = video.detach()


class AggressiveStep(Step):
    """No block runs; what came out of the last one comes out of it again."""

    def __init__(self, branch: DucaBranch):
        super().__init__(branch.adapter, 0)
        self._stream = require(branch.stream)

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        last = number == len(self._adapter.blocks) - 1
        return self._adapter.pack(call, self._stream, call.text) if last else call.unchanged
