"""What takes part in a comparison: a method and its settings."""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aether.errors import InputError, reading
from aether.model.parts import AetherModel
from hero_engine import METHODS, PRESETS, ConfigError, HeroConfig, MethodConfig, hero_session
from hero_engine.cost import ModelShape, predict

from ..models import SAMPLERS
from .packages import PACKAGES, Occasion

HERO = "HERO"
FEWER_STEPS = "fewer-steps"
"""The unaccelerated model with fewer steps: one setting, "speed", from 1 up."""
TARGETS = (1.5, 1.75, 2.0, 2.5)
"""Speed-ups by FLOPs at which the methods are compared."""
TOLERANCE = 0.98
"""A setting reaches a target from this share of it on: steps are whole numbers."""
INTERVALS = (2, 3, 4, 5, 6)
WARMUPS = tuple(range(45, 0, -1))
"""Leading full steps, most first."""
SHORT_WARMUP = 2
"""Where a cool-down is fitted."""
COOLDOWNS = tuple(f"{percent}%" for percent in range(90, 3, -1))
"""Shares of the steps, most first."""
ALWAYS = 1e6
"""A threshold that is never reached: the interval alone decides."""


def known_methods() -> list[str]:
    """The names of all methods that can take part."""
    return [*METHODS, *PACKAGES, FEWER_STEPS]


@dataclass(frozen=True)
class Contender:
    """One method with one choice of settings, ready for JSON.

    Attributes:
        method: one of :func:`known_methods`.
        settings: the fields of the method's settings that differ from its defaults.
    """

    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in known_methods():
            known = ", ".join(known_methods())
            raise InputError("settings", f"{self.method!r} is not a method; it must be one of {known}")
        if not isinstance(self.settings, dict):
            raise InputError("settings", f"those of {self.method} must be an object of names and values")
        if self.method == FEWER_STEPS:
            _check_speed(self.settings)

    @property
    def label(self) -> str:
        """The method, for people. The orders of TaylorSeer are methods of their own."""
        if self.method == FEWER_STEPS:
            return "fewer steps"
        if self.method in PACKAGES:
            return PACKAGES[self.method].label
        order = f" {self.settings.get('order', 1)}" if self.method == "taylorseer" else ""
        return METHODS[self.method].name + order

    @property
    def title(self) -> str:
        """The settings, for people."""
        return ", ".join(f"{name} {_shown(value)}" for name, value in self.settings.items()) or "defaults"

    @property
    def key(self) -> str:
        """The same text for the same contender."""
        return json.dumps([self.method, self.settings], sort_keys=True)

    def config(self) -> MethodConfig | None:
        """The settings of one of the engine's methods; None for another package's and for fewer steps.

        Raises:
            InputError: the method has no such setting, or not with this value.
        """
        if self.method not in METHODS:
            return None
        try:
            return METHODS[self.method](**self.settings)
        except (ConfigError, TypeError) as error:
            raise InputError("settings", f"{self.label}: {error}") from error

    def session(self, transformer: Any, occasion: Occasion) -> AbstractContextManager[Any]:
        """The method on a transformer. Gives the run of the engine's methods, whose report has more."""
        if self.method == FEWER_STEPS:
            return nullcontext()
        if self.method in PACKAGES:
            return PACKAGES[self.method].session(transformer, self.settings, occasion)
        return hero_session(transformer, self.config(), occasion.steps, occasion.scheduler)

    def steps(self, full: int) -> int:
        """How many steps it samples with, at least 1, where the unaccelerated run has ``full``.

        Fewer steps: ``full / speed`` rounded up, or down where that many do not reach the speed.
        """
        if self.method != FEWER_STEPS:
            return full
        speed = self.settings["speed"]
        fewer = math.ceil(full / speed)
        return fewer if reaches(full / fewer, speed) else max(1, fewer - 1)


