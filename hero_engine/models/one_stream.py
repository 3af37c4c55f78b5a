"""Blocks of one stream, in ComfyUI and in diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .adapter import BlockCall
from .gathering import picked


class OneStream:
    """A block that takes and returns the video tokens, and attends to the prompt by cross-attention; mixed
    into an adapter.

    Attributes:
        parameters: names of the block's arguments in order, for those given by position.
        stream: the name of the argument that holds the video tokens.
        token_dims: the arguments that belong to single tokens, and which of their dimensions counts tokens.
            If that dimension has length 1, the argument holds for all tokens.
    """

    parameters: tuple[str, ...]
    stream: str
    token_dims: Mapping[str, int]

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        named = {**dict(zip(self.parameters, args, strict=False)), **kwargs}
        video = named.pop(self.stream)
        positions = {name: named.pop(name) for name in self.token_dims if name in named}
        return BlockCall(args, kwargs, video, video, video[:, :0], positions, named)

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return {self.stream: call.video, **call.positions, **call.rest}

    def unpack(self, call: BlockCall, result: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result, call.text

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return video

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return {name: picked(value, self.token_dims[name], tokens) for name, value in call.positions.items()}
