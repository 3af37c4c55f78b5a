"""FLOPs, memory and speed-up bound of a setting, before anything runs. No torch.

``python -m hero_engine.cost --paper`` reproduces every FLOPs figure of the HERO paper's tables;
``python -m hero_engine.cost --tau 21 --interval 2 --ratio 0.1667 --steps 50 --size 480x720x41`` predicts any
setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .config import HeroConfig, ResolvedConfig
from .errors import ConfigError
from .schedule import full_steps


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a CogVideoX transformer in one call.

    Attributes:
        blocks, width: number of transformer blocks and their hidden size.
        time_width: width of the time embedding.
        text_tokens, text_width: length and width of the prompt embedding.
        grid: (frames, rows, columns) of video tokens.
        in_channels, out_channels: latent channels that enter and leave.
        patch_size: latent rows and columns of one token.
    """

    blocks: int
    width: int
    time_width: int
    text_tokens: int
    text_width: int
    grid: tuple[int, int, int]
    in_channels: int
    out_channels: int
    patch_size: int

    @property
    def video_tokens(self) -> int:
        return math.prod(self.grid)


# Aether at 480 x 720 x 41 (arXiv 2503.18945 and its published configuration).
AETHER = ModelShape(
    blocks=42,
    width=3072,
    time_width=512,
    text_tokens=226,
    text_width=4096,
    grid=(11, 30, 45),
    in_channels=96,
    out_channels=56,
    patch_size=2,
)


def linear_flops(shape: ModelShape, blocks: int, tokens: float) -> float:
    """FLOPs of the linear layers of one forward at batch 1, two a multiplication.

    The paper's FLOPs columns count these alone.

    Args:
        shape: the model.
        blocks: blocks that run.
        tokens: tokens that run through them.
    """
    width, modulation = shape.width, 2 * 6 * shape.width * shape.time_width
    per_token = 4 * width * width + 8 * width * width  # query, key, value, output; feed-forward up and down
    return 2 * (blocks * (per_token * tokens + modulation) + _embedding_multiplications(shape))


def _embedding_multiplications(shape: ModelShape) -> int:
    patch = shape.patch_size**2
    return (
        shape.video_tokens * shape.width * patch * (shape.in_channels + shape.out_channels)
        + shape.text_tokens * shape.text_width * shape.width
        + shape.time_width * (shape.width + shape.time_width + 2 * shape.width)
    )


def attention_flops(shape: ModelShape, blocks: int, queries: float, keys: float) -> float:
    """FLOPs of the attention's two matrix products (scores, weighted values) at batch 1."""
    return 4 * blocks * queries * keys * shape.width


def full_step_flops(shape: ModelShape) -> float:
    """FLOPs of one full forward at batch 1, attention included."""
    tokens = shape.video_tokens + shape.text_tokens
    return linear_flops(shape, shape.blocks, tokens) + attention_flops(shape, shape.blocks, tokens, tokens)


def refreshed_tokens(shape: ModelShape, config: HeroConfig, counts: ResolvedConfig) -> int:
    """Video tokens that a cached step refreshes."""

    def sides(length: int, patch: int) -> list[int]:
        return [min(patch, length - start) for start in range(0, length, patch)]

    frames, rows, columns = (sides(g, p) for g, p in zip(shape.grid, config.patch, strict=True))
    return sum(min(counts.tokens_per_patch, a * b * c) for a in frames for b in rows for c in columns)


def cached_step_flops(shape: ModelShape, config: HeroConfig, counts: ResolvedConfig) -> float:
    """FLOPs of one cached forward at batch 1, attention included."""
    text = shape.text_tokens if config.text == "refresh" else 0
    tokens = refreshed_tokens(shape, config, counts) + text
    keys = shape.video_tokens + shape.text_tokens if config.context == "cached_kv" else tokens
    return linear_flops(shape, counts.tau, tokens) + attention_flops(shape, counts.tau, tokens, keys)


