"""ComfyUI's own Kandinsky 5: Lite and Pro, text- and image-to-video, and pictures."""

from __future__ import annotations

import math
from typing import Any

from ..flops import BlockShape, ModelShape
from .comfy import ComfyAdapter
from .one_stream import OneStream


class KandinskyAdapter(OneStream, ComfyAdapter):
    """Reads the calls of core's ``Kandinsky5``. A picture's latent is (batch, channels, rows, columns)."""

    parameters = ("visual_embed", "text_embed", "time_embed", "freqs", "transformer_options")
    stream = "visual_embed"
    token_dims = {"freqs": 1}

    @property
    def out_channels(self) -> int:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return int(self.model.out_layer.out_layer.out_features // math.prod(self.model.patch_size))

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.visual_transformer_blocks)

    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        model, width = self.model, self.model.model_dim
        time = model.time_embeddings.in_layer.out_features
        feed_forward = 2 * width * self.blocks[0].feed_forward.in_layer.out_features
        frames, rows, columns = latent[2:] if len(latent) == 5 else (1, *latent[2:])
        sides = zip((frames, rows, columns), model.patch_size, strict=True)
        grid = tuple(-(-side // part) for side, part in sides)
        block = BlockShape(
            count=len(self.blocks),
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * width * width * text_tokens + 9 * width * time,
            attention=width,
            context=text_tokens,
        )
        numbers = self.out_channels * math.prod(model.patch_size)
        outside = (
            math.prod(grid) * width * (model.visual_embed_dim + numbers)
            + 2 * width * time  # the head's modulation
            + time * (width + time + model.pooled_text_embeddings.in_layer.in_features)
            + self._prompt(text_tokens, time, feed_forward)
        )
        return ModelShape((block,), width, grid, 0, outside, numbers)

    def _prompt(self, tokens: int, time: int, feed_forward: int) -> int:
        """Multiplications of the prompt's embedding and its own blocks, which every step runs."""
        model, width = self.model, self.model.model_dim
        block = tokens * (4 * width * width + feed_forward + 2 * width * tokens) + 6 * width * time
        embedding = tokens * model.text_embeddings.in_layer.in_features * width
        return int(embedding + len(model.text_transformer_blocks) * block)
