"""Picking the positions of some tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def picked(value: Any, dim: int, tokens: Tensor) -> Any:
    """Some tokens of a tensor, or of each tensor of a tuple. None, and a tensor with one place for all
    tokens, stay as they are."""
    if value is None:
        return None
    if isinstance(value, tuple | list):
        return tuple(picked(part, dim, tokens) for part in value)
    return value if value.shape[dim] == 1 else value.index_select(dim, tokens.to(value.device))
