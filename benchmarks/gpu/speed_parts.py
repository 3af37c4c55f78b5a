"""The parts that measure time: rates, runs end to end, cheaper full steps, growth with the clip."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping

import torch

from hero_engine import PRESETS
from hero_engine.cost import full_step_flops, predict
from hero_engine.speed.backends import choose_backend

from ..contenders import Contender, contenders
from ..race import Times, laps, stopwatch
from ..rates import attention_rates, matrix_rate
from ..scaling import Setting, predicted_flops, predicted_ratio
from ..sizes import SIZES, Denoising, Size, build_model
from ..speed import BASE, figures
from .record import Found, one_line
from .settings import Settings

_MARGIN = 1.15
"""Time that is reckoned with, over what FLOPs say."""


def _where(settings: Settings) -> tuple[Size, torch.device]:
    return SIZES[settings.size], torch.device(settings.device)


def rates(settings: Settings, seconds: float) -> Iterator[Found]:
    """The rate of a large matrix product, and that of each attention backend beside it."""
    size, device = _where(settings)
    rate, attention = matrix_rate(device, size.dtype), {}
    found: Found = {"matrix_flops_per_second": rate, "attention": attention}
    yield found
    found["auto"] = choose_backend("auto", device, size.dtype, size.head_width)
    for name, result in attention_rates(size, device):
        attention[name] = {"error": one_line(result)} if isinstance(result, str) else _rate(result, rate)
        yield found


def _rate(rate: float, matrix: float) -> Found:
    return {"flops_per_second": rate, "matrix_share": rate / matrix}


def end_to_end(settings: Settings, seconds: float) -> Iterator[Found]:
    """Whole runs of the presets beside the untouched model."""
    start = time.perf_counter()
    size, device = _where(settings)
    every = contenders({})
    named = {name: every[name] for name in (BASE, *(f"HERO {preset}" for preset in PRESETS))}
    model = build_model(size, device)
    full_seconds = full_step_seconds(model, size, device)
    left = seconds - (time.perf_counter() - start)
    steps = fitting(settings.steps, left, full_seconds, named.values(), size)
    yield from _raced(model, named, size, steps, device)


@torch.no_grad()
def full_step_seconds(model: torch.nn.Module, size: Size, device: torch.device) -> float:
    """Seconds of the untouched model's second step."""
    run, now = Denoising(model, size, 2, device), stopwatch(device)
    run.step(0)
    start, _ = now()
    run.step(1)
    return now()[0] - start


def fitting(
    steps: tuple[int, ...], seconds: float, full: float, raced: Collection[Contender], size: Size
) -> int:
    """The first of these numbers of steps with which all contenders fit the time; the last if none does.

    Args:
        steps: the most first.
        full: seconds of a full step.
        raced: each is rehearsed, too.
    """
    for count in steps:
        work = sum(_full_steps_worth(contender, size, count) for contender in raced)
        if _MARGIN * full * work <= seconds:
            return count
    return steps[-1]


def _full_steps_worth(contender: Contender, size: Size, steps: int) -> float:
    """A run's FLOPs over those of a full step, the rehearsal's full steps included."""
    rehearsed = 2
    if contender.config is not None:
        strip = predict(contender.config, size.shape, steps).strip
        pairs = zip(strip, strip[1:], strict=False)
        last = next((n for n, pair in enumerate(pairs, 2) if pair == (False, True)), steps)
        rehearsed = sum(strip[:last])
    return rehearsed + predicted_flops(contender, size, steps) / full_step_flops(size.shape)


def optimized(settings: Settings, seconds: float) -> Iterator[Found]:
    """Full steps with the attention that `optimize` chooses."""
    size, device = _where(settings)
    every = contenders({"attention": "auto"})
    named = {name: every[name] for name in (BASE, "optimized")}
    yield from _raced(build_model(size, device), named, size, settings.short_steps, device)


def compiled(settings: Settings, seconds: float) -> Iterator[Found]:
    """The same with compiled blocks, and HERO on them."""
    size, device = _where(settings)
    every = contenders({"attention": "auto", "compile": settings.compile})
    named = {name: every[name] for name in (BASE, "optimized", "HERO paper, optimized")}
    yield from _raced(build_model(size, device), named, size, settings.short_steps, device)


def _raced(
    model: torch.nn.Module, named: Mapping[str, Contender], size: Size, steps: int, device: torch.device
) -> Iterator[Found]:
    """What a race has found, after each of its steps."""
    found: Found = {"steps": steps}
    rate, start = matrix_rate(device, size.dtype), time.perf_counter()
    for number, times in enumerate(laps(model, dict(named), size, steps, 1, device), 1):
        if number == 1:
            spent = sum(own.clock[0] for own in times.values())
            # Compiling among them.
            found["rehearsal_seconds"] = time.perf_counter() - start - spent
        found["steps_taken"] = number
        found["methods"] = {
            name: _summary(named[name], own, times[BASE], size, steps, rate) for name, own in times.items()
        }
        yield found


def _summary(contender: Contender, own: Times, base: Times, size: Size, steps: int, rate: float) -> Found:
    """A contender's figures so far; those of the whole run when it is over."""
    seen = figures(contender, own, base, size, steps)
    found: Found = {
        "full_step_seconds": seen.full,
        "cached_step_seconds": seen.cached,
        "cached_over_full": seen.clock,
        "cached_over_full_by_flops": seen.flops,
        "full_over_untouched": seen.full and seen.full / base.median(base.clock, True),
        "matrix_share": seen.rate and seen.rate / rate,
    }
    if len(own.full) < steps:
        return found
    counted = contender.config and predict(
        contender.config, size.shape, steps, size.batch, size.dtype.itemsize
    )
    return found | {
        "full_steps": sum(own.full),
        "run_seconds": sum(own.clock),
        "speedup": seen.speedups[0],
        "speedup_by_medians": seen.speedups[1],
        "bound": seen.bound,
        "believed": seen.speedups[0] <= seen.limit,
        "cached_bytes": own.cached_bytes,
        "cached_bytes_counted": counted and counted.cached_bytes,
        "memory_failures": own.memory_failures,
    }


def growth(settings: Settings, seconds: float) -> Iterator[Found]:
    """Time of a run as the clip grows, over that of the first clip."""
    size, device = _where(settings)
    every = contenders({})
    named = {name: every[name] for name in (BASE, "HERO balanced")}
    model, base = build_model(size, device), Setting(settings.frames[0], settings.short_steps)
    found: Found = {"steps": base.steps, "rows": []}
    first: dict[str, Times] = {}
    for frames in settings.frames:
        setting = Setting(frames, base.steps)
        *_, times = laps(model, named, setting.of(size), base.steps, 1, device)
        first = first or times
        for name, own in times.items():
            seconds_taken = own.typical(own.clock)
            found["rows"].append(
                {
                    "method": name,
                    "latent_frames": frames,
                    "run_seconds": seconds_taken,
                    "predicted": predicted_ratio(named[name], size, setting, base),
                    "measured": seconds_taken / first[name].typical(first[name].clock),
                }
            )
        yield found
