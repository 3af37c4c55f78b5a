"""CogVideoX's joint attention of text and video, with a choice of backends.

The processor that diffusers ships calls torch's own attention, whatever ``set_attention_backend`` has chosen.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class JointAttention:
    """Attention processor of a diffusers ``CogVideoXTransformer3DModel``; fused projections or not.

    Tokens stay before heads (batch, tokens, heads, head width), as all backends but torch's own take them,
    so that the norms of queries and keys need no copy. The result is the shipped processor's.

    Args:
        backend: a name of diffusers' ``AttentionBackendName``; None for torch's own attention. diffusers'
            ``transformer.set_attention_backend`` changes it as well.
    """

    # The names that diffusers' set_attention_backend and context parallelism look for.
    _attention_backend: str | None = None
    _parallel_config: Any = None

    def __init__(self, backend: str | None = None):
        self._attention_backend = backend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1) if text else hidden_states
        query, key, value = _project(attn, tokens, text, image_rotary_emb)
        out = self.attend(query, key, value, attention_mask)
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text:], out[:, :text]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The attention itself.

        Args:
            query, key, value: (batch, tokens, heads, head width).

        Returns:
            (batch, tokens, width).
        """
        if self._attention_backend is None:
            query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
        else:
            from diffusers.models.attention_dispatch import dispatch_attention_fn

            # diffusers 0.35 knows of no parallelism.
            parallel = {"parallel_config": self._parallel_config} if self._parallel_config else {}
            out = dispatch_attention_fn(
                query, key, value, attn_mask=mask, backend=self._attention_backend, **parallel
            )
        return out.flatten(2)


def _project(
    attn: Any, tokens: Tensor, text: int, rotary: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (batch, tokens, heads, head width), normalised and, for video, rotated."""
    if attn.fused_projections:
        projected = attn.to_qkv(tokens).chunk(3, dim=-1)
    else:
        projected = (attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
    query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in projected)
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    if rotary is not None:
        query, key = _rotated(query, text, rotary), _rotated(key, text, rotary)
    return query, key, value


def _rotated(tokens: Tensor, text: int, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """The tokens, (batch, tokens, heads, head width), with those after the text rotated in place."""
    video = tokens[:, text:]
    # Tokens come before heads.
    cos, sin = (table.to(tokens.device)[:, None] for table in rotary)
    real, imaginary = video.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    # In place, as float32 copies of all tokens are what a step's memory peaks with.
    tokens[:, text:] = video.float().mul_(cos).add_(turned.float().mul_(sin))
    return tokens
