"""ComfyUI's own Mochi: text-to-video."""

from __future__ import annotations

import math
from typing import Any

from ..flops import BlockShape, ModelShape
from ..wrapping import CALLS
from .comfy import ComfyAdapter
from .two_streams import TwoStreams

_PROMPT_TOKENS = 256
"""Tokens attended to, where a call does not say how many."""


class MochiAdapter(TwoStreams, ComfyAdapter):
    """Reads the calls of core's ``AsymmDiTJoint``: video and text of two widths, in one attention. All of the
    prompt's rows run through the blocks; those that are not padding are attended to."""

    entry = CALLS  # core has no wrappers around this model
    parameters = ("x", "c", "y", "transformer_options")
    streams = ("x", "y")
    token_dims = {"rope_cos": 0, "rope_sin": 0}

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks)

    def shape(self, latent: tuple[int, ...], text_tokens: int, attended: int = _PROMPT_TOKENS) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            attended: the prompt's tokens that are not padding.
        """
        model, width = self.model, self.model.hidden_size_x
        frames, rows, columns = latent[2:]
        patch = model.patch_size
        grid = (frames, rows // patch, columns // patch)
        numbers = patch * patch * model.out_channels
        count = len(self.blocks)
        stack = (self._blocks(count - 1, text_tokens), self._blocks(1, text_tokens, last=True))
        outside = (
            math.prod(grid) * width * (patch * patch * model.in_channels + numbers)
            + math.prod(grid) * 3 * width // 2  # the angles of the rotary positions
            + (model.t_embedder.frequency_embedding_size + width) * width
            + self._prompt(text_tokens)
            + 2 * width * width  # the head's modulation
        )
        attended = min(attended, text_tokens)
        # Its blocks have no way to take a prompt of no rows.
        return ModelShape(stack, width, grid, attended, outside, numbers, keeps_text=True)

    def _blocks(self, count: int, text_tokens: int, last: bool = False) -> BlockShape:
        """The last block leaves the prompt as it is."""
        width, narrow = self.model.hidden_size_x, self.model.hidden_size_y
        feed_forward = 3 * width * self.blocks[-1].mlp_x.hidden_dim
        text = 3 * width * narrow
        if not last:
            text += width * narrow + 3 * narrow * self.blocks[0].mlp_y.hidden_dim
        return BlockShape(
            count=count,
            token=4 * width * width + feed_forward,
            feed_forward=feed_forward,
            fixed=4 * width * width + (1 if last else 4) * width * narrow,
            attention=width,
            text=text_tokens * text,
        )

    def _prompt(self, tokens: int) -> int:
        """Multiplications of the prompt's embedding: to the width of the text, and pooled to the video's."""
        model, pooled = self.model, self.model.t5_feat_dim
        keys = (tokens + 1) * (2 * pooled * pooled + 2 * pooled)
        return int(tokens * pooled * model.hidden_size_y + keys + pooled * (pooled + model.hidden_size_x))

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return self.shape(tuple(asked["x"].shape), asked["context"].shape[1], *self.variant(asked))

    def variant(self, asked: dict[str, Any]) -> tuple[Any, ...]:
        """See :class:`~hero_engine.models.comfy.ComfyAdapter`."""
        return (asked.get("num_tokens", _PROMPT_TOKENS),)
