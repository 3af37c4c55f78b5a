"""The caches of other packages, called as their documentation says: diffusers' and cache-dit's.

Facts: diffusers 0.42's ``hooks`` and cache-dit 1.5's ``caching``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from hero_engine import amounts
from hero_engine.cost import ModelShape
from hero_engine.schedule import full_steps

_MODULES = [r"transformer_blocks\.\d+\.(attn1|ff)"]
_THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.36)
_NEVER = 1e9

Cache = AbstractContextManager[None]
"""A cache on a transformer, for the time of the context."""


@dataclass
class Occasion:
    """The run that a method is put on for.

    Attributes:
        steps: of the run.
        guided: whether a call holds both branches, the unconditional one first.
        timestep: gives that of the call at hand.
        mag_ratios: of MagCache, taken from the unaccelerated run.
        scheduler: of the sampler.
    """

    steps: int
    guided: bool
    timestep: Callable[[], float]
    mag_ratios: list[float] | None = None
    scheduler: Any = None


@dataclass(frozen=True)
class Package:
    """How a method of another package is called.

    Attributes:
        label: the method, for people.
        session: puts it on a transformer for the time of a context.
        skipped: share of the work that a cached step leaves out. For predicting; what is reported is counted.
        fixed: settings besides interval and warm-up where it has a fixed schedule, else empty.
        ladder: settings to try where it has none.
    """

    label: str
    session: Callable[[Any, dict[str, Any], Occasion], Cache]
    skipped: Callable[[ModelShape], float]
    fixed: dict[str, Any]
    ladder: tuple[dict[str, Any], ...] = ()

    def share(self, settings: dict[str, Any], shape: ModelShape, steps: int) -> float:
        """Predicted FLOPs of a run with interval and warm-up, over those of the unaccelerated one."""
        full = full_steps(settings["interval"], _warmup(settings, steps), steps)
        return (full + (steps - full) * (1 - self.skipped(shape))) / steps


def _warmup(settings: dict[str, Any], steps: int) -> int:
    return amounts.count(amounts.amount("warmup", settings["warmup"], "steps"), steps)


@contextmanager
def diffusers_cache(transformer: Any, config: Any) -> Iterator[None]:
    """One of diffusers' caches, for the time of the context."""
    transformer.enable_cache(config)
    try:
        yield
    finally:
        transformer.disable_cache()


def _first_block(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Cache:
    from diffusers import FirstBlockCacheConfig

    return diffusers_cache(transformer, FirstBlockCacheConfig(threshold=settings["threshold"]))


def _taylorseer(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Cache:
    import torch
    from diffusers import TaylorSeerCacheConfig

    config = TaylorSeerCacheConfig(
        cache_interval=settings["interval"],
        disable_cache_before_step=_warmup(settings, occasion.steps),
        max_order=settings["order"],
        taylor_factors_dtype=torch.float32,
        cache_identifiers=_MODULES,
    )
    return diffusers_cache(transformer, config)


def _magcache(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Cache:
    from diffusers import MagCacheConfig

    config = MagCacheConfig(
        threshold=settings.get("threshold", _NEVER),
        max_skip_steps=settings["interval"] - 1,
        retention_ratio=min(1.0, _warmup(settings, occasion.steps) / occasion.steps),
        num_inference_steps=occasion.steps,
        mag_ratios=occasion.mag_ratios,
    )
    return diffusers_cache(transformer, config)


@contextmanager
def magcache_calibration(transformer: Any, steps: int) -> Iterator[list[float]]:
    """An unaccelerated run's magnitude ratios; the list is full when the context is left."""
    from diffusers import MagCacheConfig

    ratios: list[float] = []
    printed = io.StringIO()
    config = MagCacheConfig(num_inference_steps=steps, calibrate=True)
    with contextlib.redirect_stdout(printed), diffusers_cache(transformer, config):
        yield ratios
    # diffusers gives them by printing a list.
    last = printed.getvalue().strip().splitlines()[-1]
    ratios += [float(ratio) for ratio in last.strip("[]").split(",")]


def _pyramid(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Cache:
    from diffusers import PyramidAttentionBroadcastConfig

    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=settings["skip"],
        spatial_attention_timestep_skip_range=(-1, settings["below"]),
        current_timestep_callback=occasion.timestep,
    )
    return diffusers_cache(transformer, config)


def _faster(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Cache:
    from diffusers import FasterCacheConfig

    config = FasterCacheConfig(
        spatial_attention_block_skip_range=settings["skip"],
        spatial_attention_timestep_skip_range=(-1, settings["below"]),
        unconditional_batch_skip_range=settings["skip_unconditional"],
        unconditional_batch_timestep_skip_range=(-1, settings["below"]),
        attention_weight_callback=lambda _: 0.3,
        tensor_format="BFCHW",
        is_guidance_distilled=not occasion.guided,
        current_timestep_callback=occasion.timestep,
    )
    return diffusers_cache(transformer, config)


@contextmanager
def _cache_dit(transformer: Any, settings: dict[str, Any], occasion: Occasion) -> Iterator[None]:
    try:
        import cache_dit
    except ImportError as error:
        raise ImportError('cache-dit is not installed: pip install ".[evaluation]"') from error

    config = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        residual_diff_threshold=settings.get("threshold", _NEVER),
        max_warmup_steps=_warmup(settings, occasion.steps),
        max_continuous_cached_steps=settings["interval"] - 1,
        num_inference_steps=occasion.steps,
    )
    taylor = None
    if settings["order"]:
        taylor = cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=settings["order"])
    cache_dit.enable_cache(transformer, cache_config=config, calibrator_config=taylor)
    try:
        yield
    finally:
        cache_dit.disable_cache(transformer)


def _all(shape: ModelShape) -> float:
    return 1.0


def _all_but_one(shape: ModelShape) -> float:
    return 1 - 1 / shape.blocks


def _thresholds(**settings: Any) -> tuple[dict[str, Any], ...]:
    return tuple({**settings, "threshold": threshold} for threshold in _THRESHOLDS)


def _skips(**settings: Any) -> tuple[dict[str, Any], ...]:
    # The first step, at timestep 999, has nothing to reuse, which FasterCache does not see for itself.
    return tuple({"skip": skip, "below": below, **settings} for below in (800, 999) for skip in (2, 3, 5))


MAGCACHE = "diffusers-magcache"
PACKAGES: dict[str, Package] = {
    "diffusers-taylorseer": Package("diffusers TaylorSeerCache", _taylorseer, _all, {"order": 1}),
    "diffusers-first-block": Package(
        "diffusers FirstBlockCache", _first_block, _all_but_one, {}, _thresholds()
    ),
    MAGCACHE: Package(
        "diffusers MagCache", _magcache, _all, {"threshold": _NEVER}, _thresholds(interval=4, warmup="20%")
    ),
    "diffusers-pyramid": Package("diffusers PyramidAttentionBroadcast", _pyramid, _all, {}, _skips()),
    "diffusers-fastercache": Package(
        "diffusers FasterCache", _faster, _all, {}, _skips(skip_unconditional=5)
    ),
    "cache-dit": Package(
        "cache-dit F1B0",
        _cache_dit,
        _all_but_one,
        {"order": 0},
        _thresholds(order=0, interval=4, warmup="20%"),
    ),
    "cache-dit-taylorseer": Package("cache-dit F1B0 TaylorSeer", _cache_dit, _all_but_one, {"order": 1}),
}
