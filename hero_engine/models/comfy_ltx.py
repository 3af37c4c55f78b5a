"""ComfyUI's own LTX-Video: text-to-video, and image-to-video with a timestep for each token."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..flops import BlockShape, ModelShape
from .adapter import BlockCall
from .comfy import ComfyAdapter
from .gathering import picked
from .one_stream import OneStream


class LTXAdapter(OneStream, ComfyAdapter):
    """Reads the calls of core's ``LTXVModel``."""

    parameters = (
        "x", "context", "attention_mask", "timestep", "pe", "transformer_options", "self_attention_mask",
        "prompt_timestep",
    )  # fmt: skip
    stream = "x"
    token_dims = {"timestep": 1, "pe": 1}
    in_place = True

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.transformer_blocks)

    def check(self, asked: dict[str, Any]) -> None:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`. Guides are frames appended to the
        clip's own; the model drops some of their tokens and weights others in attention."""
        super().check(asked)
        guides = asked.get("keyframe_idxs")
        if guides is not None and guides.shape[2]:
            raise ConfigError(
                "model",
                "guides appended to the clip (LTXVAddGuide, IC-LoRA) are not supported: set a start picture "
                "with LTXVImgToVideo instead, or bypass HERO",
            )

    def shape(self, latent: tuple[int, ...], text_tokens: int, for_each_token: bool = False) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            for_each_token: whether every token has a timestep of its own.
        """
        model, width = self.model, self.model.inner_dim
        grid = tuple(side // part for side, part in zip(latent[2:], model.patchifier.patch_size, strict=True))
        feed_forward = 8 * width * width
        block = BlockShape(
            count=len(self.blocks),
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * model.cross_attention_dim * width * text_tokens,
            attention=width,
            context=text_tokens,
        )
        tokens = math.prod(grid)
        outside = (
            tokens * width * (model.in_channels + model.out_channels)
            + (tokens if for_each_token else 1) * _modulation(model.adaln_single, width)
            + _modulation(model.prompt_adaln_single, width)
            + self._prompt(text_tokens)
        )
        return ModelShape((block,), width, grid, 0, outside, model.out_channels)

    def _prompt(self, tokens: int) -> int:
        """Multiplications of the prompt's projection, which some models leave to the text encoder."""
        model, width = self.model, self.model.inner_dim
        if model.caption_proj_before_connector:
            return 0
        return int(tokens * (model.caption_channels + width) * width)

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return self.shape(tuple(asked["x"].shape), asked["context"].shape[1], asked["timestep"].ndim > 1)

    def gather(self, call: BlockCall, tokens: Tensor, text: bool) -> dict[str, Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        matrices, split = call.positions["pe"]
        return {
            "pe": (picked(matrices, 1, tokens), split),
            "timestep": picked(call.positions["timestep"], 1, tokens),
        }


def _modulation(embedding: Any, width: int) -> int:
    """Multiplications of an ``AdaLayerNormSingle`` for each timestep; 0 without one."""
    if embedding is None:
        return 0
    first = embedding.emb.timestep_embedder.linear_1
    return int(width * (first.in_features + width + embedding.linear.out_features))
