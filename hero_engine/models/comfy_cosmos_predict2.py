"""ComfyUI's own Cosmos Predict2: text-to-image and, with a channel for the mask and a timestep for each
frame, video-to-world; and Anima, of the same blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..flops import ModelShape
from .adapter import BlockCall
from .comfy import ComfyAdapter
from .cosmos_shape import CosmosSize
from .gathering import picked
from .one_stream import OneStream

_ROTARY, _LEARNED = "rope_emb_L_1_1_D", "extra_per_block_pos_emb"
_OF_FRAMES = ("emb_B_T_D", "adaln_lora_B_T_3D")


class CosmosPredict2Adapter(OneStream, ComfyAdapter):
    """Reads the calls of core's ``MiniTrainDIT``, whose stream is (batch, frames, rows, columns, width), in
    float32 where the model computes in float16."""

    parameters = (
        "x_B_T_H_W_D", "emb_B_T_D", "crossattn_emb", _ROTARY, "adaln_lora_B_T_3D", _LEARNED,
        "transformer_options",
    )  # fmt: skip
    stream = "x_B_T_H_W_D"
    token_dims = dict.fromkeys((_ROTARY, _LEARNED, *_OF_FRAMES), 1)
    patches_inside = ("attn1_patch", "attn2_patch", "mlp_patch")

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks)

    def shape(self, latent: tuple[int, ...], text_tokens: int, timesteps: int = 1) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            timesteps: how many: one for all, or one per frame.
        """
        model, block = self.model, self.blocks[0]
        size = CosmosSize(
            blocks=len(self.blocks),
            width=model.model_channels,
            inner=block.mlp.layer1.out_features,
            rank=model.adaln_lora_dim if model.use_adaln_lora else None,
            text_width=block.cross_attn.k_proj.in_features,
            channels=(latent[1] + model.concat_padding_mask, model.out_channels),
            patch=(model.patch_temporal, model.patch_spatial, model.patch_spatial),
        )
        return size.shape(latent, text_tokens, timesteps)

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        latent, timestep = asked["x"], asked["timestep"]
        timesteps = timestep.shape[1] if timestep.ndim > 1 else 1
        shape = self.shape(tuple(latent.shape), asked["context"].shape[1], timesteps)
        return replace(shape, stream_bytes=4 if latent.dtype == torch.float16 else None)

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        call = super().read_block(number, args, kwargs)
        video, _ = self.unpack(call, call.unchanged)
        return replace(call, video=video, text=video[:, :0])

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Selected tokens are frames of one token."""
        return {**super().arguments(call), self.stream: call.video[:, :, None, None]}

    def unpack(self, call: BlockCall, result: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result.flatten(1, 3), call.text

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return video.reshape(call.unchanged.shape)

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        given, (rows, columns) = call.positions, call.unchanged.shape[2:4]
        positions = {name: picked(given.get(name), 1, tokens // (rows * columns)) for name in _OF_FRAMES}
        positions[_ROTARY] = picked(given[_ROTARY], 1, tokens)
        if (learned := given.get(_LEARNED)) is not None:
            positions[_LEARNED] = picked(learned.flatten(1, 3), 1, tokens)[:, :, None, None]
        return positions
