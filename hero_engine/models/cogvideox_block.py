"""A CogVideoX block, whose arguments have the same names in diffusers and in ComfyUI."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .adapter import BlockCall
from .gathering import picked

_PARAMETERS = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "attention_kwargs")


class CogVideoXBlock:
    """Reads the calls of a block of video and text tokens; mixed into an adapter."""

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        # By keyword usually; gradient checkpointing passes by position.
        named = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        video, text = named.pop("hidden_states"), named.pop("encoder_hidden_states")
        positions = {"image_rotary_emb": named.pop("image_rotary_emb", None)}
        return BlockCall(args, kwargs, (video, text), video, text, positions, named)

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        streams = {"hidden_states": call.video, "encoder_hidden_states": call.text}
        return {**streams, **call.positions, **call.rest}

    def unpack(self, call: BlockCall, result: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return video, text

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Only video tokens have positions."""
        return {"image_rotary_emb": picked(call.positions["image_rotary_emb"], 0, tokens)}


def gates_of(norm: Any, temb: Tensor) -> tuple[Tensor, Tensor]:
    """The gates for video and text, each (batch, 1, width), of a ``CogVideoXLayerNormZero``."""
    # Shift, scale and gate of the video, then of the text.
    parts = norm.linear(norm.silu(temb)).chunk(6, dim=1)
    return parts[2][:, None], parts[5][:, None]
