"""diffusers' HunyuanVideo: 1, text-to-video and both kinds of image-to-video, and 1.5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .diffusers import DiffusersAdapter
from .gathering import picked
from .two_streams import TwoStreams

_TIME_WIDTH = 256
"""Of the timestep's sinusoids."""
_BYT5_WIDTH = 2048
"""Inside the projection of 1.5's second prompt."""
DUAL, SINGLE = "dual", "single"
"""Blocks with weights of their own for the prompt's tokens, and those with one set for all."""


class HunyuanVideoAdapter(TwoStreams, DiffusersAdapter):
    """Reads the calls of a diffusers ``HunyuanVideoTransformer3DModel``. In its attention the prompt's tokens
    come after the video's, and its blocks cannot run without them."""

    # Where the first frame is given, its tokens come first and have a timestep of their own.
    in_order = True
    rotary = {DUAL: "freqs_cis", SINGLE: "image_rotary_emb"}

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return [*self.model.transformer_blocks, *self.model.single_transformer_blocks]

    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        model, config = self.model, self.model.config
        given = config.image_condition_type == "token_replace"
        width = config.num_attention_heads * config.attention_head_dim
        square, modulations = width * width, 2 if given else 1
        feed_forward = 2 * int(square * config.mlp_ratio)
        dual = BlockShape(
            count=len(model.transformer_blocks),
            token=4 * square + feed_forward,
            feed_forward=feed_forward,
            fixed=6 * square * (modulations + 1),
            attention=width,
        )
        single = BlockShape(
            count=len(model.single_transformer_blocks),
            token=4 * square + feed_forward,
            feed_forward=feed_forward,
            fixed=3 * square * modulations,
            attention=width,
        )
        times = modulations + bool(config.guidance_embeds)
        outside = (
            times * _timestep(width)
            + (config.pooled_projection_dim + width) * width
            + self._ends(latent, width)
            + self._refiner(text_tokens, width)
        )
        return self._shape_of((dual, single), latent, text_tokens, outside)

    def _shape_of(
        self, stack: tuple[BlockShape, ...], latent: tuple[int, ...], text_tokens: int, outside: int
    ) -> ModelShape:
        config = self.model.config
        return ModelShape(
            stack=stack,
            width=config.num_attention_heads * config.attention_head_dim,
            grid=self._grid(latent),
            text_tokens=text_tokens,
            outside=outside,
            token_numbers=self.out_channels * config.patch_size_t * config.patch_size**2,
            keeps_text=True,
        )

    def _grid(self, latent: tuple[int, ...]) -> tuple[int, int, int]:
        config = self.model.config
        _, _, frames, rows, columns = latent
        return frames // config.patch_size_t, rows // config.patch_size, columns // config.patch_size

    def _ends(self, latent: tuple[int, ...], width: int) -> int:
        """Multiplications of the patch embedding and the head."""
        config = self.model.config
        frames, rows, columns = self._grid(latent)
        numbers: int = config.patch_size_t * config.patch_size**2 * (config.in_channels + self.out_channels)
        return frames * rows * columns * width * numbers + 2 * width * width

    def _refiner(self, text_tokens: int, width: int) -> int:
        """Multiplications of the blocks that only the prompt runs through."""
        config = self.model.config
        block = text_tokens * (12 * width + 2 * text_tokens) * width + 2 * width * width
        embeddings: int = ((text_tokens + 1) * config.text_embed_dim + width) * width  # + 1: pooled
        layers: int = config.num_refiner_layers
        return layers * block + embeddings + _timestep(width)

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        kind = DUAL if number < len(self.model.transformer_blocks) else SINGLE
        rotary = self.rotary[kind]
        parameters = (
            "hidden_states",
            "encoder_hidden_states",
            "temb",
            "attention_mask",
            rotary,
            "token_replace_emb",
            "num_tokens",
        )
        named = {**dict(zip(parameters, args, strict=False)), **kwargs}
        video, text = named.pop("hidden_states"), named.pop("encoder_hidden_states")
        of_tokens = [rotary, "attention_mask"]
        if named.get("token_replace_emb") is not None:
            of_tokens.append("num_tokens")
        positions = {name: named.pop(name) for name in of_tokens if name in named}
        return BlockCall(args, kwargs, (video, text), video, text, positions, named, kind)

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        rotary, positions = self.rotary[call.kind], dict(call.positions)
        positions[rotary] = picked(positions[rotary], 0, tokens)
        positions["attention_mask"] = self._mask(positions["attention_mask"], call.text.shape[1], tokens)
        if "num_tokens" in positions:
            positions["num_tokens"] = int((tokens < positions["num_tokens"]).sum())
        return positions

    def _mask(self, mask: Tensor, text: int, tokens: Tensor) -> Tensor:
        """Of the keys: (batch, 1, 1, tokens)."""
        video = mask.shape[-1] - text
        return torch.cat([picked(mask[..., :video], 3, tokens), mask[..., video:]], dim=3)


class HunyuanVideo15Adapter(HunyuanVideoAdapter):
    """Reads the calls of a diffusers ``HunyuanVideo15Transformer3DModel``. Its text tokens come
    from two text encoders and a picture."""

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.transformer_blocks)

    def shape(
        self, latent: tuple[int, ...], text_tokens: int, second_tokens: int = 0, picture_tokens: int = 0
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            second_tokens: of the second prompt (ByT5).
            picture_tokens: of the picture's embedding.
        """
        config = self.model.config
        width = config.num_attention_heads * config.attention_head_dim
        square = width * width
        feed_forward = 2 * int(square * config.mlp_ratio)
        block = BlockShape(
            count=len(self.blocks),
            token=4 * square + feed_forward,
            feed_forward=feed_forward,
            fixed=12 * square,
            attention=width,
        )
        picture = config.image_embed_dim
        outside = (
            (2 if config.use_meanflow else 1) * _timestep(width)
            + second_tokens * _BYT5_WIDTH * (config.text_embed_2_dim + _BYT5_WIDTH + width)
            + picture_tokens * picture * (picture + width)
            + self._ends(latent, width)
            + self._refiner(text_tokens, width)
        )
        return self._shape_of((block,), latent, text_tokens + second_tokens + picture_tokens, outside)

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`."""
        names = ("encoder_hidden_states", "encoder_hidden_states_2", "image_embeds")
        return self.shape(tuple(asked["hidden_states"].shape), *(asked[name].shape[1] for name in names))

    def _mask(self, mask: Tensor, text: int, tokens: Tensor) -> Tensor:
        """Of the prompt alone; the blocks prepend the video's."""
        return mask


def _timestep(width: int) -> int:
    """Multiplications of a timestep's embedding."""
    return (_TIME_WIDTH + width) * width
