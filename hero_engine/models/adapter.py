"""What a run needs to know of a model class.

:mod:`hero_engine.models.diffusers_cogvideox` knows diffusers' CogVideoX,
:mod:`hero_engine.models.comfy_cogvideox` ComfyUI's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..flops import ModelShape
from ..noise import NoiseSchedule

# (block number, keys, values of the tokens at hand) -> the keys and values to attend to;
# each (batch, text + video tokens, ...)
Attend = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
Forward = Callable[..., Any]
# (block number, kind of part, what it gave: (batch, text + video tokens, ...))
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
        weights: of each equal part of the batch in the guided answer, where the caller has passed them.
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
        video: (batch, video tokens, width).
        text: (batch, text tokens, width).
        rotary: (cos, sin), each (video tokens, head width), or None.
        rest: the block's other arguments, by name.
    """

    video: Tensor
    text: Tensor
    rotary: tuple[Tensor, Tensor] | None
    rest: dict[str, Any]

    def select(self, tokens: Tensor, *, text: bool) -> BlockCall:
        """The same forward of some video tokens (their numbers), with all text tokens or with none."""
        rotary = self.rotary
        if rotary is not None:
            cos, sin = (table.to(tokens.device)[tokens] for table in rotary)
            rotary = cos, sin
        video = self.video.index_select(1, tokens)
        return replace(self, video=video, text=self.text if text else self.text[:, :0], rotary=rotary)


class ModelAdapter(Protocol):
    """Knows the names of one model class.

    Attributes:
        model, blocks: the model, and its blocks in order.
        given: the model, or what ``torch.compile`` has made of it.
        entry: the method of the model that a step goes through (see :class:`~hero_engine.wrapping.Wrapped`).
        noise: the noise schedule that it is sampled with, if known.
    """

    model: nn.Module
    blocks: list[nn.Module]
    given: nn.Module
    entry: str
    noise: NoiseSchedule | None

    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """What one forward of the whole model is asked for."""

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """The arguments of the forward of block `number`."""

    def call_block(self, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        """Run a block's own forward: (video tokens, text tokens)."""

    def attention(self, blocks: int, attend: Attend) -> AbstractContextManager[None]:
        """Route keys and values of the first `blocks` blocks through `attend` for the time of the context.

        Raises:
            ConfigError: the model's attention cannot be routed (field ``"context"``).
        """

    def watch(self, kinds: Collection[str], on_output: OutputCallback) -> AbstractContextManager[None]:
        """Call `on_output` with what the named parts of every block give, for the time of the context."""

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

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The noisy latent that the model was given, without conditions, in the shape of its output."""

    def read_output(self, result: Any) -> Tensor:
        """The latent in what the model returned: (batch, frames, channels, rows, columns)."""

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the model returns for such a latent, where it was called with these arguments."""
