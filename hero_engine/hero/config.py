"""HERO's settings: validated on construction, resolved against a model and a number of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from .. import amounts
from ..amounts import Amount, amount
from ..checks import choice, integer, integers, real
from ..errors import ConfigError
from ..flops import ModelShape, Work, attention_flops, linear_flops
from ..optional import require
from ..schedule import MaskSchedule, Schedule
from ..setting_text import from_text, to_text
from ..settings import Counts, MethodConfig
from ..step_mask import StepMask

Text = Literal["refresh", "omit"]
Shallow = Literal["reuse", "forecast"]
Trend = Literal["linear", "damped"]
Storage = Literal["model", "float8", "host"]
TEXTS: tuple[Text, ...] = get_args(Text)
SHALLOWS: tuple[Shallow, ...] = get_args(Shallow)
TRENDS: tuple[Trend, ...] = get_args(Trend)
STORAGES: tuple[Storage, ...] = get_args(Storage)


def _patch(value: Any) -> tuple[int, int, int]:
    what = "three whole numbers (frames, rows, columns) of tokens"
    frames, rows, columns = integers("patch", value, what, 1, 64, count=3)
    return frames, rows, columns


def _mask(value: Any) -> str:
    """A mask in its one form; empty where there is none."""
    if isinstance(value, str) and not value.strip():
        return ""
    return str(StepMask.read(value))


@dataclass(frozen=True)
class ResolvedConfig(Counts):
    """A :class:`HeroConfig` in counts of one model and one run.

    Attributes:
        tau: number of shallow blocks that are refreshed on a cached step.
        tokens_per_patch: tokens refreshed in each patch of ``patch`` tokens.
    """

    tau: int
    tokens_per_patch: int


@dataclass(frozen=True)
class HeroConfig(MethodConfig):
    """Settings of one HERO run (arXiv 2508.17588). Immutable; vary it with ``dataclasses.replace``.

    Args:
        tau: shallow blocks that run on cached steps, the paper's threshold layer: a count (21), or a share of
            the model's blocks as text ("50%", "1/2"). Higher is slower, and not always more
            accurate (docs/comparison.md).
        interval: N, a full step at least every N steps after the warm-up. 1 makes every step full.
        ratio: r in (0, 1], share of each patch of tokens that is recomputed on cached steps, rounded to whole
            tokens. Higher is slower, and not always more accurate, least so with ``text="omit"``, whose
            tokens every token attends to on full steps.
        threshold: drift since the last full step that calls for another one, 0 for the fixed interval. Above
            0, cached steps go on only while the accumulated drift (relative change of the residuals, see
            :class:`~hero_engine.schedule.Schedule`) stays below it; the interval remains the upper bound.
            n times the drift plus forecast error of a step, which the report shows, allows about n cached
            steps in a row. Lower is slower and more accurate.
        patch: frames, rows and columns of tokens of which ``ratio`` are sampled.
        warmup: leading full steps: a count (4), or a share of the run's steps ("5%").
        cooldown: trailing full steps, a count or a share as ``warmup``; 0 as published. The last steps decide
            most of a run's error: a tenth of the steps here, in place of a longer warm-up, has a several
            times lower error at the same speed (docs/comparison.md).
        seed: of the token sampling, 0 to 2**63 - 1. The global random state is never used.
        text: whether the text tokens run along on cached steps. ``"refresh"`` runs them through the shallow
            blocks with the selected video tokens. ``"omit"`` leaves them out, which is what the paper's FLOPs
            count. Models that read the prompt by cross-attention have no such tokens; those whose blocks
            cannot run without them always refresh them (docs/models.md).
        storage: how features wait between steps. ``"model"``: on the device, in the model's dtype.
            ``"float8"``: there in half the memory (of bfloat16), numbers rounded to three bits of mantissa,
            with one scale per token. ``"host"``: exact, in the computer's own memory, and on the device only
            while a step reads them.
        shallow: shallow-layer values for tokens that are not recomputed. ``"reuse"``: the last ones, as in
            the paper. ``"forecast"``: extrapolated, as the deep residual is; far more accurate with
            deterministic samplers, and holds one more hidden state.
        trend: how residuals are extrapolated. ``"linear"``: by their latest slope, as in the paper.
            ``"damped"``: by the share of it that goes on, which every full step measures. Lower errors for
            long gaps between full steps, and in short runs (docs/comparison.md). Costs nothing.
        feedback: how strongly the next full step corrects the error of the cached ones, 0 to 1. 0 as
            published. Costs next to nothing, and lowers the error of long intervals several times
            (docs/comparison.md). Needs the noise schedule of a pipeline or scheduler, and works best where
            the weights of the branches are known (:meth:`~hero_engine.HeroRun.branch`).
        mask: which steps are full, one by one: 1 for a full step and 0 for a cached one ("1110100"). It is
            kept with its counts ("4 of 7: 1110100"), which are checked where they are given. Empty: interval,
            warm-up and cool-down decide. Otherwise the mask decides, and those three are not used; a
            threshold above 0 still makes more steps full. In a run of another number of steps every part has
            the same share of full steps (:meth:`~hero_engine.step_mask.StepMask.scaled`).

    Raises:
        ConfigError: a field has the wrong type, is NaN, infinite or out of range; names the field.
    """

    name: ClassVar[str] = "HERO"

    tau: Amount = "50%"
    interval: int = 2
    ratio: float = 1 / 6
    threshold: float = 0.0
    patch: tuple[int, int, int] = (1, 2, 3)
    warmup: Amount = 4
    cooldown: Amount = 0
    seed: int = 0
    text: Text = "refresh"
    storage: Storage = "model"
    shallow: Shallow = "reuse"
    feedback: float = 0.0
    mask: str = ""
    trend: Trend = "linear"

    def __post_init__(self) -> None:
        self._set(
            tau=amount("tau", self.tau, "blocks"),
            interval=integer("interval", self.interval, 1, 1000),
            ratio=real("ratio", self.ratio, 0.0, 1.0, open_low=True),
            threshold=real("threshold", self.threshold, 0.0, 1e6),
            patch=_patch(self.patch),
            warmup=amount("warmup", self.warmup, "steps"),
            cooldown=amount("cooldown", self.cooldown, "steps", low=0),
            seed=integer("seed", self.seed, 0, 2**63 - 1),
            text=choice("text", self.text, TEXTS),
            storage=choice("storage", self.storage, STORAGES),
            shallow=choice("shallow", self.shallow, SHALLOWS),
            trend=choice("trend", self.trend, TRENDS),
            feedback=real("feedback", self.feedback, 0.0, 1.0),
            mask=_mask(self.mask),
        )
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
        return replace(PRESETS[name], **overrides)

    @classmethod
    def from_text(cls, text: str) -> HeroConfig:
        """Settings from a line of text, see :func:`hero_engine.setting_text.from_text`.

        Raises:
            ConfigError: see there (field ``"setting"``).
        """
        return from_text(cls, text)

    def to_text(self) -> str:
        """The settings that are not ``HeroConfig()``'s, in a line of text that :meth:`from_text` reads
        exactly: ``tau=25% text=omit mask="5 of 8: 11101001"``; ``HERO`` where there is none."""
        return to_text(self)

    def resolve(self, blocks: int, steps: int | None = None) -> ResolvedConfig:
        """Turn shares into counts.

        Args:
            blocks: number of transformer blocks of the model.
            steps: number of denoising steps of the run; needed where ``warmup`` is a share, and for a
                cool-down or a mask. With a mask, warm-up and cool-down are its full steps at the ends.

        Raises:
            ConfigError: ``tau`` exceeds the blocks, or ``steps`` is needed and missing.
        """
        if isinstance(self.tau, int) and self.tau > blocks:
            raise ConfigError(
                "tau", f"{self.tau} is more than the model's {blocks} blocks; use 1 to {blocks}"
            )
        counts = super().resolve(blocks, steps)
        if self.mask:
            mask = self._scaled_mask(counts)
            counts = replace(counts, warmup=mask.leading, cooldown=mask.trailing)
        return ResolvedConfig(
            **vars(counts),
            tau=amounts.count(self.tau, blocks),
            tokens_per_patch=self._tokens_per_patch(),
        )

    @property
    def _why_steps(self) -> str:
        return "mask is scaled to them" if self.mask else super()._why_steps

    @property
    def by_steps(self) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return "the mask is that" if self.mask else super().by_steps

    @property
    def reuses(self) -> bool:
        """Whether any step may be cached."""
        return "0" in self.mask.partition(":")[2] if self.mask else self.interval > 1

    def _scaled_mask(self, counts: Counts) -> StepMask:
        return StepMask.read(self.mask).scaled(require(counts.planned_steps))

    def schedule(self, counts: Counts) -> Schedule:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        if not self.mask:
            return super().schedule(counts)
        return MaskSchedule(self._scaled_mask(counts), self.threshold)

    def _longest_stretch(self, counts: Counts) -> int:
        """Most steps from a full one to the last cached one after it."""
        return 1 + self._scaled_mask(counts).longest_cached if self.mask else self.interval

    @property
    def needs_noise(self) -> bool:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return self.feedback > 0

    def check(self, shape: ModelShape) -> None:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        if any(p > g for p, g in zip(self.patch, shape.grid, strict=True)):
            raise ConfigError("patch", f"{self.patch} is larger than the token grid {shape.grid}")

    def _refreshed_tokens(self, shape: ModelShape, counts: ResolvedConfig) -> tuple[int, int]:
        """Video and text tokens that run through the shallow blocks on a cached step."""

        def sides(length: int, patch: int) -> list[int]:
            return [min(patch, length - start) for start in range(0, length, patch)]

        frames, rows, columns = (sides(g, p) for g, p in zip(shape.grid, self.patch, strict=True))
        video = sum(min(counts.tokens_per_patch, a * b * c) for a in frames for b in rows for c in columns)
        with_text = self.text == "refresh" or shape.keeps_text
        return video + sum(shape.extra), shape.text_tokens if with_text else 0

    def work(self, shape: ModelShape, counts: ResolvedConfig, age: int) -> Work:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        video, text = self._refreshed_tokens(shape, counts)
        linear = linear_flops(shape, counts.tau, video, text, selected=True)
        return Work(linear, attention_flops(shape, counts.tau, video + text))

    def cached_numbers(self, shape: ModelShape, counts: ResolvedConfig) -> int:
        """The residuals: three hidden states (shallow residual, deep residual, its slope), one more where the
        shallow one is forecast; no deep ones where every block is shallow."""
        shallow = 2 if self.shallow == "forecast" else 1
        deep = 2 if counts.tau < shape.blocks else 0
        return (shallow + deep) * shape.video_tokens * shape.width

    def cached_bytes(self, shape: ModelShape, counts: ResolvedConfig, element_bytes: int) -> int:
        """See :class:`~hero_engine.settings.MethodConfig`; in float8, every token has a scale. Feedback keeps
        a clean latent of each step of an interval, or of the mask's longest, in float32."""
        element_bytes = shape.stream_bytes or element_bytes
        latents = self._longest_stretch(counts) if self.feedback else 0
        clean = 4 * latents * shape.grid_tokens * shape.token_numbers
        if self.storage != "float8":
            return super().cached_bytes(shape, counts, element_bytes) + clean
        tokens = self.cached_numbers(shape, counts) // shape.width
        return tokens * (shape.width + element_bytes) + clean

    def computed(self, shape: ModelShape, counts: ResolvedConfig) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the shallow {counts.tau} of {shape.blocks} blocks"


_OWN = HeroConfig(tau="25%", warmup="5%", cooldown="10%", shallow="forecast", text="omit", feedback=1.0)

PRESETS: dict[str, HeroConfig] = {
    # These two reproduce the step counts and FLOPs of the paper's tables (see cost.py).
    "paper": HeroConfig(text="omit"),
    "paper-fast": HeroConfig(interval=3, warmup="20%", text="omit"),
    # Chosen by trials on the miniature (docs/comparison.md).
    "quality": replace(_OWN, warmup="8%", cooldown="20%"),
    "balanced": _OWN,
    "fast": replace(_OWN, interval=4, warmup="6%", trend="damped"),
}
