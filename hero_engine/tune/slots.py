"""Which tokens of a clip are looked at, and how their variants are put in the place of other tokens.

What follows the last block of a transformer makes each token's part of the answer from that token alone
(norm, modulation, a linear layer). So one pass through it can answer for many variants of few tokens: they
stand in the places of the other tokens of their frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def per_token(latent: Tensor, grid: tuple[int, int, int], channel_dim: int) -> Tensor:
    """A latent as the numbers of its tokens.

    Args:
        latent: as ``ModelAdapter.read_output`` gives it.
        grid: (frames, rows, columns) of tokens.
        channel_dim: of the latent.

    Returns:
        (batch, tokens, numbers of a token). Edges that tokens stand over are filled up with zeros.
    """
    if latent.ndim == 3:
        return latent
    latent = latent.movedim(channel_dim, -1)
    for axis, count in enumerate(grid, 1):
        missing = -latent.shape[axis] % count
        if missing:
            filling = list(latent.shape)
            filling[axis] = missing
            latent = torch.cat([latent, latent.new_zeros(filling)], axis)
    frames, rows, columns = grid
    batch, *sides, channels = latent.shape
    f, r, c = (side // count for side, count in zip(sides, grid, strict=True))
    parts = latent.reshape(batch, frames, f, rows, r, columns, c, channels)
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, math.prod(grid), -1)


class Slots:
    """The tokens that are looked at: as many in every frame, at random places.

    Args:
        grid: (frames, rows, columns) of tokens.
        tokens: about how many to look at; all where there are fewer.
        before: tokens of the stream in front of the grid's.
        device: of the stream.

    Attributes:
        index: (tokens,) of the grid, frame by frame.
        each: tokens of a frame.
    """

    def __init__(self, grid: tuple[int, int, int], tokens: int, before: int, device: torch.device):
        self._frames, self._places = grid[0], grid[1] * grid[2]
        self._before = before
        self.each = min(self._places, max(1, round(tokens / self._frames)))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.stack(
            [
                torch.randperm(self._places, generator=generator)[: self.each] + frame * self._places
                for frame in range(self._frames)
            ]
        )
        self.index = drawn.flatten().to(device)

    def pick(self, stream: Tensor) -> Tensor:
        """The tokens looked at, of (batch, tokens of the stream, ...)."""
        return stream.index_select(1, self.index + self._before)

    def fill(self, stream: Tensor, variants: Tensor) -> list[Tensor]:
        """Streams with variants in the place of other tokens.

        Args:
            stream: (batch, tokens of the stream, width).
            variants: (variants, batch, tokens looked at, width).

        Returns:
            as many streams as it takes.
        """
        count, batch, _, width = variants.shape
        lined = variants.view(count, batch, self._frames, self.each, width)
        lined = lined.permute(1, 2, 0, 3, 4).reshape(batch, self._frames, count * self.each, width)
        filled = []
        for part in lined.split(self._places, dim=2):
            copy = stream.clone()
            self._framed(copy, self._before)[:, :, : part.shape[2]] = part
            filled.append(copy)
        return filled

    def read(self, answers: list[Tensor], count: int) -> Tensor:
        """What was made of the variants.

        Args:
            answers: per token, (batch, tokens of the grid, numbers), of the streams of :meth:`fill`.
            count: of variants.

        Returns:
            (variants, batch, tokens looked at, numbers).
        """
        lined = torch.cat([self._framed(answer, 0) for answer in answers], dim=2)[:, :, : count * self.each]
        batch, frames, _, numbers = lined.shape
        lined = lined.reshape(batch, frames, count, self.each, numbers).permute(2, 0, 1, 3, 4)
        return lined.reshape(count, batch, frames * self.each, numbers)

    def _framed(self, tokens: Tensor, before: int) -> Tensor:
        """A view of the grid's tokens, frame by frame."""
        size = self._frames * self._places
        return torch.unflatten(tokens[:, before : before + size], 1, (self._frames, self._places))
