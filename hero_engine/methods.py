"""The methods by name. No torch; what runs them is in :mod:`hero_engine.registry`."""

from __future__ import annotations

from .baselines.config import DucaConfig, ForaConfig, TaylorSeerConfig, TocaConfig, WorldCacheConfig
from .hero.config import HeroConfig
from .settings import MethodConfig

METHODS: dict[str, type[MethodConfig]] = {
    "hero": HeroConfig,
    "fora": ForaConfig,
    "taylorseer": TaylorSeerConfig,
    "toca": TocaConfig,
    "duca": DucaConfig,
    "worldcache": WorldCacheConfig,
}
"""The class of each method's settings."""
