"""HERO's settings: validated on construction, resolved against a model and a number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from .errors import ConfigError

CONTEXTS = ("selected", "cached_kv")
FORECASTS = ("linear", "fitted")
TEXTS = ("refresh", "omit")


def _integer(field: str, value: Any, low: int, high: int | None = None) -> int:
    bounds = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(field, f"{value!r} is not {bounds}")
    if value < low or (high is not None and value > high):
        raise ConfigError(field, f"{value} is out of range; use {bounds}")
    return int(value)


def _real(field: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    bounds = f"a number {'above' if open_low else 'from'} {low:g} {'and up ' if open_low else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(field, f"{value!r} is not {bounds}")
    value = float(value)
    if math.isnan(value) or value < low or value > high or (open_low and value == low):
        raise ConfigError(field, f"{value} is out of range; use {bounds}")
    return value


def _count_or_share(field: str, value: Any, what: str) -> int | float:
    """An int counts `what`; a float is a share of them."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(field, f"{value!r} is neither a count of {what} (int) nor a share of them (float)")
    if isinstance(value, Integral):
        return _integer(field, value, 1)
    return _real(field, value, 0.0, 1.0, open_low=True)


def _choice(field: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(field, f"{value!r} is not one of {', '.join(map(repr, choices))}")
    return value


def _patch(value: Any) -> tuple[int, int, int]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ConfigError("patch", f"{value!r} is not three whole numbers (frames, rows, columns) of tokens")
    return tuple(_integer("patch", side, 1, 64) for side in value)


@dataclass(frozen=True)
class ResolvedConfig:
    """A :class:`HeroConfig` in counts of one model and one run.

    Attributes:
        tau: number of shallow blocks that are refreshed on a cached step.
        warmup: number of leading full steps.
        tokens_per_patch: tokens refreshed in each patch of ``patch`` tokens.
    """

    tau: int
    warmup: int
    tokens_per_patch: int


@dataclass(frozen=True)
class HeroConfig:
    """Settings of one HERO run (arXiv 2508.17588). Immutable; vary it with ``dataclasses.replace``.

    Args:
        tau: shallow blocks that are refreshed on cached steps, the paper's threshold layer. An int counts
            blocks, a float in (0, 1] is a share of the model's blocks. More is truer and slower.
        interval: N, at least one full step in every N steps after the warm-up. 1 makes every step full.
        ratio: r in (0, 1], share of each patch that is refreshed on a cached step, rounded to whole tokens.
            More is truer and slower.
        threshold: 0 keeps the fixed interval. Above 0, cached steps go on only while the drift accumulated
            since the last full step (relative change of the residuals, see
            :class:`~hero_engine.schedule.Schedule`) stays below it; the interval remains the upper bound.
            Useful values are about 0.05 to 0.5; smaller is truer and slower.
        patch: (frames, rows, columns) of tokens from which ``ratio`` is sampled.
        warmup: leading full steps. An int counts steps, a float in (0, 1] is a share of the run's steps.
        seed: seed of the token sampling (0 to 2**63 - 1). The global random state is never used.
        context: what refreshed tokens attend to. ``"selected"``: the refreshed tokens only.
            ``"cached_kv"``: keys and values of all tokens, kept for the shallow blocks; truer, but holds
            2 tau more hidden states.
        forecast: how the deep residual moves between full steps. ``"linear"``: the paper's linear
            extrapolation. ``"fitted"``: coefficients on the last two differences, fitted at every full step
            to what the forecast missed; holds one more hidden state.
        text: ``"refresh"`` runs the text tokens through the shallow blocks along with the selected video
            tokens. ``"omit"`` leaves them out, which is what the paper's FLOPs count.

    Raises:
        ConfigError: a field has the wrong type, is NaN, infinite or out of range; names the field.
    """

    tau: int | float = 0.5
    interval: int = 2
    ratio: float = 1 / 6
    threshold: float = 0.0
    patch: tuple[int, int, int] = (1, 2, 3)
    warmup: int | float = 4
    seed: int = 0
    context: str = "selected"
    forecast: str = "linear"
    text: str = "refresh"

    def __post_init__(self) -> None:
        checked = {
            "tau": _count_or_share("tau", self.tau, "blocks"),
            "interval": _integer("interval", self.interval, 1, 1000),
            "ratio": _real("ratio", self.ratio, 0.0, 1.0, open_low=True),
            "threshold": _real("threshold", self.threshold, 0.0, 1e6),
            "patch": _patch(self.patch),
            "warmup": _count_or_share("warmup", self.warmup, "steps"),
            "seed": _integer("seed", self.seed, 0, 2**63 - 1),
            "context": _choice("context", self.context, CONTEXTS),
            "forecast": _choice("forecast", self.forecast, FORECASTS),
            "text": _choice("text", self.text, TEXTS),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._tokens_per_patch()

    def _tokens_per_patch(self) -> int:
        volume = math.prod(self.patch)
        tokens = math.floor(self.ratio * volume + 0.5)
        if tokens < 1:
            raise ConfigError(
                "ratio",
                f"{self.ratio:g} of a patch of {volume} tokens is less than half a token; "
                f"use at least {0.5 / volume:.3g}, or a larger patch",
            )
        return tokens

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> HeroConfig:
        """A named preset (see ``PRESETS``), with any field overridden.

        Raises:
            ConfigError: unknown name (field ``"preset"``), unknown field, or a bad value.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigError("preset", f"{name!r} is not one of {', '.join(map(repr, PRESETS))}")
        known = {field.name for field in fields(cls)}
        for field in overrides:
            if field not in known:
                raise ConfigError(field, f"HERO has no such setting; it has {', '.join(sorted(known))}")
        return replace(PRESETS[name], **overrides)

    def resolve(self, blocks: int, steps: int | None = None) -> ResolvedConfig:
        """Turn shares into counts.

        Args:
            blocks: number of transformer blocks of the model.
            steps: number of denoising steps of the run; needed where ``warmup`` is a share.

        Raises:
            ConfigError: ``tau`` exceeds the blocks, or ``warmup`` is a share and ``steps`` is missing.
        """
        if isinstance(self.tau, int) and self.tau > blocks:
            raise ConfigError(
                "tau", f"{self.tau} is more than the model's {blocks} blocks; use 1 to {blocks}"
            )
        if steps is not None:
            steps = _integer("steps", steps, 1)
        elif isinstance(self.warmup, float):
            raise ConfigError("steps", "needed because warmup is a share of them; give the number of steps")
        return ResolvedConfig(
            tau=self.tau if isinstance(self.tau, int) else max(1, round(self.tau * blocks)),
            warmup=self.warmup if isinstance(self.warmup, int) else max(1, round(self.warmup * steps)),
            tokens_per_patch=self._tokens_per_patch(),
        )


# Both reproduce the step counts and FLOPs of the paper's tables (see cost.py).
PRESETS: dict[str, HeroConfig] = {
    "paper": HeroConfig(text="omit"),
    "paper-fast": HeroConfig(interval=3, warmup=0.2, text="omit"),
}
