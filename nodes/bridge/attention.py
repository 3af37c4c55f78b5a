"""Attention backends: ComfyUI's own functions behind diffusers' CogVideoX attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy.ldm.modules import attention as core

from ...hero_engine.models.joint_attention import JointAttention

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
        return f"{choice} is not installed here: pip install {_PACKAGES[choice]}, or choose auto"
    return f"{choice!r} is not one of {', '.join(installed())}"


def texts() -> dict[str, str]:
    """By name of each choice that there is whether it works here, or what to do."""
    return {name: problem(name) or "works here" for name in ("auto", "sdpa", *_PACKAGES)}


def use(transformer: torch.nn.Module, choice: str) -> None:
    """Let a diffusers CogVideoX transformer, just loaded, use a backend. sdpa is what it uses anyway."""
    function = _function(choice)
    if function is not None:
        transformer.set_attn_processor(CoreAttention(function))


def _function(choice: str) -> Callable[..., torch.Tensor] | None:
    if choice == "auto":
        choice = next((name for name, own in _FUNCTIONS.items() if core.optimized_attention is own), "sdpa")
    return _FUNCTIONS.get(choice)


class CoreAttention(JointAttention):
    """CogVideoX's joint attention of text and video, its heart one of core's functions.

    Args:
        function: takes queries, keys, values (batch, heads, tokens, head width), the number of heads and
            ``skip_reshape``; returns (batch, tokens, width).
    """

    def __init__(self, function: Callable[..., torch.Tensor]):
        super().__init__()
        self._function = function

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See the class it extends."""
        heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return self._function(*heads_first, query.shape[2], mask=mask, skip_reshape=True)
