"""HERO (arXiv 2508.17588) for video transformers: training-free acceleration in its residual form.

Shallow blocks refresh a sampled share of the tokens, deep blocks are extrapolated. The methods that HERO is
compared with run in the same sessions: see ``METHODS``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .baselines.config import DucaConfig, ForaConfig, TaylorSeerConfig, TocaConfig, WorldCacheConfig
from .errors import ConfigError
from .hero.config import PRESETS, HeroConfig
from .methods import METHODS
from .settings import MethodConfig
from .step_mask import StepMask

if TYPE_CHECKING:
    from .drawing import layers_png, report_png, tuning_png
    from .hero.layer_analysis import LayerAnalysis, LayersConfig
    from .noise import NoiseSchedule, StepNoise, VPredictionNoise
    from .report import RunReport
    from .run import HeroRun
    from .session import apply_hero, current_run, hero_session, remove_hero
    from .speed.optimization import Optimization, optimize

# What needs torch loads on first use, so that costs can be predicted without it.
_LAZY = {
    "HeroRun": "run",
    "LayerAnalysis": "hero.layer_analysis",
    "LayersConfig": "hero.layer_analysis",
    "NoiseSchedule": "noise",
    "StepNoise": "noise",
    "VPredictionNoise": "noise",
    "RunReport": "report",
    "apply_hero": "session",
    "current_run": "session",
    "hero_session": "session",
    "layers_png": "drawing",
    "optimize": "speed.optimization",
    "Optimization": "speed.optimization",
    "remove_hero": "session",
    "report_png": "drawing",
    "tuning_png": "drawing",
}

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "PRESETS",
    "ConfigError",
    "DucaConfig",
    "ForaConfig",
    "HeroConfig",
    "HeroRun",
    "LayerAnalysis",
    "LayersConfig",
    "MethodConfig",
    "NoiseSchedule",
    "Optimization",
    "RunReport",
    "StepMask",
    "StepNoise",
    "TaylorSeerConfig",
    "TocaConfig",
    "VPredictionNoise",
    "WorldCacheConfig",
    "apply_hero",
    "current_run",
    "hero_session",
    "layers_png",
    "optimize",
    "remove_hero",
    "report_png",
    "tuning_png",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
