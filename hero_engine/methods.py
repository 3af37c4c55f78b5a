"""The methods: their names, the settings of each, and what runs them. Settings need no torch; what runs them
is imported when a session begins."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .baselines.config import DucaConfig, ForaConfig, TaylorSeerConfig, TocaConfig, WorldCacheConfig
from .hero.config import HeroConfig
from .settings import Counts, MethodConfig

if TYPE_CHECKING:
    from .method import Method
    from .models.adapter import ModelAdapter

METHODS: dict[str, type[MethodConfig]] = {
    "hero": HeroConfig,
    "fora": ForaConfig,
    "taylorseer": TaylorSeerConfig,
    "toca": TocaConfig,
    "duca": DucaConfig,
    "worldcache": WorldCacheConfig,
}
"""The class of each method's settings."""

# By the name of the settings' class, which a class derived from it has among its bases: file and class.
_RUN_BY = {
    "HeroConfig": ("hero.steps", "Hero"),
    "ModulesConfig": ("baselines.fora_taylorseer", "Modules"),
    "DucaConfig": ("baselines.toca_duca", "Duca"),
    "TocaConfig": ("baselines.toca_duca", "Toca"),
    "WorldCacheConfig": ("baselines.worldcache", "WorldCache"),
    "LayersConfig": ("hero.layer_steps", "Layers"),
    "RecordingConfig": ("tune.recorder", "Recorder"),
}


def checked_class(config: MethodConfig, adapter: ModelAdapter) -> type[Method[Any]]:
    """The class of the method of some settings.

    Raises:
        ConfigError: it cannot work on the model.
    """
    name = next(base.__name__ for base in type(config).__mro__ if base.__name__ in _RUN_BY)
    file, class_name = _RUN_BY[name]
    kind: type[Method[Any]] = getattr(importlib.import_module(f".{file}", __package__), class_name)
    kind.check_model(config, adapter)
    return kind


def method_of(config: MethodConfig, adapter: ModelAdapter, counts: Counts) -> Method[Any]:
    """The method of some settings, at work on a model.

    Args:
        counts: what the settings come to, see :meth:`MethodConfig.resolve`.

    Raises:
        ConfigError: it cannot work on the model, or what it needs is missing.
    """
    return checked_class(config, adapter)(adapter, config, counts)
