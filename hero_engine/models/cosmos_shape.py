"""Dimensions of Cosmos 1 and Cosmos Predict2. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..flops import BlockShape, ModelShape


@dataclass(frozen=True)
class CosmosSize:
    """What sets the size of the two models.

    Attributes:
        blocks, width, inner: number of blocks, their width, and the inner width of their feed-forward.
        rank: of the modulation's low-rank linear layers; None where they are full.
        text_width: of the prompt that is attended to.
        channels: of the latent as it is embedded, and of the answer.
        patch: frames, rows and columns of the latent in a token.
    """

    blocks: int
    width: int
    inner: int
    rank: int | None
    text_width: int
    channels: tuple[int, int]
    patch: tuple[int, int, int]

    def shape(self, latent: tuple[int, ...], text_tokens: int, timesteps: int = 1) -> ModelShape:
        """The dimensions of a call.

        Args:
            latent: (batch, channels, frames, rows, columns), padded up to whole patches.
            text_tokens: of the prompt.
            timesteps: how many: one for all frames, or one per frame.
        """
        width, feed_forward, patch = self.width, 2 * self.width * self.inner, math.prod(self.patch)
        frames, rows, columns = (-(-side // part) for side, part in zip(latent[2:], self.patch, strict=True))
        modulation = 3 * self._modulation(3)
        block = BlockShape(
            count=self.blocks,
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * width * self.text_width * text_tokens + (modulation if timesteps == 1 else 0),
            attention=width,
            context=text_tokens,
            modulation=modulation if timesteps > 1 else 0,
        )
        # With a rank, the timestep's second layer gives the modulation that all blocks share.
        time = width * width * (2 if self.rank is None else 4)
        outside = frames * rows * columns * width * patch * sum(self.channels)
        outside += timesteps * (time + self._modulation(2))
        return ModelShape((block,), width, (frames, rows, columns), 0, outside, self.channels[1] * patch)

    def _modulation(self, parts: int) -> int:
        """Multiplications for this many of shift, scale and gate at one timestep."""
        if self.rank is None:
            return parts * self.width * self.width
        return (1 + parts) * self.rank * self.width
