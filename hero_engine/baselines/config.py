"""Settings and costs of the methods that HERO is compared with (sources: docs/methods.md). No torch.

FORA, TaylorSeer, ToCa and DuCa cache what the attention and the feed-forward of every block give, before the
gates, which are computed anew on every step. WorldCache predicts the model's output.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from ..amounts import Amount, amount
from ..checks import choice, integer, integers, real
from ..errors import ConfigError
from ..flops import ModelShape, Work, feed_forward_flops, linear_flops
from ..optional import require
from ..schedule import ErrorSchedule, Schedule, TaperedSchedule
from ..settings import Counts, MethodConfig

Score = Literal["value", "key", "random"]
First = Literal["toca", "aggressive"]
SCORES: tuple[Score, ...] = get_args(Score)
FIRSTS: tuple[First, ...] = get_args(First)


class ModulesConfig(MethodConfig):
    """Settings of a method that forecasts the output of every attention and feed-forward.

    Attributes:
        order: of the Taylor series; 0 reuses the outputs.
    """

    order: int

    def work(self, shape: ModelShape, counts: Counts, age: int) -> Work:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return Work(linear_flops(shape, shape.blocks, 0))

    def cached_numbers(self, shape: ModelShape, counts: Counts) -> int:
        """Two outputs of each block and, of each, its finite differences."""
        return (self.order + 1) * 2 * shape.blocks * shape.tokens * shape.width

    def computed(self, shape: ModelShape, counts: Counts) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the {shape.blocks} blocks"


@dataclass(frozen=True)
class ForaConfig(ModulesConfig):
    """Settings of FORA (arXiv 2407.01425): between full steps, every output is reused.

    Args:
        interval: N, one full step in every N after the warm-up. 1 makes every step full.
        warmup: leading full steps: a count, or a share of the run's ("20%"). FORA itself has 1; the HERO
            paper compares with 4.
        cooldown: trailing full steps, as warmup; 0 as published.

    Raises:
        ConfigError: a field has the wrong type, is NaN or out of range; names the field.
    """

    name: ClassVar[str] = "FORA"
    order = 0  # not a setting

    interval: int = 2
    warmup: Amount = 4
    cooldown: Amount = 0

    def __post_init__(self) -> None:
        self._set(
            interval=integer("interval", self.interval, 1, 1000),
            warmup=amount("warmup", self.warmup, "steps"),
            cooldown=amount("cooldown", self.cooldown, "steps", low=0),
        )


@dataclass(frozen=True)
class TaylorSeerConfig(ModulesConfig):
    """Settings of TaylorSeer (arXiv 2503.06923): between full steps, every output is a Taylor series in the
    number of steps, its derivatives taken from finite differences between full steps.

    Args:
        interval, warmup, cooldown: as in :class:`ForaConfig`.
        order: of the series, 1 to 4. Each order holds as many features again.

    Raises:
        ConfigError: a field has the wrong type, is NaN or out of range; names the field.
    """

    name: ClassVar[str] = "TaylorSeer"

    interval: int = 2
    warmup: Amount = 4
    cooldown: Amount = 0
    order: int = 1

    def __post_init__(self) -> None:
        self._set(
            interval=integer("interval", self.interval, 1, 1000),
            warmup=amount("warmup", self.warmup, "steps"),
            cooldown=amount("cooldown", self.cooldown, "steps", low=0),
            order=integer("order", self.order, 1, 4),
        )


@dataclass(frozen=True)
class TocaConfig(MethodConfig):
    """Settings of ToCa (arXiv 2410.05317): between full steps, attention outputs are reused and the
    feed-forward runs for the tokens that score highest, video and text apart.

    Args:
        interval, warmup, cooldown: as in :class:`ForaConfig`.
        ratio: share of the tokens computed by the feed-forwards on cached steps, (0, 1]. More is more
            accurate and slower.
        score: what makes a token worth computing: ``"value"``: a small norm of its values, ``"key"``: a large
            norm of its keys (each at the last full step), or ``"random"``.
        staleness: weight of the number of cached steps since a token was computed, over N.
        bonus: share of its score that the best token of each 2 x 2 tokens of a frame gets on top; 0 to 10.
        taper: how much N shrinks over the run, 0 (not at all) to below 1: a full step at share p is followed
            by one after round(N / (1 - taper + 2 taper p)) steps. ToCa's image version has 0.4.
        seed: of the random score (0 to 2**63 - 1). The global random state is never used.

    Raises:
        ConfigError: a field has the wrong type, is NaN or out of range; names the field.
    """

    name: ClassVar[str] = "ToCa"

    interval: int = 2
    warmup: Amount = 4
    cooldown: Amount = 0
    ratio: float = 0.1
    score: Score = "value"
    staleness: float = 0.25
    bonus: float = 0.6
    taper: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._set(
            interval=integer("interval", self.interval, 1, 1000),
            warmup=amount("warmup", self.warmup, "steps"),
            cooldown=amount("cooldown", self.cooldown, "steps", low=0),
            ratio=real("ratio", self.ratio, 0.0, 1.0, open_low=True),
            score=choice("score", self.score, SCORES),
            staleness=real("staleness", self.staleness, 0.0, 1e6),
            bonus=real("bonus", self.bonus, 0.0, 10.0),
            taper=real("taper", self.taper, 0.0, 0.99),
            seed=integer("seed", self.seed, 0, 2**63 - 1),
        )

    def fresh(self, tokens: int) -> int:
        """How many of `tokens` tokens are computed on a cached step."""
        return int(self.ratio * tokens)

    def resolve(self, blocks: int, steps: int | None = None) -> Counts:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        if steps is None and self.taper > 0:
            raise ConfigError("steps", "needed because taper counts on them; give the number of steps")
        return super().resolve(blocks, steps)

    def schedule(self, counts: Counts) -> Schedule:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        if self.taper == 0:
            return super().schedule(counts)
        return TaperedSchedule(
            self.interval, counts.warmup, self.taper, require(counts.planned_steps), self._end(counts)
        )

    def work(self, shape: ModelShape, counts: Counts, age: int) -> Work:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        tokens = self.fresh(shape.video_tokens) + self.fresh(shape.text_tokens)
        modulation = linear_flops(shape, shape.blocks, 0)
        return Work(modulation + feed_forward_flops(shape, shape.blocks, tokens))

    def cached_numbers(self, shape: ModelShape, counts: Counts) -> int:
        """Two outputs of each block."""
        return 2 * shape.blocks * shape.tokens * shape.width

    def computed(self, shape: ModelShape, counts: Counts) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the feed-forwards of {shape.blocks} blocks"


@dataclass(frozen=True)
class DucaConfig(TocaConfig):
    """Settings of DuCa (arXiv 2412.18911): of the cached steps between two full ones, every other is one of
    ToCa's, and every other skips all blocks and reuses what came out of the last one.

    Args:
        first: which kind comes first after a full step: ``"toca"``, as in its code, or ``"aggressive"``, as
            in its paper's second version. With an interval of 2 there is no other.

    Other args, raises: as :class:`TocaConfig`.
    """

    name: ClassVar[str] = "DuCa"

    interval: int = 3
    first: First = "toca"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(first=choice("first", self.first, FIRSTS))

    def aggressive(self, age: int) -> bool:
        """Whether the cached step `age` steps after a full one skips all blocks."""
        return (age % 2 == 0) == (self.first == "toca")

    def work(self, shape: ModelShape, counts: Counts, age: int) -> Work:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return Work(linear_flops(shape, 0, 0)) if self.aggressive(age) else super().work(shape, counts, age)

    def cached_numbers(self, shape: ModelShape, counts: Counts) -> int:
        """ToCa's, and the video tokens behind the last block."""
        return super().cached_numbers(shape, counts) + shape.video_tokens * shape.width


