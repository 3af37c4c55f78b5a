"""HERO (arXiv 2508.17588) for diffusers transformers: training-free acceleration in its residual form.

Shallow blocks refresh a sampled share of the tokens, deep blocks are extrapolated.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .config import PRESETS, HeroConfig
from .errors import ConfigError

if TYPE_CHECKING:
    from .drawing import report_png
    from .report import RunReport
    from .run import HeroRun
    from .session import apply_hero, hero_session, remove_hero

# What needs torch loads on first use, so that costs can be predicted without it.
_LAZY = {
    "HeroRun": "run",
    "RunReport": "report",
    "apply_hero": "session",
    "hero_session": "session",
    "remove_hero": "session",
    "report_png": "drawing",
}

__all__ = [
    "PRESETS",
    "ConfigError",
    "HeroConfig",
    "HeroRun",
    "RunReport",
    "apply_hero",
    "hero_session",
    "remove_hero",
    "report_png",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
