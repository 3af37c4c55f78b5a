"""How the features of each block move over a denoising run, and from it how many blocks to call shallow.

The variance of second-order differences is the layer analysis of the HERO paper (arXiv 2508.17588,
figure 5); the errors are those that cached steps would make with given settings. Pure tensors;
:mod:`hero_engine.hero.layer_steps` collects the features on a model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checks import integer
from ..errors import ConfigError
from ..flops import ModelShape, Work, full_step
from ..optional import require
from ..settings import MethodConfig
from ..storage import held_bytes
from .config import HeroConfig, ResolvedConfig

TOLERANCE = 0.01
"""Taus whose predicted error is within this share of the least count as equally good."""


@dataclass(frozen=True)
class LayersConfig(MethodConfig):
    """Settings of an analysis. Given to ``hero_session`` in place of a method's; every step runs in full.

    After the denoising run, ``run.method.analysis()`` is the :class:`LayerAnalysis`.

    Args:
        hero: whose cached steps are tried. Its interval or mask is taken as fixed; tau is what is looked for,
            and feedback, which corrects answers and not features, does not count. On a step that would be
            cached, the refresh runs beside the step, through all blocks, so that the error of every tau is
            measured at once.
        tokens: video tokens that are looked at, the same in all blocks and steps; all where there are fewer.
            At Aether's size with guidance, 256 take about 1 GB.

    Raises:
        ConfigError: ``tokens`` is not a count, or ``hero`` makes every step full.
    """

    name: ClassVar[str] = "HERO Analyzer"
    # Not settings: every step is full.
    interval = 1
    warmup = 1

    hero: HeroConfig = field(default_factory=HeroConfig)
    tokens: int = 256

    def __post_init__(self) -> None:
        self._set(tokens=integer("tokens", self.tokens, 1))
        if not self.hero.reuses and self.hero.mask:
            raise ConfigError("mask", "makes every step full, so that nothing is forecast; use one with 0s")
        if not self.hero.reuses:
            raise ConfigError(
                "interval", "1 makes every step full, so that nothing is forecast; use 2 or more"
            )

    def resolve(self, blocks: int, steps: int | None = None) -> ResolvedConfig:
        """See :class:`~hero_engine.settings.MethodConfig`.

        Raises:
            ConfigError: too few steps for an analysis (field ``"steps"``).
        """
        counts = self.hero.resolve(blocks, steps)
        if steps is not None:
            check_steps(steps, counts.warmup)
        return counts

    def check(self, shape: ModelShape) -> None:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        self.hero.check(shape)

    def work(self, shape: ModelShape, counts: ResolvedConfig, age: int) -> Work:
        """Everything: no step is cached."""
        return full_step(shape)

    def cached_numbers(self, shape: ModelShape, counts: ResolvedConfig) -> int:
        """The states between the blocks, of four steps."""
        return 4 * (shape.blocks + 1) * min(self.tokens, shape.video_tokens) * shape.width

    def computed(self, shape: ModelShape, counts: ResolvedConfig) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the {shape.blocks} blocks"


def check_steps(steps: int, warmup: int) -> None:
    """Refuse runs in which nothing is forecast, or that have no second-order difference."""
    least = max(3, warmup + 1)
    if steps < least:
        raise ConfigError(
            "steps",
            f"{steps} is too few to analyze with a warm-up of {warmup}: use at least {least}, better 20",
        )


class LayerMotion:
    """What the blocks add, over the steps of one branch, in running sums.

    With x_0..x_L the states that enter block 1 and leave blocks 1 to L, R_l = x_l - x_{l-1} is what block l
    adds and D_tau = x_L - x_tau what the blocks behind tau add.

    On a step that HERO would cache, what it would have taken is held against what came:

        reuse           R at the last full step
        extrapolation   R + (R - R at the full step before) / (time between) * time since
        cached step     x_tau + extrapolation of D_tau, where x_tau is x_0 + reuse, or extrapolation, of
                        x_tau - x_0, or comes out of the refresh where a token is refreshed

    Args:
        sums: where to add to, shared by the branches of a run.
        shallow: HERO's setting of that name, what other tokens have in the shallow blocks.
    """

    def __init__(self, sums: defaultdict[str, Any], shallow: str = "reuse"):
        self._sums = sums
        self._shallow = shallow
        self._recent: list[Tensor] = []
        self._anchor: Tensor | None = None
        self._slope: Tensor | None = None
        self._time = 0.0

    def observe(self, states: Tensor, time: float, refresh: tuple[Tensor, Tensor] | None = None) -> None:
        """Take the next step in.

        Args:
            states: (L + 1, batch, tokens, width) x_0 to x_L of the tokens looked at; kept, not copied.
            time: what the extrapolation is linear in.
            refresh: None on a full step. On one that would be cached, which of the tokens are refreshed
                (rows,), and their states in the refresh, (L + 1, batch, rows, width).

        Raises:
            ConfigError: features that are not finite; names the block (field ``"transformer"``).
        """
        sums, variance = self._sums, _variance(states.diff(dim=0))
        _check_blocks(torch.isfinite(variance), "gives features that are NaN or infinite")
        sums["variance"] += variance
        sums["observed"] += 1
        if len(self._recent) == 2:
            before, last = self._recent
            sums["bend"] += _variance((states - 2 * last + before).diff(dim=0))
            sums["bends"] += 1
        self._recent = [*self._recent[-1:], states]
        if refresh is None:
            if self._anchor is not None:
                self._slope = (states - self._anchor) / (time - self._time)
            self._anchor, self._time = states, time
        else:
            self._forecast(states, time, *refresh)

    def _forecast(self, states: Tensor, time: float, rows: Tensor, refreshed: Tensor) -> None:
        stale = require(self._anchor) - states
        forecast = stale if self._slope is None else torch.add(stale, self._slope, alpha=time - self._time)
        deep = forecast[-1] - forecast[1:]
        taken = forecast if self._shallow == "forecast" else stale
        shallow = taken[1:] - taken[0]
        shallow[:, :, rows] = refreshed[1:] - states[1:, :, rows]
        sums = self._sums
        sums["forecasts"] += 1
        sums["energy"] += _squares(states.diff(dim=0))
        sums["reuse"] += _squares(stale.diff(dim=0))
        sums["extrapolation"] += _squares(forecast.diff(dim=0))
        sums["deep energy"] += _squares((states[-1] - states[1:])[:-1])
        sums["deep reuse"] += _squares((stale[-1] - stale[1:])[:-1])
        sums["deep extrapolation"] += _squares(deep[:-1])
        sums["cached"] += _squares(shallow + deep)
        sums["whole energy"] += _squares((states[-1] - states[0])[None])

    @property
    def bytes(self) -> int:
        """Of what is held. A full step's states may be among the recent ones, and count twice."""
        return held_bytes(*self._recent, self._anchor, self._slope)