@dataclass(frozen=True)
class WorldCacheConfig(MethodConfig):
    """Settings of WorldCache (arXiv 2603.06331): between full steps, the model's output is predicted per
    latent position and stream, by how much its path over the last three full steps was bent.

    Args:
        interval: at least one full step in every `interval` steps after the warm-up; its n_max plus 1.
        warmup: leading full steps, at least 3: a count, or a share of the run's ("20%").
        threshold: cached steps go on while the error that they were estimated to make, accumulated since the
            last full step, stays below it; above 0. Smaller is more accurate and slower.
        stable: share of the positions, the least bent, whose output is reused.
        chaotic: share, the most bent, whose slope is damped; those between are extrapolated linearly.
        streams: channels of each stream of the output: Aether's are RGB, disparity and raymap.

    Raises:
        ConfigError: a field has the wrong type, is NaN or out of range; names the field.
    """

    name: ClassVar[str] = "WorldCache"
    interval: int = 3
    warmup: Amount = 10
    cooldown: int = field(default=1, init=False)
    threshold: float = 0.2
    stable: float = 0.3
    chaotic: float = 0.4
    streams: tuple[int, ...] = (16, 16, 24)

    def __post_init__(self) -> None:
        self._set(
            interval=integer("interval", self.interval, 1, 1000),
            warmup=amount("warmup", self.warmup, "steps"),
            threshold=real("threshold", self.threshold, 0.0, 1e6, open_low=True),
            stable=real("stable", self.stable, 0.0, 1.0),
            chaotic=real("chaotic", self.chaotic, 0.0, 1.0),
            streams=integers("streams", self.streams, "the number of channels of each stream", 1, 100_000),
        )
        if isinstance(self.warmup, int) and self.warmup < 3:
            raise ConfigError(
                "warmup", f"{self.warmup} is too few: how a path is bent shows after 3 full steps"
            )
        if self.stable + self.chaotic > 1:
            raise ConfigError("chaotic", f"{self.chaotic:g} and stable {self.stable:g} are more than all")

    def resolve(self, blocks: int, steps: int | None = None) -> Counts:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        counts = super().resolve(blocks, steps)
        return replace(counts, warmup=max(3, counts.warmup))

    def schedule(self, counts: Counts) -> Schedule:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return ErrorSchedule(self.interval, counts.warmup, self.threshold, self._end(counts))

    def work(self, shape: ModelShape, counts: Counts, age: int) -> Work:
        """Nothing of the model runs."""
        return Work(0.0)

    def cached_numbers(self, shape: ModelShape, counts: Counts) -> int:
        """The last output and its last two slopes."""
        return 3 * shape.grid_tokens * shape.token_numbers

    def computed(self, shape: ModelShape, counts: Counts) -> str:
        """See :class:`~hero_engine.settings.MethodConfig`."""
        return f"the {shape.blocks} blocks"
