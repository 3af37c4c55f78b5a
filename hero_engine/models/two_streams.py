"""Blocks of two streams, video and text, in ComfyUI and in diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .adapter import BlockCall
from .gathering import picked


class TwoStreams:
    """A block that takes and returns the video tokens and the text tokens; mixed into an adapter.

    Attributes:
        parameters: names of the block's arguments in order, for those given by position.
        streams: the names of the arguments that hold the video tokens and the text tokens.
        token_dims: the arguments that belong to single video tokens, and which of their dimensions counts
            tokens.
    """

    parameters: tuple[str, ...]
    streams: tuple[str, str] = ("hidden_states", "encoder_hidden_states")
    token_dims: Mapping[str, int]

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        named = {**dict(zip(self.parameters, args, strict=False)), **kwargs}
        video, text = (named.pop(name) for name in self.streams)
        positions = {name: named.pop(name, None) for name in self.token_dims}
        return BlockCall(args, kwargs, (video, text), video, text, positions, named)

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        streams = zip(self.streams, (call.video, call.text), strict=True)
        return {**dict(streams), **call.positions, **call.rest}

    def unpack(self, call: BlockCall, result: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return video, text

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return {name: picked(value, self.token_dims[name], tokens) for name, value in call.positions.items()}
