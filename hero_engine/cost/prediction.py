"""What a setting costs and saves: FLOPs, memory, and a bound on the speed-up. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..flops import ModelShape, Work, full_step
from ..models.cogvideox_shape import CogVideoXSize
from ..schedule import step_ages
from ..settings import Counts, MethodConfig

# Aether at 480 x 720 x 41 (arXiv 2503.18945 and its published configuration).
AETHER_SIZE = CogVideoXSize(
    blocks=42, width=3072, time_width=512, text_width=4096, in_channels=96, out_channels=56, patch_size=2
)
_PROMPT = 226
AETHER: ModelShape = AETHER_SIZE.shape((11, 30, 45), _PROMPT)


def full_step_flops(shape: ModelShape) -> float:
    """FLOPs of one full forward at batch 1, attention included."""
    return full_step(shape).total


def cached_step_flops(shape: ModelShape, config: MethodConfig, counts: Counts, age: int = 1) -> float:
    """FLOPs of one cached forward at batch 1, attention included, `age` steps after the last full one."""
    return config.work(shape, counts, age).total


def cached_bytes(
    shape: ModelShape, config: MethodConfig, counts: Counts, batch: int, element_bytes: int
) -> int:
    """Bytes of cached features, at most."""
    return config.cached_bytes(shape, counts, element_bytes) * batch


@dataclass(frozen=True)
class Prediction:
    """What a setting costs and saves.

    Attributes:
        steps, full_steps: denoising steps and how many run in full.
        strip: for each step, whether it runs in full.
        cached_share: c, FLOPs of a cached step (on average) over those of a full one, attention included.
        linear_flops, unaccelerated_linear_flops: of the whole run, as the paper counts them.
        flops, unaccelerated_flops: of the whole run, attention included.
        cached_bytes: bytes of cached features.
        speedup_bound: steps / (full + cached c), reached where time goes with FLOPs; with `half_steps`
            unaccelerated_flops / flops.
    """

    steps: int
    full_steps: int
    strip: tuple[bool, ...]
    cached_share: float
    linear_flops: float
    unaccelerated_linear_flops: float
    flops: float
    unaccelerated_flops: float
    cached_bytes: int
    speedup_bound: float


def speedup_bound(steps: int, full: int, cached_share: float) -> float:
    """steps / (full + (steps - full) c)."""
    return steps / (full + (steps - full) * cached_share)


def predict(
    config: MethodConfig,
    shape: ModelShape,
    steps: int,
    batch: int = 1,
    element_bytes: int = 2,
    half_steps: Collection[int] = (),
) -> Prediction:
    """Predict FLOPs, memory and speed-up of a run with a fixed interval or a mask.

    Args:
        config: the settings of any method. With a threshold above 0 this is the fastest the run can be.
        shape: the model.
        steps: denoising steps, at least 1.
        batch: forwards per step (2 with classifier-free guidance).
        element_bytes: bytes of one number (2 for bfloat16).
        half_steps: numbers (from 0) of the steps of which guidance leaves the unconditional forwards out (see
            ``aether.generation.sampling.skipped_steps``): half of all, but none of full steps before the
            cool-down, from which cached ones go on (see ``HeroRun.needs_all``).

    Raises:
        ConfigError: a setting does not fit the model, or a count is below 1.
    """
    _check_counts(steps=steps, batch=batch, element_bytes=element_bytes)
    config.check(shape)
    counts = config.resolve(shape.blocks, steps)
    if half_steps and batch % 2:
        raise ConfigError("half_steps", f"a batch of {batch} has no half; with guidance it is 2")
    schedule = config.schedule(counts)
    ages = step_ages(schedule, steps)
    whole = full_step(shape)
    work = {age: config.work(shape, counts, age) for age in {*ages, 1} - {0}} | {0: whole}
    forwards = _forwards(ages, batch, half_steps, schedule.reused_until)
    flops = sum(count * work[age].total for count, age in zip(forwards, ages, strict=True))
    unaccelerated = batch * steps * whole.total
    return Prediction(
        steps=steps,
        full_steps=ages.count(0),
        strip=tuple(age == 0 for age in ages),
        cached_share=_cached_flops(ages, work) / whole.total,
        linear_flops=sum(count * work[age].linear for count, age in zip(forwards, ages, strict=True)),
        unaccelerated_linear_flops=batch * steps * whole.linear,
        flops=flops,
        unaccelerated_flops=unaccelerated,
        cached_bytes=cached_bytes(shape, config, counts, batch, element_bytes),
        speedup_bound=unaccelerated / flops,
    )


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(name, f"{value!r} is not a whole number of at least 1")


def _forwards(ages: Sequence[int], batch: int, half_steps: Collection[int], reused_until: float) -> list[int]:
    """Forwards of each step: half the batch where the unconditional ones are left out."""
    halved = [n in half_steps and (age > 0 or n >= reused_until) for n, age in enumerate(ages)]
    return [batch // 2 if half else batch for half in halved]


def _cached_flops(ages: Sequence[int], work: Mapping[int, Work]) -> float:
    """FLOPs of a cached step on average; with every step full, what one would cost."""
    cached = [work[age].total for age in ages if age]
    return statistics.fmean(cached or [work[1].total])


def aether_shape(height: int, width: int, frames: int) -> ModelShape:
    """Aether's transformer for a clip of `frames` frames of `height` x `width` pixels.

    Raises:
        ConfigError: a size that 16-pixel tokens, or a frame count that 4-frame latents, cannot hold.
    """
    if height < 16 or width < 16 or height % 16 or width % 16:
        raise ConfigError(
            "size", f"{width} x {height} (width x height) is not made of 16-pixel tokens; use multiples of 16"
        )
    if frames < 1 or frames % 4 != 1:
        raise ConfigError("size", f"{frames} frames do not fit; use a multiple of 4 plus 1, such as 17 or 41")
    grid = ((frames - 1) // 4 + 1, height // 16, width // 16)
    return AETHER_SIZE.shape(grid, _PROMPT)


def format_prediction(prediction: Prediction) -> str:
    """The prediction as lines of text."""
    tera = 1e12
    rows: list[tuple[str, Any]] = [
        ("steps", f"{prediction.full_steps} full / {prediction.steps - prediction.full_steps} cached"),
        ("cached step", f"{prediction.cached_share:.4f} of a full one"),
        (
            "linear TFLOPs",
            f"{prediction.linear_flops / tera:.2f} of {prediction.unaccelerated_linear_flops / tera:.2f} "
            f"({prediction.unaccelerated_linear_flops / prediction.linear_flops:.2f}x, the paper's count)",
        ),
        (
            "all TFLOPs",
            f"{prediction.flops / tera:.2f} of {prediction.unaccelerated_flops / tera:.2f} "
            f"({prediction.unaccelerated_flops / prediction.flops:.2f}x)",
        ),
        ("cached features", f"{prediction.cached_bytes / 1e9:.3f} GB"),
        ("speed-up bound", f"{prediction.speedup_bound:.2f}x"),
    ]
    return "\n".join(f"{name:<16} {value}" for name, value in rows)
