"""ComfyUI's own Cosmos 1: text-to-world and, with a channel for the mask, video-to-world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ..flops import ModelShape
from .adapter import BlockCall
from .comfy import ComfyAdapter
from .cosmos_shape import CosmosSize
from .gathering import picked
from .one_stream import OneStream

_ADDITION = "addition"
"""What the model adds to the tokens before a block; kept under this name with the block's positions."""


class CosmosAdapter(OneStream, ComfyAdapter):
    """Reads the calls of core's ``GeneralDIT``, whose stream is (frames, rows, columns, batch, width).

    Before every block the model adds a learned position to the stream, in place. The first block's input has
    it already; before the others, selected tokens get theirs here.
    """

    in_place = True
    parameters = (
        "x", "emb_B_D", "crossattn_emb", "crossattn_mask", "rope_emb_L_1_1_D", "adaln_lora_B_3D",
        "transformer_options",
    )  # fmt: skip
    stream = "x"
    token_dims = {"rope_emb_L_1_1_D": 0}

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks.values())

    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        model = self.model
        cross_attention, feed_forward = (part.block for part in self.blocks[0].blocks[1:])
        size = CosmosSize(
            blocks=len(self.blocks),
            width=model.model_channels,
            inner=feed_forward.layer1.out_features,
            rank=model.adaln_lora_dim if model.use_adaln_lora else None,
            text_width=cross_attention.attn.to_k[0].in_features,
            channels=(latent[1] + model.concat_padding_mask, model.out_channels),
            patch=(model.patch_temporal, model.patch_spatial, model.patch_spatial),
        )
        return size.shape(latent, text_tokens)

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        call = super().read_block(number, args, kwargs)
        video, _ = self.unpack(call, call.unchanged)
        return replace(call, video=video, text=video[:, :0], kind="later" if number else "first")

    def arguments(self, call: BlockCall) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Selected tokens are frames of one token."""
        positions = dict(call.positions)
        addition = positions.pop(_ADDITION, None)
        video = call.video if addition is None else call.video + addition
        return {**positions, **call.rest, self.stream: video.transpose(0, 1)[:, None, None]}

    def unpack(self, call: BlockCall, result: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return result.flatten(0, 2).transpose(0, 1), call.text

    def pack(self, call: BlockCall, video: Tensor, text: Tensor) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return video.transpose(0, 1).reshape(call.unchanged.shape)

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        positions = super().gather(call, tokens, text)
        if call.kind == "later":
            one = call.unchanged.permute(3, 0, 1, 2, 4)[:1]  # one sample: the batch shares them
            learned = self.model.extra_pos_embedder(one, fps=None, device=one.device, dtype=one.dtype)
            positions[_ADDITION] = picked(learned.flatten(1, 3), 1, tokens)
        return positions
