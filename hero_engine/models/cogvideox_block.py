"""A CogVideoX block, whose arguments have the same names in diffusers and in ComfyUI."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .two_streams import TwoStreams


class CogVideoXBlock(TwoStreams):
    """Reads the calls of a block: by keyword usually; gradient checkpointing passes by position."""

    parameters = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "attention_kwargs")
    token_dims = {"image_rotary_emb": 0}


def gates_of(norm: Any, temb: Tensor) -> tuple[Tensor, Tensor]:
    """The gates for video and text, each (batch, 1, width), of a ``CogVideoXLayerNormZero``."""
    # Shift, scale and gate of the video, then of the text.
    parts = norm.linear(norm.silu(temb)).chunk(6, dim=1)
    return parts[2][:, None], parts[5][:, None]
