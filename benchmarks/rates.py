"""How fast a device computes by itself: a large product of matrices, and attention of each backend."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch

from hero_engine.models.joint_attention import JointAttention
from hero_engine.speed.backends import BACKENDS, trouble_with

from .race import stopwatch
from .sizes import Size


@torch.no_grad()
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large product of square matrices, the best of ten."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    now, best = stopwatch(device), float("inf")
    for _ in range(10):
        start, _ = now()
        left @ right
        best = min(best, now()[0] - start)
    return 2 * side**3 / best


def attention_rates(size: Size, device: torch.device) -> Iterator[tuple[str, float | str]]:
    """FLOP/s of each attention backend on a full step's sequence, or why it does not run."""
    for name in BACKENDS:
        trouble = trouble_with(name, device, size.dtype, size.head_width)
        yield name, trouble or _rate_or_trouble(name, size, device)


def _rate_or_trouble(name: str, size: Size, device: torch.device) -> float | str:
    try:
        return attention_rate(name, size, device)
    except Exception as error:  # a long sequence may be too much for what passed a trial of few tokens
        return f"{type(error).__name__}: {error}"


@torch.no_grad()
def attention_rate(name: str, size: Size, device: torch.device) -> float:
    """FLOP/s of an attention backend on a full step's sequence, the median of five after one untimed."""
    shape, now = size.shape, stopwatch(device)
    tokens = (size.batch, shape.tokens, size.heads, size.head_width)
    query, key, value = (torch.randn(tokens, device=device, dtype=size.dtype) for _ in range(3))
    seconds = []
    for _ in range(6):
        start, _ = now()
        JointAttention(BACKENDS[name]).attend(query, key, value, None)
        seconds.append(now()[0] - start)
    return 4 * size.batch * shape.tokens**2 * shape.width / statistics.median(seconds[1:])
