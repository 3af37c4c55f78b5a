"""diffusers' Cosmos 1, Predict 2 and 2.5: text- and video-to-world, one timestep for all or one per frame."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .diffusers import DiffusersAdapter
from .gathering import picked
from .one_stream import OneStream


class CosmosAdapter(OneStream, DiffusersAdapter):
    """Reads the calls of a diffusers ``CosmosTransformer3DModel``."""

    parameters = (
        "hidden_states",
        "encoder_hidden_states",
        "embedded_timestep",
        "temb",
        "image_rotary_emb",
        "extra_pos_emb",
        "attention_mask",
        "controlnet_residual",
    )
    stream = "hidden_states"
    token_dims = {"image_rotary_emb": 0, "extra_pos_emb": 1, "embedded_timestep": 1, "temb": 1}

    def check(self, asked: dict[str, Any]) -> None:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`."""
        if asked.get("block_controlnet_hidden_states") is not None:
            raise ConfigError(
                "transformer",
                "a ControlNet (Cosmos Transfer) adds to its blocks, which cached steps leave out: use one "
                "without the other",
            )

    def timestep_of(self, asked: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`. If there is one per frame, the
        last: those of given frames come first and are a small constant, which the others may fall below."""
        timestep: Tensor = asked["timestep"]
        return timestep.flatten()[-1:] if timestep.ndim > 1 else timestep

    def shape(
        self, latent: tuple[int, ...], text_tokens: int, picture_tokens: int = 0, timesteps: int = 0
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            picture_tokens: of a picture that is attended to along with the prompt.
            timesteps: how many, one per frame; 0 where there is one for all.
        """
        config = self.model.config
        width, lora = config.num_attention_heads * config.attention_head_dim, config.adaln_lora_dim
        patch = math.prod(config.patch_size)
        frames, rows, columns = (
            side // part for side, part in zip(latent[2:], config.patch_size, strict=True)
        )
        tokens = frames * rows * columns
        # Timesteps of frames are spread over the tokens before the blocks.
        each, once = (1, 0) if timesteps else (0, 1)
        feed_forward = int(2 * width * width * config.mlp_ratio)
        modulation = 3 * lora * (width + 3 * width)
        pictures = 1 if config.img_context_dim_in else 0
        block = BlockShape(
            count=len(self.blocks),
            # Self-attention; query and output of the cross-attention, and the picture's query.
            token=(6 + pictures) * width * width + feed_forward + each * modulation,
            feed_forward=feed_forward,
            fixed=2 * width * (config.text_embed_dim * text_tokens + width * picture_tokens)
            + once * modulation,
            attention=width,
            context=text_tokens + picture_tokens,
        )
        channels = config.in_channels + bool(config.concat_padding_mask) + self.out_channels
        outside = (
            tokens * width * patch * channels
            + max(timesteps, 1) * 4 * width * width
            + (tokens if each else 1) * lora * 3 * width
            + self._conditions(text_tokens, picture_tokens)
        )
        return ModelShape((block,), width, (frames, rows, columns), 0, outside, self.out_channels * patch)

    def _conditions(self, text_tokens: int, picture_tokens: int) -> int:
        """Multiplications of the prompt's and the picture's embeddings."""
        config = self.model.config
        text, picture = 0, 0
        if config.use_crossattn_projection:
            text = config.crossattn_proj_in_channels * config.encoder_hidden_states_channels
        if config.img_context_dim_in:
            picture = config.img_context_dim_in * config.img_context_dim_out
        return text_tokens * text + picture_tokens * picture

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`."""
        text, timestep = asked["encoder_hidden_states"], asked["timestep"]
        text, picture = text if isinstance(text, tuple) else (text, None)
        return self.shape(
            tuple(asked["hidden_states"].shape),
            text.shape[1],
            0 if picture is None else picture.shape[1],
            timestep.shape[2] if timestep.ndim > 1 else 0,
        )

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Modulation is of each token, or one for all:
        (batch, width)."""
        whole = {name: value for name, value in call.positions.items() if _holds_for_all(value)}
        return whole | {
            name: picked(value, self.token_dims[name], tokens)
            for name, value in call.positions.items()
            if name not in whole
        }


def _holds_for_all(value: Any) -> bool:
    return value is None or (isinstance(value, Tensor) and value.ndim == 2)