def cached_bytes(
    shape: ModelShape, config: HeroConfig, counts: ResolvedConfig, batch: int, element_bytes: int
) -> int:
    """Bytes of cached features: the residuals, and keys and values where they are kept.

    Three hidden states (shallow residual, deep residual, its slope); one more with the fitted forecast; one
    in all where every block is shallow.
    """
    deep = {"linear": 2, "fitted": 3}[config.forecast] if counts.tau < shape.blocks else 0
    tokens = (1 + deep) * shape.video_tokens
    if config.context == "cached_kv":
        tokens += 2 * counts.tau * (shape.video_tokens + shape.text_tokens)
    return tokens * shape.width * batch * element_bytes


@dataclass(frozen=True)
class Prediction:
    """What a setting costs and saves.

    Attributes:
        steps, full_steps: denoising steps and how many run in full.
        cached_share: c, FLOPs of a cached step over those of a full one, attention included.
        linear_flops, unaccelerated_linear_flops: of the whole run, as the paper counts them.
        flops, unaccelerated_flops: of the whole run, attention included.
        cached_bytes: bytes of cached features.
        speedup_bound: steps / (full + cached c), reached where time goes with FLOPs.
    """

    steps: int
    full_steps: int
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
    config: HeroConfig, shape: ModelShape, steps: int, batch: int = 1, element_bytes: int = 2
) -> Prediction:
    """Predict FLOPs, memory and speed-up of a run with a fixed interval.

    Args:
        config: the settings. With a threshold above 0 this is the fastest the run can be.
        shape: the model.
        steps: denoising steps, at least 1.
        batch: forwards per step (2 with classifier-free guidance).
        element_bytes: bytes of one number (2 for bfloat16).

    Raises:
        ConfigError: tau exceeds the blocks, the patch the grid, or a count is below 1.
    """
    for name, value in (("steps", steps), ("batch", batch), ("element_bytes", element_bytes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(name, f"{value!r} is not a whole number of at least 1")
    if any(p > g for p, g in zip(config.patch, shape.grid, strict=True)):
        raise ConfigError("patch", f"{config.patch} is larger than the token grid {shape.grid}")
    counts = config.resolve(shape.blocks, steps)
    full = full_steps(config.interval, counts.warmup, steps)
    cached = steps - full
    tokens = refreshed_tokens(shape, config, counts) + (shape.text_tokens if config.text == "refresh" else 0)
    linear_full = batch * linear_flops(shape, shape.blocks, shape.video_tokens + shape.text_tokens)
    linear_cached = batch * linear_flops(shape, counts.tau, tokens)
    whole, part = batch * full_step_flops(shape), batch * cached_step_flops(shape, config, counts)
    return Prediction(
        steps=steps,
        full_steps=full,
        cached_share=part / whole,
        linear_flops=full * linear_full + cached * linear_cached,
        unaccelerated_linear_flops=steps * linear_full,
        flops=full * whole + cached * part,
        unaccelerated_flops=steps * whole,
        cached_bytes=cached_bytes(shape, config, counts, batch, element_bytes),
        speedup_bound=speedup_bound(steps, full, part / whole),
    )


def aether_shape(height: int, width: int, frames: int) -> ModelShape:
    """Aether's transformer for a clip of `frames` frames of `height` x `width` pixels.

    Raises:
        ConfigError: a size that 16-pixel tokens, or a frame count that 4-frame latents, cannot hold.
    """
    if height < 16 or width < 16 or height % 16 or width % 16:
        raise ConfigError("size", f"{height}x{width} is not made of 16-pixel tokens; use multiples of 16")
    if frames < 1 or frames % 4 != 1:
        raise ConfigError("size", f"{frames} frames do not fit; use a multiple of 4 plus 1, such as 17 or 41")
    grid = ((frames - 1) // 4 + 1, height // 16, width // 16)
    return ModelShape(**{**vars(AETHER), "grid": grid})


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


if __name__ == "__main__":
    from .cost_cli import main

    raise SystemExit(main())
