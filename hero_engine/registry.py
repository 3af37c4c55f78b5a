"""Which settings are run by what: a config class and its method meet here and nowhere else."""

from __future__ import annotations

from typing import Any

from .baselines.config import DucaConfig, ModulesConfig, TocaConfig, WorldCacheConfig
from .baselines.fora_taylorseer import Modules
from .baselines.toca_duca import Duca, Toca
from .baselines.worldcache import WorldCache
from .hero.config import HeroConfig
from .hero.layer_analysis import LayersConfig
from .hero.layer_steps import Layers
from .hero.steps import Hero
from .method import Method
from .models.adapter import ModelAdapter
from .settings import Counts, MethodConfig

_METHODS: dict[type[MethodConfig], type[Method[Any]]] = {
    HeroConfig: Hero,
    ModulesConfig: Modules,
    TocaConfig: Toca,
    DucaConfig: Duca,
    WorldCacheConfig: WorldCache,
    LayersConfig: Layers,
}


def method_of(config: MethodConfig, adapter: ModelAdapter, counts: Counts) -> Method[Any]:
    """The method of some settings, at work on a model.

    Args:
        config: of a class here, or of one derived from it.
        counts: what the settings come to, see :meth:`MethodConfig.resolve`.

    Raises:
        ConfigError: what the method needs is missing.
    """
    return checked_class(config, adapter)(adapter, config, counts)


def checked_class(config: MethodConfig, adapter: ModelAdapter) -> type[Method[Any]]:
    """The class of the method of some settings.

    Raises:
        ConfigError: it cannot work on the model.
    """
    kind = _METHODS[next(kind for kind in type(config).__mro__ if kind in _METHODS)]
    kind.check_model(config, adapter)
    return kind
