"""Caches that diffusers itself puts on a model, which HERO does not run beside."""

from __future__ import annotations

from torch import nn

from .errors import ConfigError

# In the names under which diffusers' caching techniques register their hooks; those of offloading, casting
# and guidance have none of them.
_MARKS = ("cache", "fbc_", "pyramid_attention")


def refuse_caches(model: nn.Module) -> None:
    """
    Raises:
        ConfigError: a cache of diffusers is on the model, whichever way it was put there (field
            ``"transformer"``).
    """
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for name in getattr(registry, "hooks", ()):
            if any(mark in name for mark in _MARKS):
                raise ConfigError(
                    "transformer",
                    f"diffusers' own cache is on it ({name}); call disable_cache() on it, or leave HERO off",
                )
