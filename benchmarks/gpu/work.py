"""What each part does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ..memory import WAYS
from . import memory_parts, speed_parts
from .parts import COMPILED, END_TO_END, GROWTH, OPTIMIZED, RATES, REPEATED, memory_part
from .record import Found
from .settings import Settings

WORK: dict[str, Callable[[Settings, float], Iterator[Found]]] = {
    RATES: speed_parts.rates,
    END_TO_END: speed_parts.end_to_end,
    OPTIMIZED: speed_parts.optimized,
    COMPILED: speed_parts.compiled,
    **{memory_part(way): partial(memory_parts.whole, way) for way in WAYS},
    REPEATED: memory_parts.repeated,
    GROWTH: speed_parts.growth,
}
"""Takes the settings and the seconds that there are; yields all that it has found, again and again."""


def left_behind(settings: Settings) -> int:
    """Bytes that are still taken on the device when a part is over."""
    gc.collect()
    if settings.toy:
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()
