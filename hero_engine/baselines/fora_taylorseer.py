"""FORA and TaylorSeer: the output of every attention and feed-forward is cached before its gate, and reused
or forecast between full steps; the gates follow the timestep."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..method import ConfigT, Method, Moment, Step
from ..models.adapter import (
    MODULES,
    BlockCall,
    Forward,
    ModelAdapter,
    ModelCall,
    ModuleAdapter,
    OutputCallback,
)
from ..settings import MethodConfig
from .config import ModulesConfig
from .taylor_feature import TaylorFeature


class ModuleMethod(Method[ConfigT]):
    """A method that reaches inside the blocks."""

    adapter: Any

    @classmethod
    def check_model(cls, config: MethodConfig, adapter: ModelAdapter) -> None:
        """See :class:`~hero_engine.method.Method`."""
        if not isinstance(adapter, ModuleAdapter):
            raise ConfigError(
                "config",
                f"{config.name} works inside the blocks of CogVideoX and Aether, and does not know those of "
                f"{type(adapter.model).__name__}; use HERO or WorldCache",
            )

    @property
    def inside_blocks(self) -> bool:
        """See :class:`~hero_engine.method.Method`."""
        return True


class Modules(ModuleMethod[ModulesConfig]):
    """FORA or TaylorSeer on one model."""

    def branch(self, call: ModelCall) -> ModulesBranch:
        """See :class:`~hero_engine.method.Method`."""
        return ModulesBranch(self, self.config.order)

    def attach(self, on_output: OutputCallback) -> AbstractContextManager[None]:
        """See :class:`~hero_engine.method.Method`."""
        watching: AbstractContextManager[None] = self.adapter.watch(MODULES, on_output)
        return watching


class ModulesBranch:
    """The features of one branch."""

    ready = True  # a branch begins with a full step

    def __init__(self, method: Method[Any], order: int):
        self.method = method
        self.adapter = method.adapter
        blocks = range(len(method.adapter.blocks))
        self.features = {(block, kind): TaylorFeature(order) for block in blocks for kind in MODULES}

    @property
    def bytes(self) -> int:
        return sum(feature.bytes for feature in self.features.values())

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        return FullModules(self, call, moment)

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        return CachedModules(self, 0, moment)

    def on_output(self, block: int, kind: str, output: Tensor, moment: Moment) -> None:
        """The output of a part of a block on a full step."""
        # Differences that no cached step will use are not taken.
        differences = moment.number > self.method.counts.warmup - 2
        self.features[block, kind].observe(output.detach(), moment.number, differences)

    def leave(self, block: int, video: Tensor) -> None:
        """What left a block, on full and on cached steps. Not kept here."""


class FullModules(Step):
    """Everything runs unmodified; outputs are kept."""

    def __init__(self, branch: ModulesBranch, call: ModelCall, moment: Moment):
        super().__init__(branch.adapter, call.shape.video_tokens)
        self._branch = branch
        self._moment = moment

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        result = super().block(number, forward, call)
        self._branch.leave(number, self._adapter.unpack(call, result)[0])
        return result

    def on_output(self, block: int, kind: str, output: Tensor) -> None:
        with torch.no_grad():
            self._branch.on_output(block, kind, output, self._moment)


class CachedModules(Step):
    """Neither attention nor feed-forward runs; their forecasts pass through the gates of this timestep."""

    _adapter: Any

    def __init__(self, branch: ModulesBranch, refreshed: int, moment: Moment):
        super().__init__(branch.adapter, refreshed)
        self._branch = branch
        self._moment = moment

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        text = call.text.shape[1]
        for kind in MODULES:
            output = self._output(number, kind, call)
            gate, text_gate = self._adapter.gates(number, kind, call)
            call = replace(
                call,
                video=torch.addcmul(call.video, gate, output[:, text:]),
                text=torch.addcmul(call.text, text_gate, output[:, :text]),
            )
        self._branch.leave(number, call.video)
        return self._adapter.pack(call, call.video, call.text)

    def _output(self, number: int, kind: str, call: BlockCall) -> Tensor:
        """The module's output, before its gate: (batch, text + video tokens, width)."""
        with torch.no_grad():
            return self._branch.features[number, kind].forecast(self._moment.number)
