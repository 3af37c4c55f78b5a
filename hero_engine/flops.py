"""A model's dimensions, and the FLOPs of its parts. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockShape:
    """Equal blocks in a row, by what one of them multiplies at batch 1.

    Attributes:
        count: how many.
        token: multiplications of the linear layers for each token that runs through a block.
        feed_forward: those of them that are the feed-forward's.
        fixed: multiplications whatever runs: modulation by the timestep, keys and values of a prompt that is
            attended to.
        attention: width of the attention: heads times head width.
        context: tokens of a prompt or picture that every token attends to by cross-attention.
        modulation: multiplications, besides those, for the timestep of a frame where every frame has its own:
            once a frame where all tokens run, for each token where selected ones do.
        text: multiplications of the linear layers for all text tokens that run through a block, where these
            have layers of their own; None where each costs `token`.
    """

    count: int
    token: int
    feed_forward: int
    fixed: int
    attention: int
    context: int = 0
    modulation: int = 0
    text: int | None = None

    def linear(self, tokens: float, text: float, modulated: float) -> float:
        """Multiplications of the linear layers.

        Args:
            tokens: video tokens that run.
            text: text tokens that run: all or none.
            modulated: frames or tokens with a timestep of their own.
        """
        prompt = self.token * text if self.text is None or not text else self.text
        return self.token * tokens + prompt + self.fixed + self.modulation * modulated


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a transformer in one call.

    Attributes:
        stack: its blocks, in order.
        width: hidden size.
        grid: (frames, rows, columns) of video tokens.
        text_tokens: tokens of the prompt that run through the blocks with the video's; 0 where it is attended
            to by cross-attention.
        outside: multiplications outside the blocks: embeddings and head.
        token_numbers: numbers of the model's answer for each token of the grid.
        extra: tokens (in front of, behind) the grid's in the same stream, say of a reference picture. Every
            step computes them.
        keeps_text: whether the blocks cannot run without the prompt's tokens.
        stream_bytes: of a number of the stream, where its dtype is not the model's.
    """

    stack: tuple[BlockShape, ...]
    width: int
    grid: tuple[int, int, int]
    text_tokens: int
    outside: int
    token_numbers: int
    extra: tuple[int, int] = (0, 0)
    keeps_text: bool = False
    stream_bytes: int | None = None

    @property
    def blocks(self) -> int:
        return sum(part.count for part in self.stack)

    @property
    def grid_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def video_tokens(self) -> int:
        """The grid's, and those in front of and behind it."""
        return self.grid_tokens + sum(self.extra)

    @property
    def tokens(self) -> int:
        """Video and text tokens."""
        return self.video_tokens + self.text_tokens

    def first(self, blocks: int) -> Iterator[tuple[int, BlockShape]]:
        """The first `blocks` blocks: how many of each kind."""
        for part in self.stack:
            count = min(blocks, part.count)
            blocks -= count
            yield count, part


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


def linear_flops(
    shape: ModelShape, blocks: int, tokens: float, text: float = 0, selected: bool = False
) -> float:
    """FLOPs of the linear layers of one forward at batch 1, embeddings and output included.

    Args:
        shape: the model.
        blocks: blocks that run.
        tokens: tokens that run through them; with 0, only what does not depend on them runs.
        text: text tokens that run besides: all of the shape's or none.
        selected: whether those tokens are selected ones.
    """
    modulated = tokens if selected else shape.grid[0]
    inside = sum(count * part.linear(tokens, text, modulated) for count, part in shape.first(blocks))
    return 2 * (inside + shape.outside)


def feed_forward_flops(shape: ModelShape, blocks: int, tokens: float) -> float:
    """FLOPs of the feed-forwards of `blocks` blocks over `tokens` tokens at batch 1."""
    return 2 * tokens * sum(count * part.feed_forward for count, part in shape.first(blocks))


def attention_flops(shape: ModelShape, blocks: int, tokens: float) -> float:
    """FLOPs of the attention's two matrix products (scores, weighted values) at batch 1, of tokens that
    attend to one another and to the context."""
    pairs = sum(count * part.attention * (tokens + part.context) for count, part in shape.first(blocks))
    return 4 * tokens * pairs


def full_step(shape: ModelShape) -> Work:
    """One full forward."""
    return Work(
        linear_flops(shape, shape.blocks, shape.video_tokens, shape.text_tokens),
        attention_flops(shape, shape.blocks, shape.tokens),
    )
