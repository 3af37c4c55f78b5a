"""What speed is measured of: how each contender is put on a model, and how to tell its full steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from aether.model.schedulers import make_scheduler
from evaluation.compare.packages import diffusers_cache
from hero_engine import (
    PRESETS,
    DucaConfig,
    ForaConfig,
    HeroConfig,
    HeroRun,
    MethodConfig,
    NoiseSchedule,
    TaylorSeerConfig,
    TocaConfig,
    WorldCacheConfig,
    hero_session,
    optimize,
)
from hero_engine.schedule import Schedule

# N = 2 after four full steps: 27 of 50 are full, as in HERO's presets and in the methods it is compared with.
INTERVAL, WARMUP = 2, 4


@dataclass
class Attached:
    """A contender on a model.

    Attributes:
        full: whether the latest step was a full one.
        run: of a session of ours, else None.
        around: what every step must run in.
    """

    full: Callable[[], bool]
    run: HeroRun | None = None
    around: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Contender:
    """A way to run the model.

    Attributes:
        attach: puts it on a model for a run of so many steps.
        config: its settings, where it is one of ours.
        repeatable: whether it may run twice before it is taken off, for a rehearsal.
        plain_steps: whether its full steps are the untouched model's, so that FLOPs bound its speed-up.
    """

    attach: Callable[[nn.Module, int], AbstractContextManager[Attached]]
    config: MethodConfig | None = None
    repeatable: bool = True
    plain_steps: bool = True


def contenders(optimizations: dict[str, Any]) -> dict[str, Contender]:
    """All there are, by name; those of packages only where they are installed.

    Args:
        optimizations: arguments of ``hero_engine.optimize`` for the contenders named "optimized".
    """
    found = {
        "untouched": _session(),
        "optimized": _session(None, optimizations),
    }
    for name, config in PRESETS.items():
        found[f"HERO {name}"] = _session(config)
    found["HERO paper, optimized"] = _session(PRESETS["paper"], optimizations)
    found["FORA"] = _session(ForaConfig())
    found["TaylorSeer"] = _session(TaylorSeerConfig())
    found["FirstBlockCache"] = Contender(_first_block_cache, repeatable=False)
    if importlib.util.find_spec("cache_dit"):
        found["cache-dit"] = Contender(_cache_dit, repeatable=False)
    return found


def more_contenders() -> dict[str, Contender]:
    """Those that are measured only where they are named."""
    configs = {
        "HERO, text refreshed": HeroConfig(),
        "TaylorSeer, order 2": TaylorSeerConfig(order=2),
        "ToCa": TocaConfig(),
        "ToCa, ratio 0.75": TocaConfig(ratio=0.75),
        "DuCa": DucaConfig(),
        # Without a bound: random weights say nothing of when it would end a stretch.
        "WorldCache": WorldCacheConfig(threshold=1e6),
    }
    return {name: _session(config) for name, config in configs.items()}


def _session(config: MethodConfig | None = None, optimizations: dict[str, Any] | None = None) -> Contender:
    """One of ours, or no method, with or without optimizations."""

    @contextmanager
    def attach(model: nn.Module, steps: int) -> Iterator[Attached]:
        with ExitStack() as stack:
            if optimizations is not None:
                stack.enter_context(optimize(model, **optimizations))
            if config is None:
                yield Attached(lambda: True)
                return
            noise = NoiseSchedule.of(make_scheduler("ddim"))
            run = stack.enter_context(hero_session(model, config, steps, noise))
            yield Attached(lambda: run.report.records[-1].reason.full, run)

    return Contender(attach, config, plain_steps=optimizations is None)


@contextmanager
def _last_block_seen(model: nn.Module) -> Iterator[Callable[[], bool]]:
    """A function: whether the last block has computed anything since the last call."""
    seen: list[bool] = []
    handle = model.transformer_blocks[-1].ff.net[0].register_forward_hook(lambda *_: seen.append(True))

    def ask() -> bool:
        full = bool(seen)
        seen.clear()
        return full

    try:
        yield ask
    finally:
        handle.remove()


@contextmanager
def _first_block_cache(model: nn.Module, steps: int) -> Iterator[Attached]:
    from diffusers.hooks import FirstBlockCacheConfig

    with _last_block_seen(model) as full, diffusers_cache(model, FirstBlockCacheConfig(threshold=0.05)):
        yield Attached(full, around=lambda: model.cache_context("both"))


@contextmanager
def _cache_dit(model: nn.Module, steps: int) -> Iterator[Attached]:
    """Its block cache with one block computed, on the same full steps as HERO's preset "paper"."""
    import cache_dit

    schedule = Schedule(INTERVAL, WARMUP)
    mask = [int(schedule.next().full) for _ in range(steps)]
    with _last_block_seen(model) as full:
        adapter = cache_dit.BlockAdapter(
            transformer=model,
            blocks=model.transformer_blocks,
            forward_pattern=cache_dit.ForwardPattern.Pattern_0,
        )
        config = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1,
            Bn_compute_blocks=0,
            max_warmup_steps=WARMUP,
            num_inference_steps=steps,
            steps_computation_mask=mask,
            steps_computation_policy="static",
        )
        cache_dit.enable_cache(adapter, cache_config=config)
        try:
            yield Attached(full)
        finally:
            cache_dit.disable_cache(adapter)
