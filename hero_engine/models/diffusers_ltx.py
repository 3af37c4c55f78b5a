"""diffusers' LTX-Video: text- and image-to-video, and conditions as tokens before the clip's."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..flops import BlockShape, ModelShape
from .diffusers import DiffusersAdapter
from .one_stream import OneStream

_TIME_WIDTH = 256
"""Of the timestep's sinusoids."""


class LTXAdapter(OneStream, DiffusersAdapter):
    """Reads the calls of a diffusers ``LTXVideoTransformer3DModel``: latents (batch, tokens, channels)."""

    channel_dim = 2
    guided_in_one_batch = True
    parameters = (
        "hidden_states",
        "encoder_hidden_states",
        "temb",
        "image_rotary_emb",
        "encoder_attention_mask",
    )
    stream = "hidden_states"
    token_dims = {"temb": 1, "image_rotary_emb": 1}

    def __init__(self, transformer: Any):
        super().__init__(transformer)
        self._coordinates = _CoordinateReader()

    def shape(
        self, latent: tuple[int, ...], text_tokens: int, in_front: int = 0, timesteps: int = 1
    ) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`.

        Args:
            latent: (batch, channels, frames, rows, columns), before it was packed.
            in_front: tokens of conditions before the clip's.
            timesteps: how many: one for all, or one per token.
        """
        config = self.model.config
        width = config.num_attention_heads * config.attention_head_dim
        frames, rows, columns = latent[2:]
        feed_forward = 8 * width * width
        block = BlockShape(
            count=len(self.blocks),
            token=6 * width * width + feed_forward,  # self-attention; query and output of the cross-attention
            feed_forward=feed_forward,
            fixed=2 * width * config.cross_attention_dim * text_tokens,
            attention=width,
            context=text_tokens,
        )
        tokens = in_front + frames * rows * columns
        outside = (
            tokens * width * (config.in_channels + self.out_channels)
            + text_tokens * (config.caption_channels + width) * width
            + timesteps * (_TIME_WIDTH + 7 * width) * width
        )
        grid, numbers = (frames, rows, columns), self.out_channels
        return ModelShape((block,), width, grid, 0, outside, numbers, extra=(in_front, 0))

    def shape_of_call(self, asked: dict[str, Any]) -> ModelShape:
        """See :class:`~hero_engine.models.diffusers.DiffusersAdapter`.

        Raises:
            ConfigError: the tokens do not form a grid (field ``"transformer"``).
        """
        latent, timestep = asked["hidden_states"], asked["timestep"]
        grid, in_front = self._grid(asked)
        if in_front + math.prod(grid) != latent.shape[1]:
            raise ConfigError(
                "transformer",
                f"its {latent.shape[1]} tokens do not form a grid of {'x'.join(map(str, grid))}: pass "
                "num_frames, height and width of the latent, or video_coords with the whole grid after "
                "any conditions",
            )
        return self.shape(
            (latent.shape[0], latent.shape[2], *grid),
            asked["encoder_hidden_states"].shape[1],
            in_front,
            timestep.numel() // latent.shape[0],
        )

    def _grid(self, asked: dict[str, Any]) -> tuple[tuple[int, int, int], int]:
        """(Frames, rows, columns) of the clip's tokens, and how many tokens come before them."""
        if (coordinates := asked.get("video_coords")) is not None:
            return self._coordinates.read(coordinates)
        frames, rows, columns = (asked.get(name) or 0 for name in ("num_frames", "height", "width"))
        return (frames, rows, columns), 0


class _CoordinateReader:
    """Reads a grid off the coordinates of its tokens, which are the same tensor at every step of a pass."""

    def __init__(self) -> None:
        self._latest: Tensor | None = None
        self._grid: tuple[tuple[int, int, int], int] = (0, 0, 0), 0

    def read(self, coordinates: Tensor) -> tuple[tuple[int, int, int], int]:
        """
        Args:
            coordinates: (batch, 3, tokens), of frames, rows and columns; conditions before the clip.

        Returns:
            (frames, rows, columns) of the clip, and the number of tokens before it.
        """
        if self._latest is not coordinates:
            self._latest, self._grid = coordinates, _grid_of(coordinates[0].cpu())
        return self._grid


def _grid_of(coordinates: Tensor) -> tuple[tuple[int, int, int], int]:
    # Conditions at the clip's beginning are part of it; those before it are of later frames.
    origin = coordinates.amin(dim=1, keepdim=True)
    begin = int((coordinates == origin).all(dim=0).int().cumsum(0).argmax())  # the last such token
    frames, rows, columns = (len(axis.unique()) for axis in coordinates[:, begin:])
    return (frames, rows, columns), begin
