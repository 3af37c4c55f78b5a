"""A model's dimensions, and the FLOPs of its parts. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a CogVideoX transformer in one call.

    Attributes:
        blocks, width: number of transformer blocks and their hidden size.
        time_width: width of the time embedding.
        text_tokens, text_width: length and width of the prompt embedding.
        grid: (frames, rows, columns) of video tokens.
        in_channels, out_channels: latent channels that enter and leave.
        patch_size: latent rows and columns of one token.
    """

    blocks: int
    width: int
    time_width: int
    text_tokens: int
    text_width: int
    grid: tuple[int, int, int]
    in_channels: int
    out_channels: int
    patch_size: int

    @property
    def video_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def tokens(self) -> int:
        """Video and text tokens."""
        return self.video_tokens + self.text_tokens


@dataclass(frozen=True)
class Work:
    """FLOPs of one forward at batch 1, two a multiplication.

    Attributes:
        linear: of the linear layers; the HERO paper's FLOPs columns count these alone.
        attention: of the attention's two matrix products (scores, weighted values).
    """

    linear: float
    attention: float = 0.0

    @property
    def total(self) -> float:
        return self.linear + self.attention


def linear_flops(shape: ModelShape, blocks: int, tokens: float) -> float:
    """FLOPs of the linear layers of one forward at batch 1, embeddings and output included.

    Args:
        shape: the model.
        blocks: blocks that run.
        tokens: tokens that run through them; with 0, only the blocks' modulation by the timestep runs.
    """
    width, modulation = shape.width, 2 * 6 * shape.width * shape.time_width
    per_token = 4 * width * width + 8 * width * width  # query, key, value, output; feed-forward up and down
    return 2 * (blocks * (per_token * tokens + modulation) + _embedding_multiplications(shape))


def _embedding_multiplications(shape: ModelShape) -> int:
    patch = shape.patch_size**2
    return (
        shape.video_tokens * shape.width * patch * (shape.in_channels + shape.out_channels)
        + shape.text_tokens * shape.text_width * shape.width
        + shape.time_width * (shape.width + shape.time_width + 2 * shape.width)
    )


def feed_forward_flops(shape: ModelShape, blocks: int, tokens: float) -> float:
    """FLOPs of the feed-forwards of `blocks` blocks over `tokens` tokens at batch 1."""
    return 2 * blocks * 8 * shape.width**2 * tokens


def attention_flops(shape: ModelShape, blocks: int, queries: float, keys: float) -> float:
    """FLOPs of the attention's two matrix products (scores, weighted values) at batch 1."""
    return 4 * blocks * queries * keys * shape.width


def full_step(shape: ModelShape) -> Work:
    """One full forward."""
    return Work(
        linear_flops(shape, shape.blocks, shape.tokens),
        attention_flops(shape, shape.blocks, shape.tokens, shape.tokens),
    )
