"""ComfyUI's own Wan 2.1 and 2.2: text- and image-to-video, Camera, Fun Control, and the 5B with a timestep
for each frame."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .comfy import ComfyAdapter
from .gathering import picked
from .one_stream import OneStream

_PICTURE_TOKENS = 257
"""Of CLIP vision, for models with an embedding for a picture."""


class WanAdapter(OneStream, ComfyAdapter):
    """Reads the calls of core's ``WanModel`` and ``CameraWanModel``."""

    parameters = ("x", "e", "freqs", "context", "context_img_len", "transformer_options")
    stream = "x"
    token_dims = {"freqs": 1, "e": 1}
    patches_inside = ("attn1_patch", "attn2_patch")

    @property
    def out_channels(self) -> int:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return int(self.model.out_dim)

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks)

    def shape(
        self,
        latent: tuple[int, ...],
        text_tokens: int,
        extra: tuple[int, int] = (0, 0),
        picture_tokens: int | None = None,
        timesteps: int = 1,
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            extra: tokens of a reference picture, before the grid's, and of context latents, after it.
            picture_tokens: of CLIP vision; None for those of one picture, where the model takes any.
            timesteps: how many: one for all, or one per frame.
        """
        model, width = self.model, self.model.dim
        patch = math.prod(model.patch_size)
        grid = tuple(-(-side // part) for side, part in zip(latent[2:], model.patch_size, strict=True))
        feed_forward = 2 * width * model.ffn_dim
        pictures = 0
        if model.img_emb is not None:
            pictures = _PICTURE_TOKENS if picture_tokens is None else picture_tokens
        block = BlockShape(
            count=len(self.blocks),
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * width * width * (text_tokens + pictures),
            attention=width,
            context=text_tokens + pictures,
        )
        tokens = math.prod(grid)
        reference = 0 if model.ref_conv is None else extra[0] * width * model.ref_conv.weight[0].numel()
        outside = (
            (tokens + extra[1]) * width * patch * latent[1]
            + reference
            + (tokens + sum(extra)) * width * patch * model.out_dim
            + text_tokens * (model.text_dim + width) * width
            + timesteps * (model.freq_dim + 7 * width) * width
            + pictures * (1280 * 1280 + 1280 * width)
        )
        return ModelShape((block,), width, grid, 0, outside, model.out_dim * patch, extra)

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        latent = list(asked["x"].shape)
        if (appended := asked.get("time_dim_concat")) is not None:
            latent[2] += appended.shape[2]
        timestep = asked["timestep"]
        timesteps = timestep.shape[1] if timestep.ndim > 1 else 1
        extra, pictures = self.variant(asked)
        return self.shape(tuple(latent), asked["context"].shape[1], extra, pictures, timesteps)

    def variant(self, asked: dict[str, Any]) -> tuple[Any, ...]:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        picture = asked.get("clip_fea")
        return self._extra(asked), 0 if picture is None else picture.shape[-2]

    def _extra(self, asked: dict[str, Any]) -> tuple[int, int]:
        """Tokens of a reference picture, before the grid's, and of context latents, after it."""
        model, before = self.model, 0
        if model.ref_conv is not None and (reference := asked.get("reference_latent")) is not None:
            before = math.prod(
                s // p for s, p in zip(reference.shape[-2:], model.patch_size[1:], strict=True)
            )
        behind = sum(
            math.prod(-(-s // p) for s, p in zip(latent.shape[2:], model.patch_size, strict=True))
            for latent in asked.get("context_latents") or ()
        )
        return before, behind

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`. Modulation that differs from frame to frame
        is first spread over the frames' tokens, as the block does."""
        modulation = call.positions["e"]
        if modulation.ndim == 4 and modulation.shape[1] > 1:
            repeats = -(-call.video.shape[1] // modulation.shape[1])
            modulation = modulation.index_select(1, (tokens // repeats).to(modulation.device))
        return {"freqs": picked(call.positions["freqs"], 1, tokens), "e": modulation}
