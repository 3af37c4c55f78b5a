"""Putting HERO, or a method it is compared with, on a model and taking it off again."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .adapter import Forward, ModelAdapter
from .cogvideox import CogVideoXAdapter
from .comfy_cogvideox import ComfyCogVideoXAdapter, is_comfy_cogvideox
from .errors import ConfigError
from .install import CALLS, Wrapped, Wrapper, installed_owner, without_replicas
from .noise import NoiseSchedule
from .run import HeroRun
from .settings import MethodConfig


class _Installation:
    """A method on one model, from construction to `remove`."""

    def __init__(self, adapter: ModelAdapter, config: MethodConfig, steps: int | None):
        self.run = HeroRun(adapter, config, steps)
        keep_compiled = not self.run.method.inside_blocks
        with ExitStack() as undo:
            undo.callback(self.run.close)
            undo.enter_context(self.run.attach())
            self._put(undo, adapter.model, self.run.forward_model, method=adapter.entry)
            if adapter.given is not adapter.model:
                uncompiled = functools.partial(_uncompiled, adapter.model)
                undo.callback(Wrapped(adapter.given, uncompiled, self).remove)
            undo.callback(without_replicas(adapter.model, self).remove)
            for number, block in enumerate(adapter.blocks):
                wrapper = functools.partial(self.run.forward_block, number)
                self._put(undo, block, wrapper, keep_compiled)
            self._undo = undo.pop_all()

    def _put(
        self,
        undo: ExitStack,
        module: nn.Module,
        wrapper: Wrapper,
        keep_compiled: bool = False,
        method: str = CALLS,
    ) -> None:
        wrapped = Wrapped(module, _untraced(wrapper), self, keep_compiled, method)
        undo.callback(wrapped.remove)
        if method == CALLS:
            undo.callback(Wrapped(module, wrapped.stay_on_top, self, method="compile").remove)

    def remove(self) -> None:
        self._undo.close()


def _untraced(wrapper: Wrapper) -> Wrapper:
    """The same where somebody has compiled what calls it: traced, it would bake one step's path in, or be
    compiled anew at every step."""
    traced = "torch._dynamo" in sys.modules  # else nothing has been compiled, and importing it takes seconds
    return torch.compiler.disable(wrapper) if traced else wrapper


def _uncompiled(model: nn.Module, original: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Stands around a model compiled whole, which runs as it was before: no graph holds a run's choices."""
    return model(*args, **kwargs)


def _adapter_for(transformer: Any, config: Any, scheduler: Any) -> ModelAdapter:
    if not isinstance(config, MethodConfig):
        raise ConfigError(
            "config", f"{type(config).__name__} is no method's settings; use HeroConfig or one of METHODS"
        )
    adapter: ModelAdapter = (
        ComfyCogVideoXAdapter(transformer)
        if is_comfy_cogvideox(transformer)
        else CogVideoXAdapter(transformer)
    )
    if getattr(adapter.model, "is_cache_enabled", False):
        raise ConfigError(
            "transformer", "diffusers' own cache is on it; call disable_cache() on it, or leave HERO off"
        )
    adapter.noise = None if scheduler is None else NoiseSchedule.of(scheduler)
    return adapter


@contextmanager
def hero_session(
    transformer: Any, config: MethodConfig, steps: int | None = None, scheduler: Any = None
) -> Iterator[HeroRun]:
    """Accelerate a transformer with HERO, or another method, for the time of a ``with`` block.

    Whatever ends the block, an interrupt included, the model is called as before again and everything
    cached is freed; the run's reports stay readable. Names, parameters and LoRA of the model never change.

    Args:
        transformer: diffusers' ``CogVideoXTransformer3DModel``, or ComfyUI's own class of that name.
        config: the settings: a :class:`~hero_engine.HeroConfig`, or those of another of ``METHODS``.
        steps: number of denoising steps that really run, of video-to-video ``int(steps * strength)``; needed
            where ``config.warmup`` is a share, for a ``config.cooldown``, and by methods that look at the end
            of the run. Told more, a run has no cool-down; told fewer, it begins early.
        scheduler: the pipeline's scheduler, or a :class:`~hero_engine.NoiseSchedule`; needed by HERO with
            ``feedback``, as most presets have it.

    Yields:
        the :class:`~hero_engine.HeroRun`; its ``report`` tells what was saved.

    Raises:
        ConfigError: unsupported model, HERO already on the model, settings that do not fit it, or a scheduler
            that is missing or of another kind.
    """
    adapter = _adapter_for(transformer, config, scheduler)
    if installed_owner(adapter.model) is not None:
        raise ConfigError(
            "transformer", "HERO is already on it; leave that session or call remove_hero first"
        )
    installation = _Installation(adapter, config, steps)
    try:
        yield installation.run
    finally:
        installation.remove()


def apply_hero(
    transformer: Any, config: MethodConfig, steps: int | None = None, scheduler: Any = None
) -> HeroRun:
    """Put HERO on a transformer until :func:`remove_hero`, inside any diffusers CogVideoX pipeline.

    Each denoising run of the pipeline is a pass of its own. What is cached stays allocated between passes;
    prefer :func:`hero_session` where the run has a clear end. Applying again replaces the settings.

    Args, raises: as :func:`hero_session`.

    Returns:
        the :class:`~hero_engine.HeroRun`, whose ``report`` is that of the latest pass.
    """
    adapter = _adapter_for(transformer, config, scheduler)
    config.start(adapter, config.resolve(len(adapter.blocks), steps))  # before the one there is taken off
    remove_hero(transformer)
    return _Installation(adapter, config, steps).run


def current_run(transformer: Any) -> HeroRun | None:
    """The run of the session that is on a transformer, or of :func:`apply_hero`; None where there is none."""
    owner = installed_owner(getattr(transformer, "_orig_mod", transformer))
    return None if owner is None else owner.run


def remove_hero(transformer: Any) -> None:
    """Take HERO off a transformer and free what it cached. Does nothing where there is none."""
    owner = installed_owner(getattr(transformer, "_orig_mod", transformer))
    if owner is not None:
        owner.remove()
