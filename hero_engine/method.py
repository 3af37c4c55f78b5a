"""The parts that a method is made of: one of it for a session, one branch for each branch of a pass, one step
for each forward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from .models.adapter import BlockCall, Forward, ModelAdapter, ModelCall, OutputCallback
from .settings import MethodConfig

ConfigT = TypeVar("ConfigT", bound=MethodConfig)


@dataclass(frozen=True)
class Moment:
    """When a forward happens.

    Attributes:
        number: the step within its pass, from 0.
        age: steps since the last full one (0 on a full one).
    """

    number: int
    age: int


class Step:
    """One forward of one branch. As it is here, everything runs unmodified.

    Attributes:
        refreshed: video tokens computed in the blocks that run.
        drift, forecast_error: see :class:`~hero_engine.report.StepRecord`.
    """

    drift: Tensor | None = None
    forecast_error: Tensor | None = None

    def __init__(self, adapter: ModelAdapter, refreshed: int):
        self.refreshed = refreshed
        self._adapter = adapter

    def forward(self, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The whole model."""
        return original(*args, **kwargs)

    def block(self, number: int, forward: Forward, call: BlockCall) -> Any:
        """Block `number`: what it returns."""
        return forward(*call.args, **call.kwargs)

    def on_output(self, block: int, kind: str, output: Tensor) -> None:
        """Is shown what a part of a block gave, where the method watches them."""

    def finish(self) -> Tensor | None:
        """End a forward. Returns the error for an adaptive schedule, or None."""
        return None


class Branch(Protocol):
    """What one branch of a pass (say the conditional one) has cached."""

    @property
    def bytes(self) -> int:
        """Bytes of cached features (a few numbers per token, such as ages, are not counted)."""

    @property
    def ready(self) -> bool:
        """Whether a cached step is possible."""

    def full_step(self, call: ModelCall, moment: Moment) -> Step:
        """A forward that computes everything."""

    def cached_step(self, call: ModelCall, moment: Moment) -> Step:
        """A forward that does not."""


class Method(Generic[ConfigT]):
    """A method on one model, for the time of a session.

    Args:
        adapter: of the model.
        config, counts: the settings, and what they come to for this model and, once a pass has begun, its
            number of steps.
    """

    def __init__(self, adapter: ModelAdapter, config: ConfigT, counts: Any):
        self.adapter = adapter
        self.config = config
        self.counts = counts

    @classmethod
    def check_model(cls, config: MethodConfig, adapter: ModelAdapter) -> None:
        """Refuse models that the method cannot work on.

        Raises:
            ConfigError: names the method (field ``"config"``).
        """

    @property
    def inside_blocks(self) -> bool:
        """Whether :meth:`attach` puts anything inside the blocks; compiled ones then run uncompiled."""
        return False

    def begin(self, counts: Any) -> None:
        """A pass begins, in which the settings come to these counts."""
        self.counts = counts

    def forget(self) -> None:
        """A pass is over: drop what its branches shared."""

    def branch(self, call: ModelCall) -> Branch:
        """A branch with nothing cached.

        Raises:
            ConfigError: the settings do not fit what the call is made with.
        """
        raise NotImplementedError

    def attach(self, on_output: OutputCallback) -> AbstractContextManager[None]:
        """What must be put on the model besides the wrappers of its forward and its blocks'.

        Args:
            on_output: is shown what parts of the blocks give, if the method watches them.
        """
        return nullcontext()
