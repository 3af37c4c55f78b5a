"""Dimensions of a CogVideoX transformer. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..flops import BlockShape, ModelShape


@dataclass(frozen=True)
class CogVideoXSize:
    """What sets the size of a CogVideoX transformer.

    Attributes:
        blocks, width: number of transformer blocks and their hidden size.
        time_width: width of the time embedding.
        text_width: of the prompt embedding.
        in_channels, out_channels: latent channels that enter and leave, of all frames of a token.
        patch_size: latent rows and columns of one token.
    """

    blocks: int
    width: int
    time_width: int
    text_width: int
    in_channels: int
    out_channels: int
    patch_size: int

    def shape(self, grid: tuple[int, int, int], text_tokens: int) -> ModelShape:
        """The dimensions of a call with (frames, rows, columns) of video tokens."""
        width, time, patch = self.width, self.time_width, self.patch_size**2
        feed_forward = 8 * width * width
        block = BlockShape(
            count=self.blocks,
            token=4 * width * width + feed_forward,  # query, key, value, output
            feed_forward=feed_forward,
            fixed=2 * 6 * width * time,
            attention=width,
        )
        outside = (
            math.prod(grid) * width * patch * (self.in_channels + self.out_channels)
            + text_tokens * self.text_width * width
            + time * (width + time + 2 * width)
        )
        return ModelShape((block,), width, grid, text_tokens, outside, self.out_channels * patch)
