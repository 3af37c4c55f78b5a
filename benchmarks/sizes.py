"""The models that speed is measured on: Aether's form, random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor

from aether.model.schedulers import make_scheduler
from aether.spec import AETHER_V1
from hero_engine.flops import ModelShape
from hero_engine.models.cogvideox_shape import CogVideoXSize

PATCH = 2
IN_CHANNELS, OUT_CHANNELS = AETHER_V1.in_channels, AETHER_V1.out_channels


@dataclass(frozen=True)
class Size:
    """Dimensions of a model of 42 blocks, and of the call that is measured.

    Attributes:
        heads, head_width: of the attention.
        grid: (frames, rows, columns) of video tokens.
        text_tokens, text_width: of the prompt.
        batch: 2 with guidance.
    """

    heads: int
    head_width: int
    grid: tuple[int, int, int]
    text_tokens: int
    text_width: int
    batch: int
    dtype: torch.dtype
    blocks: int = 42

    @property
    def shape(self) -> ModelShape:
        size = CogVideoXSize(
            blocks=self.blocks,
            width=self.heads * self.head_width,
            time_width=512,
            text_width=self.text_width,
            in_channels=IN_CHANNELS,
            out_channels=OUT_CHANNELS,
            patch_size=PATCH,
        )
        return size.shape(self.grid, self.text_tokens)

    @property
    def clip(self) -> tuple[int, int, int]:
        """(frames, height, width) of the video, in pixels."""
        frames, rows, columns = self.grid
        return 4 * frames - 3, 8 * PATCH * rows, 8 * PATCH * columns

    def with_blocks(self, blocks: int) -> Size:
        return replace(self, blocks=blocks)

    def __str__(self) -> str:
        width, tokens = self.shape.width, self.shape.video_tokens
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.blocks} blocks of width {width}, {self.heads} heads, {tokens:,} + {self.text_tokens} "
            f"tokens, batch {self.batch}, {dtype}"
        )


SIZES = {
    "tiny": Size(4, 32, (5, 4, 6), 16, 16, 1, torch.float32, blocks=6),
    "small": Size(8, 32, (5, 8, 12), 226, 64, 1, torch.float32),
    "medium": Size(8, 32, (5, 16, 24), 226, 64, 1, torch.float32),
    "aether": Size(48, 64, (11, 30, 45), 226, 4096, 2, torch.bfloat16),
}


def build_model(size: Size, device: torch.device) -> CogVideoXTransformer3DModel:
    """A transformer of this size, its weights from a seed."""
    torch.manual_seed(0)
    with torch.device(device), default_dtype(size.dtype):
        model = CogVideoXTransformer3DModel(
            num_attention_heads=size.heads,
            attention_head_dim=size.head_width,
            in_channels=IN_CHANNELS,
            out_channels=OUT_CHANNELS,
            num_layers=size.blocks,
            text_embed_dim=size.text_width,
            max_text_seq_length=size.text_tokens,
            sample_height=PATCH * size.grid[1],
            sample_width=PATCH * size.grid[2],
            patch_size=PATCH,
            use_rotary_positional_embeddings=True,
        )
    return model.eval()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What new weights are made in."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Denoising:
    """A denoising run (DDIM, Aether's noise schedule), one step at a time.

    Args:
        model: of this size.
        steps: of the run.
    """

    def __init__(self, model: CogVideoXTransformer3DModel, size: Size, steps: int, device: torch.device):
        frames, rows, columns = size.grid
        self._model = model
        self._scheduler = make_scheduler("ddim")
        self._scheduler.set_timesteps(steps, device=device)
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device, size.dtype)

        picture = (frames, IN_CHANNELS - OUT_CHANNELS, PATCH * rows, PATCH * columns)
        self._condition = noise(size.batch, *picture)
        self._latent = noise(1, frames, OUT_CHANNELS, PATCH * rows, PATCH * columns)
        self._text = noise(size.batch, size.text_tokens, size.text_width)
        tables = get_3d_rotary_pos_embed(size.head_width, ((0, 0), (rows, columns)), (rows, columns), frames)
        self._rotary = tuple(table.to(device) for table in tables)

    @property
    def latent(self) -> Tensor:
        """As the last step has left it."""
        return self._latent

    def step(self, number: int) -> None:
        """Take step `number`, from 0."""
        timestep, batch = self._scheduler.timesteps[number], len(self._condition)
        hidden = torch.cat([self._latent.expand(batch, -1, -1, -1, -1), self._condition], dim=2)
        output = self._model(
            hidden,
            self._text,
            timestep.expand(batch),
            image_rotary_emb=self._rotary,
            return_dict=False,
        )[0].float()
        if batch == 2:
            unconditional, conditional = output.chunk(2)
            output = unconditional + 3 * (conditional - unconditional)
        result = self._scheduler.step(output, timestep, self._latent, return_dict=False)[0]
        self._latent = result.to(self._latent.dtype)
