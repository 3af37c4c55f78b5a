"""The names of diffusers' CogVideoX: the only file that knows how its transformer is called and built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapter import ATTENTION, FEED_FORWARD, KEYS, VALUES, Attend, BlockCall, Forward, ModelCall, See
from .errors import ConfigError
from .flops import ModelShape
from .install import watched

_BLOCK_ARGUMENTS = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "attention_kwargs")
_ROUTABLE_PROCESSORS = ("CogVideoXAttnProcessor2_0", "FusedCogVideoXAttnProcessor2_0")


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
        self.model: nn.Module = model
        self.blocks: list[nn.Module] = list(model.transformer_blocks)
        self._signature = inspect.signature(type(model).forward)

    def read_call(self, args: tuple, kwargs: dict[str, Any]) -> ModelCall:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        asked = self._signature.bind(self.model, *args, **kwargs).arguments
        latent, timestep, text = asked["hidden_states"], asked["timestep"], asked["encoder_hidden_states"]
        return ModelCall(
            timestep=float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep),
            shape=self._shape(latent, text),
            batch=latent.shape[0],
            device=latent.device,
            signature=(tuple(latent.shape), latent.dtype, latent.device, tuple(text.shape), self._adapters()),
        )

    def _adapters(self) -> tuple:
        """The LoRA adapters at work and their scales; they change what the blocks compute."""
        if not getattr(self.model, "peft_config", None):
            return ()
        layer = next(module for module in self.model.modules() if hasattr(module, "lora_A"))
        return (layer.disable_adapters, tuple(layer.active_adapters), tuple(sorted(layer.scaling.items())))

    def _shape(self, latent: Tensor, text: Tensor) -> ModelShape:
        config = self.model.config
        frames, rows, columns = latent.shape[1], *latent.shape[-2:]
        frames_per_patch = config.patch_size_t or 1
        return ModelShape(
            blocks=len(self.blocks),
            width=config.num_attention_heads * config.attention_head_dim,
            time_width=config.time_embed_dim,
            text_tokens=text.shape[1],
            text_width=config.text_embed_dim,
            grid=(-(-frames // frames_per_patch), rows // config.patch_size, columns // config.patch_size),
            in_channels=config.in_channels * frames_per_patch,
            out_channels=config.out_channels * frames_per_patch,
            patch_size=config.patch_size,
        )

    def read_block(self, number: int, args: tuple, kwargs: dict[str, Any]) -> BlockCall:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        # By keyword usually; gradient checkpointing passes by position.
        named = {**dict(zip(_BLOCK_ARGUMENTS, args, strict=False)), **kwargs}
        return BlockCall(
            video=named.pop("hidden_states"),
            text=named.pop("encoder_hidden_states"),
            rotary=named.pop("image_rotary_emb", None),
            rest=named,
        )

    def call_block(self, forward: Forward, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        return forward(
            hidden_states=call.video,
            encoder_hidden_states=call.text,
            image_rotary_emb=call.rotary,
            **call.rest,
        )

    @contextmanager
    def attention(self, blocks: int, attend: Attend) -> Iterator[None]:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        attentions = [block.attn1 for block in self.blocks[:blocks]]
        originals = [attention.processor for attention in attentions]
        for original in originals:
            if type(original).__name__ not in _ROUTABLE_PROCESSORS:
                raise ConfigError(
                    "context",
                    "'cached_kv' stands in for diffusers' own CogVideoX attention and cannot replace "
                    f"{type(original).__name__}; use context='selected' or reset the processor",
                )
        try:
            for number, attention in enumerate(attentions):
                attention.processor = _RoutedProcessor(number, attend)
            yield
        finally:
            for attention, original in zip(attentions, originals, strict=True):
                attention.processor = original

    @contextmanager
    def watch(self, kinds: Collection[str], see: See) -> Iterator[None]:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        with ExitStack() as undo:
            for number, block in enumerate(self.blocks):
                for kind in kinds:
                    module, read = _part(block, kind)
                    undo.callback(watched(module, _shown(see, number, kind, read), self).remove)
            yield

    def gates(self, number: int, kind: str, call: BlockCall) -> tuple[Tensor, Tensor]:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        return gates_of(_norm(self.blocks[number], kind), call.rest["temb"])

    def feed_forward(self, number: int, call: BlockCall) -> Tensor:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        block = self.blocks[number]
        video, text, _, _ = block.norm2(call.video, call.text, call.rest["temb"])
        return block.ff(torch.cat([text, video], dim=1))

    def read_output(self, result: Any) -> Tensor:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        return result[0]

    def make_output(self, latent: Tensor, args: tuple, kwargs: dict[str, Any]) -> Any:
        """See :class:`~hero_engine.adapter.ModelAdapter`."""
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        asked = self._signature.bind(self.model, *args, **kwargs).arguments
        return Transformer2DModelOutput(sample=latent) if asked.get("return_dict", True) else (latent,)


def gates_of(norm: nn.Module, temb: Tensor) -> tuple[Tensor, Tensor]:
    """The gates for video and text, each (batch, 1, width), of a ``CogVideoXLayerNormZero``."""
    # Shift, scale and gate of the video, then of the text.
    parts = norm.linear(norm.silu(temb)).chunk(6, dim=1)
    return parts[2][:, None], parts[5][:, None]


def _norm(block: nn.Module, kind: str) -> nn.Module:
    return {ATTENTION: block.norm1, FEED_FORWARD: block.norm2}[kind]


def _part(block: nn.Module, kind: str) -> tuple[nn.Module, Callable[[Any], Tensor]]:
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


def _shown(see: See, number: int, kind: str, read: Callable[[Any], Tensor]) -> Callable[[Any], None]:
    return lambda output: see(number, kind, read(output))


class _RoutedProcessor:
    """CogVideoX's joint attention of text and video, its keys and values routed through a run."""

    def __init__(self, block: int, attend: Attend):
        self._block = block
        self._attend = attend

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = _project(attn, tokens, text, image_rotary_emb)
        key, value = (
            tensor.transpose(1, 2)
            for tensor in self._attend(self._block, key.transpose(1, 2), value.transpose(1, 2))
        )
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        out = out.transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text:], out[:, :text]


def _project(
    attn: nn.Module, tokens: Tensor, text: int, rotary: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (batch, heads, tokens, head width), normalised and, for video, rotated."""
    from diffusers.models.embeddings import apply_rotary_emb

    if attn.fused_projections:
        projected = attn.to_qkv(tokens).chunk(3, dim=-1)
    else:
        projected = (attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
    query, key, value = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in projected)
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    if rotary is not None:
        query[:, :, text:] = apply_rotary_emb(query[:, :, text:], rotary)
        key[:, :, text:] = apply_rotary_emb(key[:, :, text:], rotary)
    return query, key, value
