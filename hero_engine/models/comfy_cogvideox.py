"""ComfyUI's own CogVideoX: twin of :mod:`hero_engine.models.diffusers_cogvideox`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import ModelShape
from ..wrapping import watched
from .adapter import ATTENTION, FEED_FORWARD, KEYS, VALUES, BlockCall, OutputCallback
from .cogvideox_block import CogVideoXBlock, gates_of
from .cogvideox_shape import CogVideoXSize
from .comfy import ComfyAdapter


class ComfyCogVideoXAdapter(CogVideoXBlock, ComfyAdapter):
    """Reads the calls of ComfyUI's CogVideoX transformer."""

    def find_blocks(self) -> list[Any]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        return list(self.model.blocks)

    def shape(self, latent: tuple[int, ...], text_tokens: int) -> ModelShape:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        model = self.model
        frames_per_patch = model.patch_size_t or 1
        size = CogVideoXSize(
            blocks=len(self.blocks),
            width=model.dim,
            time_width=model.time_embedding_linear_2.weight.shape[0],
            text_width=model.patch_embed.text_proj.in_features,
            in_channels=model.in_channels * frames_per_patch,
            out_channels=model.out_channels * frames_per_patch,
            patch_size=model.patch_size,
        )
        sides = zip(latent[2:], (frames_per_patch, model.patch_size, model.patch_size), strict=True)
        # Latents are padded up to whole patches.
        frames, rows, columns = (-(-length // patch) for length, patch in sides)
        return size.shape((frames, rows, columns), text_tokens)

    @contextmanager
    def watch(self, kinds: Collection[str], on_output: OutputCallback) -> Iterator[None]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        with ExitStack() as undo:
            for number, block in enumerate(self.blocks):
                for kind in kinds:
                    undo.callback(
                        watched(_part(block, kind), _shown(on_output, number, kind, block), self).remove
                    )
            yield

    def gates(self, number: int, kind: str, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        block = self.blocks[number]
        return gates_of({ATTENTION: block.norm1, FEED_FORWARD: block.norm2}[kind], call.rest["temb"])

    def feed_forward(self, number: int, call: BlockCall) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        block = self.blocks[number]
        video, text, _, _ = block.norm2(call.video, call.text, call.rest["temb"])
        inner = block.ff_proj(torch.cat([text, video], dim=1))
        output: Tensor = block.ff_out(F.gelu(inner, approximate="tanh"))
        return output


def _part(block: nn.Module, kind: str) -> nn.Module:
    """The module that gives a part of a block."""
    name = {ATTENTION: "attn_out", FEED_FORWARD: "ff_out", KEYS: "k", VALUES: "v"}[kind]
    part: nn.Module | None = getattr(block, name, None)
    if part is None:
        raise ConfigError(
            "transformer", f"its blocks have no {name!r}, which this method needs; use HERO or WorldCache"
        )
    return part


def _shown(on_output: OutputCallback, number: int, kind: str, block: Any) -> Callable[[Tensor], None]:
    def shown(output: Tensor) -> None:
        on_output(
            number, kind, output.unflatten(-1, (block.num_heads, -1)) if kind in (KEYS, VALUES) else output
        )

    return shown
