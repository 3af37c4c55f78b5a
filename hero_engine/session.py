"""Putting HERO, or a method it is compared with, on a model and taking it off again."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .errors import ConfigError
from .foreign_caches import refuse_caches
from .hero.config import HeroConfig
from .models.adapter import Forward, ModelAdapter
from .models.families import adapter_for
from .run import HeroRun
from .sampling import Sampling, is_pipeline
from .settings import MethodConfig
from .wrapping import CALLS, Wrapped, Wrapper, installed_owner, without_replicas

log = logging.getLogger(__name__)


class _Installation:
    """A method on one model, from construction to `remove`."""

    def __init__(self, adapter: ModelAdapter, run: HeroRun):
        self.run = run
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


def _prepared(
    model: Any, config: MethodConfig | str, steps: int | None, scheduler: Any
) -> tuple[ModelAdapter, HeroRun]:
    """What a method needs to be put on a model, all of it checked."""
    adapter = adapter_for(_transformer_of(model))
    refuse_caches(adapter.model)
    pipeline = model if is_pipeline(model) else None
    if getattr(pipeline, "transformer_2", None) is not None:
        log.warning(
            "HERO: the pipeline has a second transformer for its later steps, which runs without HERO; call "
            "apply_hero(pipeline.transformer_2, config, scheduler=pipeline.scheduler) to accelerate it"
        )
    if pipeline is not None and scheduler is not None:
        raise ConfigError("scheduler", "the pipeline has its own; leave it out")
    settings = _settings(config)
    sampling = Sampling(pipeline, scheduler, steps, settings.needs_noise)
    return adapter, HeroRun(adapter, settings, sampling)


def _settings(config: Any) -> MethodConfig:
    if isinstance(config, str):
        return HeroConfig.preset(config)
    if not isinstance(config, MethodConfig):
        raise ConfigError(
            "config",
            f"{type(config).__name__} is no method's settings; use a HeroConfig, the name of a preset, "
            "or one of METHODS",
        )
    return config


def _transformer_of(model: Any) -> Any:
    return model.transformer if is_pipeline(model) else model


@contextmanager
def hero_session(
    model: Any, config: MethodConfig | str, steps: int | None = None, scheduler: Any = None
) -> Iterator[HeroRun]:
    """Accelerate a model with HERO, or another method, for the time of a ``with`` block.

    Whatever ends the block, an interrupt included, the model is called as before again and everything
    cached is freed; the run's reports stay readable. Names, parameters and LoRA of the model never change.

    Args:
        model: a diffusers pipeline, its transformer, or the ``diffusion_model`` of a MODEL of ComfyUI, of one
            of the families in :mod:`hero_engine.models.families`. With a pipeline nothing more is needed:
            its scheduler, steps and guidance are read at the beginning of each pass.
        config: the settings: a :class:`~hero_engine.HeroConfig`, the name of one of ``PRESETS``, or the
            settings of another of ``METHODS``.
        steps: for a transformer: number of denoising steps that really run, of video-to-video
            ``int(steps * strength)``. Needed where ``config.warmup`` is a share, for a ``config.cooldown``
            or a ``config.mask``, and by methods that look at the end of the run, unless it can be read off
            ``scheduler``. Where the scheduler runs another number, that counts, and a warning is logged. If
            it is too high, the cool-down never starts; if too low, it starts early.
        scheduler: for a transformer: the scheduler that runs it, read at the beginning of each pass, or a
            :class:`~hero_engine.NoiseSchedule`; needed by HERO with ``feedback``, as most presets have it.
            Where it turns out not to be the one that runs, error feedback is off and a warning is logged.

    Yields:
        the :class:`~hero_engine.HeroRun`; its ``report`` has what was saved.

    Raises:
        ConfigError: unsupported model, HERO or a cache of diffusers already on it, settings that do not fit
            it, or a scheduler that is missing or of another kind.
    """
    adapter, run = _prepared(model, config, steps, scheduler)
    if installed_owner(adapter.model) is not None:
        raise ConfigError(
            "transformer", "HERO is already on it; leave that session or call remove_hero first"
        )
    installation = _Installation(adapter, run)
    try:
        yield installation.run
    finally:
        installation.remove()


def apply_hero(
    model: Any, config: MethodConfig | str, steps: int | None = None, scheduler: Any = None
) -> HeroRun:
    """Put HERO on a model until :func:`remove_hero`, inside any pipeline that calls it.

    Each denoising run of the pipeline is a pass of its own. What is cached stays allocated between passes;
    prefer :func:`hero_session` where the run has a clear end. Applying again replaces the settings.

    Args, raises: as :func:`hero_session`.

    Returns:
        the :class:`~hero_engine.HeroRun`, whose ``report`` is that of the latest pass.
    """
    adapter, run = _prepared(model, config, steps, scheduler)  # before the one there is taken off
    remove_hero(model)
    return _Installation(adapter, run).run


def current_run(model: Any) -> HeroRun | None:
    """The run of the session that is on a transformer or a pipeline's, or of :func:`apply_hero`; None where
    there is none."""
    owner = _owner(model)
    return None if owner is None else owner.run


def remove_hero(model: Any) -> None:
    """Take HERO off a transformer or a pipeline's, and free what it cached. Does nothing without one."""
    owner = _owner(model)
    if owner is not None:
        owner.remove()


def _owner(model: Any) -> _Installation | None:
    transformer = _transformer_of(model)
    owner: _Installation | None = installed_owner(getattr(transformer, "_orig_mod", transformer))
    return owner