def _check_speed(settings: dict[str, Any]) -> None:
    speed = settings.get("speed")
    if set(settings) != {"speed"} or not isinstance(speed, (int, float)) or not 1 <= speed < math.inf:
        raise InputError(
            "settings", f"those of {FEWER_STEPS} must be a speed from 1 on and nothing else; got {settings}"
        )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fora", {}),
    ("fora", {"warmup": SHORT_WARMUP}),
    ("taylorseer", {"order": 1}),
    ("taylorseer", {"order": 1, "warmup": SHORT_WARMUP}),
    ("taylorseer", {"order": 2}),
    ("taylorseer", {"order": 2, "warmup": SHORT_WARMUP}),
    ("toca", {"ratio": 0.1}),
    ("duca", {"ratio": 0.1}),
    ("worldcache", {"threshold": ALWAYS}),
)
"""The engine's other methods and what is set in them besides interval, warm-up and cool-down."""

BEST = {"tau": "25%", "shallow": "forecast", "text": "omit"}
"""HERO's settings with the lowest error in trials with a cool-down."""
SPARSE = {**BEST, "tau": "10%", "patch": (1, 8, 12), "ratio": 0.01}
"""As little refreshing as can be: one token in 96, of the first tenth of the blocks."""
HERO_FAMILIES: tuple[dict[str, Any], ...] = (
    {"text": "omit"},
    BEST,
    {**BEST, "warmup": SHORT_WARMUP},
    *(
        {**family, "feedback": feedback, "warmup": SHORT_WARMUP}
        for family in (BEST, SPARSE)
        for feedback in (1.0, 0.5)
    ),
)
"""HERO as in the paper, the best without a cool-down, with one, and with error feedback, all or half."""

LADDERS: dict[str, tuple[dict[str, Any], ...]] = {
    "hero": tuple(
        {**BEST, "interval": 6, "warmup": SHORT_WARMUP, "cooldown": "10%", "threshold": threshold}
        for threshold in (0.05, 0.1, 0.2, 0.4)
    ),
    "worldcache": tuple(
        {"interval": interval, "warmup": "20%", "threshold": threshold}
        for interval in (3, 5)
        for threshold in (0.05, 0.2, 0.8)
    ),
}
"""Settings of the engine's adaptive methods: how fast they are shows when they run."""

HERO_OPTIONS: dict[str, tuple[Any, ...]] = {
    "shallow": ("reuse", "forecast"),
    "text": ("omit", "refresh"),
    "tau": ("10%", "25%", "50%", "75%"),
    "ratio": (1 / 6, 1 / 3),
    "feedback": (0.0, 0.5, 1.0),
    "warmup": (None, SHORT_WARMUP),
}
"""What the search tries of HERO's settings, besides interval and threshold. None: see :func:`fitted`."""


def fitted(
    method: str, settings: dict[str, Any], target: float, shape: ModelShape, steps: Sequence[int]
) -> Iterator[list[Contender]]:
    """A method's fixed schedules that reach a target by as little as they can: for each interval a list.

    Those reach it with which the mean share of the FLOPs over runs of ``steps`` steps is at most 1 / target.
    Where the settings have a warm-up, the longest cool-down that reaches it is fitted to them. Else the
    longest warm-up, and the next shorter ones, as many as the interval has steps: at about the same speed
    they differ in whether the last step is full, which can change the error by half.
    """
    # Other packages may count their steps a little otherwise: they get the tolerance as a margin.
    enough = target if method in PACKAGES else target * TOLERANCE
    for interval in INTERVALS:
        schedules = _schedules(method, {**settings, "interval": interval}, shape)
        # A longer warm-up or cool-down is never faster.
        longest = bisect.bisect_left(
            schedules, True, key=lambda one: predicted_speedup(one, shape, steps) >= enough
        )
        phases = 1 if "warmup" in settings else interval
        if found := schedules[longest : longest + phases]:
            yield found


def fastest(
    method: str, settings: dict[str, Any], shape: ModelShape, steps: Sequence[int]
) -> list[Contender]:
    """A method's fastest fixed schedule, which may reach no target; none where no schedule is valid."""
    shortest: list[Contender] = []
    for interval in INTERVALS:
        shortest += _schedules(method, {**settings, "interval": interval}, shape)[-1:]
    return [max(shortest, key=lambda one: predicted_speedup(one, shape, steps))] if shortest else []