def _variance(layers: Tensor) -> Tensor:
    """Over everything but the first dimension."""
    return layers.flatten(1).var(1, correction=0)


def _squares(layers: Tensor) -> Tensor:
    """Sum over everything but the first dimension."""
    return layers.flatten(1).square().sum(1)


@dataclass(frozen=True)
class LayerAnalysis:
    """How the features of each block moved over one denoising run.

    Errors are relative root mean squares over the tokens looked at, the branches and the steps that would be
    cached; 0.1 is a tenth of what it is relative to. See :class:`LayerMotion`.

    Attributes:
        hero: the settings whose cached steps were tried.
        steps: denoising steps of the run.
        curvature: of each block, the variance of the second-order differences of what it adds, from step to
            step, over the variance of what it adds: 0 where features move in a straight line, 6 where they
            are independent from step to step.
        extrapolation, reuse: of each block, the error of extrapolating and of reusing what it adds.
        deep_extrapolation, deep_reuse: of tau = 1 to L - 1, the same of what all blocks behind tau add.
        cached: of tau = 1 to L, the error of a cached step behind the last block, relative to what all blocks
            add. Where the interval is above 2, every cached step is tried as the first after a full one to
            refresh tokens.
    """

    hero: HeroConfig
    steps: int
    curvature: tuple[float, ...]
    extrapolation: tuple[float, ...]
    reuse: tuple[float, ...]
    deep_extrapolation: tuple[float, ...]
    deep_reuse: tuple[float, ...]
    cached: tuple[float, ...]

    @classmethod
    def of(cls, sums: dict[str, Any], hero: HeroConfig, steps: int, warmup: int) -> LayerAnalysis:
        """From the sums of :class:`LayerMotion`.

        Raises:
            ConfigError: too few steps (field ``"steps"``), or a block that adds nothing or the same
                everywhere (field ``"transformer"``).
        """
        check_steps(steps, warmup)
        if not (sums["bends"] and sums["forecasts"]):
            raise ConfigError("steps", "no branch was called in enough steps in a row to forecast any")
        variance = sums["variance"] / sums["observed"]
        _check_blocks(
            (variance > 0) & (sums["energy"] > 0), "adds nothing, so that no error is relative to it"
        )

        def error(part: str, whole: str) -> tuple[float, ...]:
            return tuple((sums[part] / sums[whole]).sqrt().tolist())

        return cls(
            hero=hero,
            steps=steps,
            curvature=tuple((sums["bend"] / sums["bends"] / variance).tolist()),
            extrapolation=error("extrapolation", "energy"),
            reuse=error("reuse", "energy"),
            deep_extrapolation=error("deep extrapolation", "deep energy"),
            deep_reuse=error("deep reuse", "deep energy"),
            cached=error("cached", "whole energy"),
        )

    @property
    def blocks(self) -> int:
        return len(self.curvature)

    @property
    def tau(self) -> int:
        """The recommended number of shallow blocks: the smallest whose cached steps have the least error.

        Least to within ``TOLERANCE`` (1 %): cost grows with tau, so of taus that are about equal the smallest
        is best. Beyond that cost does not count: with r = 1/6, a cached step of Aether takes 0.05 of a full
        one at half of the blocks and 0.10 at all of them.
        """
        return next(
            tau for tau, error in enumerate(self.cached, 1) if error <= (1 + TOLERANCE) * min(self.cached)
        )

    def summary(self) -> str:
        """A few lines for a person."""
        half = max(1, round(self.blocks / 2))
        straight = sum(a <= b for a, b in zip(self.extrapolation, self.reuse, strict=True))
        least = self.curvature.index(min(self.curvature)) + 1
        most = self.curvature.index(max(self.curvature)) + 1
        rhythm = "with its mask" if self.hero.mask else f"at an interval of {self.hero.interval}"
        return (
            f"Recommended tau: {self.tau} of {self.blocks} blocks. A cached step is off by "
            f"{100 * self.cached[self.tau - 1]:.2f} % of what the blocks add (with half of them, {half}: "
            f"{100 * self.cached[half - 1]:.2f} %), {rhythm} in {self.steps} "
            f"steps.\nExtrapolation is at least as accurate as reuse in {straight} of {self.blocks} blocks. "
            f"Block {least} moves most evenly (curvature {min(self.curvature):.3g}), block {most} least "
            f"({max(self.curvature):.3g})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {"tau": self.tau, "blocks": self.blocks, **asdict(self), "summary": self.summary()}


def _check_blocks(good: Tensor, problem: str) -> None:
    if not good.all():
        first = int((~good).nonzero()[0]) + 1
        raise ConfigError(
            "transformer", f"block {first} of {len(good)} {problem}; use another model or dtype"
        )
