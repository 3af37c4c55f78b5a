"""diffusers' Wan 2.1 and 2.2: text- and image-to-video, and the 5B with a timestep for each token."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .diffusers import DiffusersAdapter
from .gathering import picked
from .one_stream import OneStream


class WanAdapter(OneStream, DiffusersAdapter):
    """Reads the calls of a diffusers ``WanTransformer3DModel``."""

    parameters = ("hidden_states", "encoder_hidden_states", "temb", "rotary_emb")
    stream = "hidden_states"
    token_dims = {"temb": 1, "rotary_emb": 1}

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks)

    def shape(
        self, latent: tuple[int, ...], text_tokens: int, picture_tokens: int = 0, timesteps: int = 1
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            picture_tokens: of CLIP vision.
            timesteps: how many: one for all, or one per token.
        """
        config = self.model.config
        width, patch = config.num_attention_heads * config.attention_head_dim, math.prod(config.patch_size)
        frames, rows, columns = (
            side // part for side, part in zip(latent[2:], config.patch_size, strict=True)
        )
        feed_forward = 2 * width * config.ffn_dim
        block = BlockShape(
            count=len(self.blocks),
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * width * (width * text_tokens + (config.added_kv_proj_dim or 0) * picture_tokens),
            attention=width,
            context=text_tokens + picture_tokens,
        )
        outside = (
            frames * rows * columns * width * patch * (config.in_channels + self.out_channels)
            + text_tokens * (config.text_dim + width) * width
            + timesteps * (config.freq_dim + 7 * width) * width
            + picture_tokens * (config.image_dim or 0) * ((config.image_dim or 0) + width)
        )
        return ModelShape((block,), width, (frames, rows, columns), 0, outside, self.out_channels * patch)

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`."""
        picture, timestep = asked.get("encoder_hidden_states_image"), asked["timestep"]
        return self.shape(
            tuple(asked["hidden_states"].shape),
            asked["encoder_hidden_states"].shape[1],
            0 if picture is None else math.prod(picture.shape[:2]) // len(asked["hidden_states"]),
            timestep.shape[1] if timestep.ndim > 1 else 1,
        )

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Modulation is of each token, or one for all:
        (batch, 6, width)."""
        modulation, rotary = call.positions["temb"], call.positions["rotary_emb"]
        if modulation.ndim == 4:
            modulation = picked(modulation, 1, tokens)
        return {"temb": modulation, "rotary_emb": picked(rotary, 1, tokens)}
