"""What a run needs to know of a model class. :mod:`hero_engine.models.families` lists the classes known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..flops import ModelShape
from ..host import TimestepReader
from ..noise import NoiseSchedule

Forward = Callable[..., Any]
# (block number, kind of part, its output: (batch, text + video tokens, ...))
OutputCallback = Callable[[int, str, Tensor], None]

# The parts of a block whose outputs can be watched: its two modules, before their gates, and the attention's
# projections (as (batch, tokens, heads, head width), before any norm).
ATTENTION, FEED_FORWARD, KEYS, VALUES = "attention", "feed-forward", "keys", "values"
MODULES = (ATTENTION, FEED_FORWARD)


@dataclass(frozen=True)
class ModelCall:
    """One forward of the whole model.

    Attributes:
        timestep: the scheduler's timestep; it identifies the step.
        shape: the model's dimensions in this call.
        batch: batch size.
        device: where it runs.
        signature: what must stay the same for cached features to fit: shapes, dtype, device, LoRA adapters.
        weights: of each equal part of the batch in the guided answer, where they are known.
    """

    timestep: float
    shape: ModelShape
    batch: int
    device: torch.device
    signature: Hashable
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class BlockCall:
    """One forward of a block.

    Attributes:
        args, kwargs: what it is called with.
        unchanged: what it would return if it added nothing.
        video: (batch, video tokens, width).
        text: (batch, text tokens, width); no tokens where blocks read the prompt by cross-attention.
        positions: arguments that belong to single tokens, by name: rotary tables, modulation by frame.
        rest: the other arguments, by name.
        kind: of the block; blocks of one kind take the same positions.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    unchanged: Any
    video: Tensor
    text: Tensor
    positions: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


class ModelAdapter(ABC):
    """Knows the names of one model class.

    Args:
        transformer: the model, also where ``torch.compile`` has wrapped it.

    Attributes:
        model, blocks: the model, and its blocks in order.
        given: the model, or what ``torch.compile`` has made of it.
        entry: the method of the model that a step goes through (see :class:`~hero_engine.wrapping.Wrapped`).
        in_place: whether blocks write to the tensors that they are given, or the model to what they return.
        in_order: whether selected tokens must come in the order of the stream.
        channel_dim: dimension of channels in what :meth:`read_latent` and :meth:`read_output` give.
        guided_in_one_batch: whether pipelines call it for the unconditional and the conditional half at once.
        noise: the noise schedule that it is sampled with, if known.
    """

    entry: str
    in_place = False
    in_order = False
    channel_dim = 2
    guided_in_one_batch = False

    def __init__(self, transformer: Any):
        self.given: nn.Module = transformer
        self.model: Any = getattr(transformer, "_orig_mod", transformer)  # Any: its names are the host's
        self.blocks: list[Any] = self.find_blocks()
        self.noise: NoiseSchedule | None = None
        self._timesteps = TimestepReader()

    @abstractmethod
    def find_blocks(self) -> list[Any]:
        """The model's blocks, in order."""

    @abstractmethod
    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """Dimensions of a call.

        Args:
            latent: shape of what the model is given, batch first.
            text_tokens: length of the prompt's embedding.
        """

    @abstractmethod
    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """What one forward of the whole model is called with.

        Raises:
            ConfigError: something in it that cached steps cannot follow.
        """

    @abstractmethod
    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """The arguments of the forward of block `number`."""

    @abstractmethod
    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """A block's arguments for other streams or positions than those it was called with."""

    @abstractmethod
    def unpack(self, call: BlockCall, result: Any) -> tuple[Tensor, Tensor]:
        """The video tokens and the text tokens in what a block returned."""

    @abstractmethod
    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> Any:
        """What the block returns for these video and text tokens, as many as it was called with."""

    @abstractmethod
    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> Mapping[str, Any]:
        """The positions of some video tokens (their numbers), and of the text tokens or not."""

    def call_block(self, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        """Run a block's own forward with changed streams or positions: (video tokens, text tokens)."""
        return self.unpack(call, forward(**self.arguments(call)))

    def select(self, call: BlockCall, tokens: Tensor, text: bool) -> BlockCall:
        """The same forward of some video tokens (their numbers), with all text tokens or with none, on
        tensors of its own."""
        kept = call.text.clone() if text and self.in_place else call.text
        return replace(
            call,
            video=call.video.index_select(1, tokens),
            text=kept if text else call.text[:, :0],
            positions=self.gather(call, tokens, text),
        )

    @abstractmethod
    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The noisy latent that the model was given, without conditions, in the shape of its answer."""

    @abstractmethod
    def read_output(self, result: Any) -> Tensor:
        """The latent in what the model returned: batch first, channels in ``channel_dim``, and in the order
        of frames, rows, columns; or (batch, tokens, numbers)."""

    @abstractmethod
    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the model returns for such a latent, where it was called with these arguments."""


@runtime_checkable
class ModuleAdapter(Protocol):
    """What else an adapter needs for methods that reach inside the blocks."""

    def watch(self, kinds: Collection[str], on_output: OutputCallback) -> AbstractContextManager[None]:
        """While the context lasts, call `on_output` with the output of the named parts of every block."""

    def gates(self, number: int, kind: str, call: BlockCall) -> tuple[Tensor, Tensor]:
        """The gates of a module (one of ``MODULES``) of block `number` at the call's timestep.

        Returns:
            for video and for text, each (batch, 1, width).
        """

    def feed_forward(self, number: int, call: BlockCall) -> Tensor:
        """Norm and feed-forward of block `number` on the call's tokens.

        Returns:
            (batch, text + video tokens, width), before the gate.
        """
