"""WorldCache: between full steps the model does not run; its output is predicted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..method import Method, Moment, Step
from ..models.adapter import Forward, ModelCall
from .config import WorldCacheConfig
from .output_path import OutputPath


class WorldCache(Method[WorldCacheConfig]):
    """WorldCache on one model."""

    def branch(self, call: ModelCall) -> WorldCacheBranch:
        """See :class:`~hero_engine.method.Method`."""
        return WorldCacheBranch(self)


class WorldCacheBranch:
    """The path of one branch's output."""

    def __init__(self, method: WorldCache):
        config = method.config
        self.adapter = method.adapter
        self.streams = config.streams
        self.path = OutputPath(config.streams, config.stable, config.chaotic, max(1, config.interval - 1))

    @property
    def bytes(self) -> int:
        return self.path.bytes

    @property
    def ready(self) -> bool:
        return self.path.ready

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        return ObservedStep(self, call, moment)

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        return PredictedStep(self, moment)


class ObservedStep(Step):
    """All runs unmodified; the output is remembered."""

    def __init__(self, branch: WorldCacheBranch, call: ModelCall, moment: Moment):
        super().__init__(branch.adapter, call.shape.video_tokens)
        self._branch = branch
        self._moment = moment

    def forward(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        output = self._adapter.read_output(result)
        streams = self._branch.streams
        if sum(streams) != output.shape[2]:
            raise ConfigError(
                "streams", f"{streams} are {sum(streams)} channels, but the model gives {output.shape[2]}"
            )
        with torch.no_grad():
            self._branch.path.observe(output, self._moment.number)
        return result


class PredictedStep(Step):
    """Nothing runs.

    Attributes:
        drift: the error that the prediction was estimated to add.
    """

    def __init__(self, branch: WorldCacheBranch, moment: Moment):
        super().__init__(branch.adapter, 0)
        self._branch = branch
        self._moment = moment

    def forward(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.no_grad():
            latent, self.drift = self._branch.path.predict(self._moment.number)
        return self._adapter.make_output(latent, args, kwargs)

    def finish(self) -> Tensor | None:
        return self.drift
