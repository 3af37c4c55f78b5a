"""The names of diffusers' CogVideoX: the only file that knows how its transformer is called and built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import ModelShape
from ..host import TimestepReader
from ..noise import NoiseSchedule
from ..wrapping import CALLS, watched
from .adapter import (
    ATTENTION,
    FEED_FORWARD,
    KEYS,
    VALUES,
    Attend,
    BlockCall,
    Forward,
    ModelCall,
    OutputCallback,
)
from .joint_attention import JointAttention

_BLOCK_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "attention_kwargs")
_OWN_PROCESSORS = ("CogVideoXAttnProcessor2_0", "FusedCogVideoXAttnProcessor2_0")


class CogVideoXAdapter:
    """Reads the calls of a diffusers ``CogVideoXTransformer3DModel``.

    Args:
        transformer: the model, also where ``torch.compile`` has wrapped it.

    Raises:
        ConfigError: another class of model (field ``"transformer"``).
    """

    def __init__(self, transformer: Any):
        from diffusers import CogVideoXTransformer3DModel

        model = getattr(transformer, "_orig_mod", transformer)
        if not isinstance(model, CogVideoXTransformer3DModel):
            raise ConfigError(
                "transformer",
                f"{type(transformer).__name__} is not supported; HERO takes diffusers' "
                "CogVideoXTransformer3DModel (of a pipeline, pass pipeline.transformer)",
            )
        self.model: Any = model  # Any, like its blocks: their names are diffusers'
        self.given: nn.Module = transformer
        self.entry = CALLS
        self.blocks: list[Any] = list(model.transformer_blocks)
        self._signature = inspect.signature(type(model).forward)
        self.noise: NoiseSchedule | None = None
        self._timesteps = TimestepReader()

    def read_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        asked = self._signature.bind(self.model, *args, **kwargs).arguments
        latent, timestep, text = asked["hidden_states"], asked["timestep"], asked["encoder_hidden_states"]
        adapters = self._adapters(asked.get("attention_kwargs"))
        return ModelCall(
            timestep=self._timesteps.read(timestep),
            shape=self.shape(latent.shape[1], latent.shape[3], latent.shape[4], text.shape[1]),
            batch=latent.shape[0],
            device=latent.device,
            signature=(tuple(latent.shape), latent.dtype, latent.device, tuple(text.shape), adapters),
        )

    def _adapters(self, attention_kwargs: dict[str, Any] | None) -> tuple[Hashable, ...]:
        """The adapters of peft at work and their strengths; they change what the blocks compute."""
        if not getattr(self.model, "peft_config", None):
            return ()
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        strengths = {
            (layer.disable_adapters, tuple(layer.active_adapters), tuple(sorted(_scaling(layer).items())))
            for layer in layers
        }
        return frozenset(strengths), (attention_kwargs or {}).get("scale")

    def shape(self, frames: int, rows: int, columns: int, text_tokens: int) -> ModelShape:
        """Dimensions of a call with a latent of so many frames, rows and columns."""
        config = self.model.config
        frames_per_patch = config.patch_size_t or 1
        return ModelShape(
            blocks=len(self.blocks),
            width=config.num_attention_heads * config.attention_head_dim,
            time_width=config.time_embed_dim,
            text_tokens=text_tokens,
            text_width=config.text_embed_dim,
            grid=(-(-frames // frames_per_patch), rows // config.patch_size, columns // config.patch_size),
            in_channels=config.in_channels * frames_per_patch,
            out_channels=config.out_channels * frames_per_patch,
            patch_size=config.patch_size,
        )

    def read_block(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        # By keyword usually; gradient checkpointing passes by position.
        named = {**dict(zip(_BLOCK_ARGUMENTS, args, strict=False)), **kwargs}
        return BlockCall(
            video=named.pop("hidden_states"),
            text=named.pop("encoder_hidden_states"),
            rotary=named.pop("image_rotary_emb", None),
            rest=named,
        )

    def call_block(self, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        video, text = forward(
            hidden_states=call.video,
            encoder_hidden_states=call.text,
            image_rotary_emb=call.rotary,
            **call.rest,
        )
        return video, text

    @contextmanager
    def attention(self, blocks: int, attend: Attend) -> Iterator[None]:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        attentions = [block.attn1 for block in self.blocks[:blocks]]
        originals = [attention.processor for attention in attentions]
        routed = [
            _routable(original).routed(functools.partial(attend, number))
            for number, original in enumerate(originals)
        ]
        try:
            for attention, processor in zip(attentions, routed, strict=True):
                attention.processor = processor
            yield
        finally:
            for attention, original in zip(attentions, originals, strict=True):
                attention.processor = original

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

    def read_latent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        asked = self._signature.bind(self.model, *args, **kwargs).arguments
        latent: Tensor = asked["hidden_states"][:, :, : self.model.config.out_channels]
        return latent

    def read_output(self, result: Any) -> Tensor:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        latent: Tensor = result[0]
        return latent

    def make_output(self, latent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See :class:`~hero_engine.models.adapter.ModelAdapter`."""
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        asked = self._signature.bind(self.model, *args, **kwargs).arguments
        return Transformer2DModelOutput(sample=latent) if asked.get("return_dict", True) else (latent,)


def gates_of(norm: Any, temb: Tensor) -> tuple[Tensor, Tensor]:
    """The gates for video and text, each (batch, 1, width), of a ``CogVideoXLayerNormZero``."""
    # Shift, scale and gate of the video, then of the text.
    parts = norm.linear(norm.silu(temb)).chunk(6, dim=1)
    return parts[2][:, None], parts[5][:, None]


def _routable(processor: Any) -> JointAttention:
    """The attention processor as one that can be routed.

    Raises:
        ConfigError: it is neither the project's nor diffusers' own (field ``"context"``).
    """
    if isinstance(processor, JointAttention):
        return processor
    if type(processor).__name__ in _OWN_PROCESSORS:
        return JointAttention()
    raise ConfigError(
        "context",
        "'cached_kv' stands in for diffusers' own CogVideoX attention and cannot replace "
        f"{type(processor).__name__}; use context='selected' or reset the processor",
    )


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


def _scaling(layer: Any) -> dict[str, float]:
    """Strength of each adapter of a layer, for the kinds that have one."""
    return getattr(layer, "scaling", {})
