"""Attention backends: ComfyUI's own functions behind diffusers' CogVideoX attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.ldm.modules import attention as core

_PACKAGES = {"flash": "flash-attn", "sage": "sageattention"}
_AVAILABLE = {"flash": core.FLASH_ATTENTION_IS_AVAILABLE, "sage": core.SAGE_ATTENTION_IS_AVAILABLE}
_FUNCTIONS = {"flash": core.attention_flash, "sage": core.attention_sage}


def installed() -> list[str]:
    """The choices that work here."""
    return ["auto", "sdpa", *(name for name, there in _AVAILABLE.items() if there)]


def problem(choice: str | None) -> str | None:
    """Why a choice does not work here, and what to do; None if it does."""
    if choice is None or choice in installed():
        return None
    if choice in _PACKAGES:
        return f"attention: {choice} is not installed here: pip install {_PACKAGES[choice]}, or choose auto"
    return f"attention: {choice!r} is not one of {', '.join(installed())}"


def use(transformer: torch.nn.Module, choice: str) -> None:
    """Let a diffusers CogVideoX transformer, just loaded, use a backend. sdpa is what it uses anyway."""
    function = _function(choice)
    if function is not None:
        transformer.set_attn_processor(CoreAttention(function))


def _function(choice: str) -> Callable[..., torch.Tensor] | None:
    if choice == "auto":
        choice = next((name for name, own in _FUNCTIONS.items() if core.optimized_attention is own), "sdpa")
    return _FUNCTIONS.get(choice)


class CoreAttention:
    """CogVideoX's joint attention of text and video, its heart one of core's functions.

    Args:
        function: takes queries, keys, values (batch, heads, tokens, head width), the number of heads and
            ``skip_reshape``; returns (batch, tokens, width).
    """

    def __init__(self, function: Callable[..., torch.Tensor]):
        self._function = function

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from diffusers.models.embeddings import apply_rotary_emb

        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            project(tokens).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        if image_rotary_emb is not None:
            query[:, :, text:] = apply_rotary_emb(query[:, :, text:], image_rotary_emb)
            key[:, :, text:] = apply_rotary_emb(key[:, :, text:], image_rotary_emb)
        out = self._function(query, key, value, attn.heads, mask=attention_mask, skip_reshape=True)
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text:], out[:, :text]