def _schedules(method: str, settings: dict[str, Any], shape: ModelShape) -> list[Contender]:
    """The valid ones by falling cool-down, or by falling warm-up where the settings have none."""
    name, amounts = ("cooldown", COOLDOWNS) if "warmup" in settings else ("warmup", WARMUPS)
    named = (Contender(method, {**settings, name: amount}) for amount in amounts)
    return [one for one in named if _is_valid(one, shape)]


def _is_valid(contender: Contender, shape: ModelShape) -> bool:
    try:
        config = contender.config()
        if config is not None:
            config.check(shape)
    except (InputError, ConfigError):
        return False
    return True


def predicted_speedup(contender: Contender, shape: ModelShape, steps: Sequence[int]) -> float:
    """By FLOPs, before anything runs, at equal weight of runs of each number of steps."""
    if (config := contender.config()) is not None:
        shares = [run.flops / run.unaccelerated_flops for run in (predict(config, shape, n) for n in steps)]
    elif contender.method == FEWER_STEPS:
        shares = [contender.steps(n) / n for n in steps]
    else:
        shares = [PACKAGES[contender.method].share(contender.settings, shape, n) for n in steps]
    return len(shares) / sum(shares)


def shape_of(model: AetherModel) -> ModelShape:
    """The transformer's dimensions at the model's own size."""
    from hero_engine.models.families import adapter_for

    spec = model.spec
    frames, text_tokens = spec.latent_frames(spec.default_frames), model.prompt_embeds.shape[1]
    latent = (1, frames, spec.in_channels, *spec.cells(*spec.default_size))
    return adapter_for(model.transformer).shape(latent, text_tokens)


def default_contenders(
    shape: ModelShape, steps: Sequence[int], targets: Sequence[float] = TARGETS
) -> list[Contender]:
    """A selection that needs no search: HERO's presets, and of every method for every target the smallest
    interval that reaches it with as many warm-ups, or the two smallest ones with a cool-down; of HERO with
    error feedback, whose errors grow little with the interval, the three smallest."""
    usual, found = vars(HeroConfig()), []
    for preset in PRESETS.values():
        changed = {name: value for name, value in vars(preset).items() if value != usual[name]}
        found.append(Contender("hero", {"interval": preset.interval, "warmup": preset.warmup, **changed}))
    families = [*(("hero", settings) for settings in HERO_FAMILIES), *FAMILIES]
    families += [(method, package.fixed) for method, package in PACKAGES.items() if package.fixed]
    for method, settings in families:
        tried = 3 if "feedback" in settings else 2 if "warmup" in settings else 1
        fast = [list(fitted(method, settings, target, shape, steps))[:tried] for target in targets]
        reached = [*itertools.chain(*itertools.chain(*fast))]
        found += reached or fastest(method, settings, shape, steps)
    for method, package in PACKAGES.items():
        if not package.fixed:
            found += [Contender(method, settings) for settings in package.ladder[::3]]
    return unique(found)


def fewer_steps(targets: Sequence[float]) -> list[Contender]:
    """One for each target: there is nothing in them to choose."""
    return [Contender(FEWER_STEPS, {"speed": target}) for target in targets]


def unique(contenders: Sequence[Contender]) -> list[Contender]:
    """Without repetitions, in their order."""
    return list({contender.key: contender for contender in contenders}.values())


def read_settings(path: str | Path) -> dict[str, list[Contender]]:
    """The contenders of each sampler, from a file that the search wrote.

    Raises:
        InputError: field "settings".
    """
    with reading("settings", f"{path} is not a file of settings as the search writes it"):
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {
            sampler: [Contender(entry["method"], entry["settings"]) for entry in document[sampler]]
            for sampler in SAMPLERS
            if sampler in document
        }
        for contender in itertools.chain(*found.values()):
            contender.config()
    return found


def reaches(speedup: float, target: float) -> bool:
    """Whether a speed-up counts for a target."""
    return math.isfinite(speedup) and speedup >= target * TOLERANCE
