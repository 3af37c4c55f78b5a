"""diffusers' CogVideoX, and Aether, whose transformer is the same class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..flops import ModelShape
from ..wrapping import watched
from .adapter import ATTENTION, FEED_FORWARD, KEYS, VALUES, BlockCall, OutputCallback
from .cogvideox_block import CogVideoXBlock, gates_of
from .cogvideox_shape import CogVideoXSize
from .diffusers import DiffusersAdapter


class CogVideoXAdapter(CogVideoXBlock, DiffusersAdapter):
    """Reads the calls of a diffusers ``CogVideoXTransformer3DModel``."""

    channel_dim = 2
    guided_in_one_batch = True

    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`; latents (batch, frames, channels, rows,
        columns)."""
        config = self.model.config
        frames_per_patch, patch = config.patch_size_t or 1, config.patch_size
        size = CogVideoXSize(
            blocks=len(self.blocks),
            width=config.num_attention_heads * config.attention_head_dim,
            time_width=config.time_embed_dim,
            text_width=config.text_embed_dim,
            in_channels=config.in_channels * frames_per_patch,
            out_channels=config.out_channels * frames_per_patch,
            patch_size=patch,
        )
        _, frames, _, rows, columns = latent
        return size.shape((-(-frames // frames_per_patch), rows // patch, columns // patch), text_tokens)

    @contextmanager
    def watch(self, kinds: Collection[str], on_output: OutputCallback) -> Iterator[None]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        with ExitStack() as undo:
            for number, block in enumerate(self.blocks):
                for kind in kinds:
                    module, read = _part(block, kind)
                    undo.callback(watched(module, _shown(on_output, number, kind, read), self).remove)
            yield

    def gates(self, number: int, kind: str, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return gates_of(_norm(self.blocks[number], kind), call.rest["temb"])

    def feed_forward(self, number: int, call: BlockCall) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        block = self.blocks[number]
        video, text, _, _ = block.norm2(call.video, call.text, call.rest["temb"])
        output: Tensor = block.ff(torch.cat([text, video], dim=1))
        return output


def _norm(block: Any, kind: str) -> nn.Module:
    norms: dict[str, nn.Module] = {ATTENTION: block.norm1, FEED_FORWARD: block.norm2}
    return norms[kind]


def _part(block: Any, kind: str) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """The module that gives a part of a block, and how its output is read."""
    attention = block.attn1
    if kind == ATTENTION:
        return attention, lambda output: torch.cat([output[1], output[0]], dim=1)
    if kind == FEED_FORWARD:
        return block.ff, lambda output: output
    if getattr(attention, "fused_projections", False):
        third = {KEYS: 1, VALUES: 2}[kind]
        return attention.to_qkv, lambda output: output.chunk(3, -1)[third].unflatten(
            -1, (attention.heads, -1)
        )
    projection = {KEYS: attention.to_k, VALUES: attention.to_v}[kind]
    return projection, lambda output: output.unflatten(-1, (attention.heads, -1))


def _shown(
    on_output: OutputCallback, number: int, kind: str, read: Callable[[Any], Tensor]
) -> Callable[[Any], None]:
    return lambda output: on_output(number, kind, read(output))
