"""What the settings of every method have in common. No torch.

A method is two things: its settings, which know what it costs (here and in :mod:`hero_engine.hero.config` and
:mod:`hero_engine.baselines.config`), and what it does on a model. They meet in :mod:`hero_engine.methods`;
the session, the run and its report know no method by name.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from . import amounts
from .amounts import Amount
from .checks import integer
from .errors import ConfigError
from .flops import ModelShape, Work
from .schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self


@dataclass(frozen=True)
class Counts:
    """Settings in counts of one run.

    Attributes:
        warmup, cooldown: number of leading and of trailing full steps.
        planned_steps: number of denoising steps, None where it is not known.
    """

    warmup: int
    cooldown: int
    planned_steps: int | None


class MethodConfig(ABC):
    """Settings of one method: frozen dataclasses that validate themselves.

    Attributes:
        name: of the method, for people.
        interval: at least one full step in every `interval` steps after the warm-up.
        warmup: leading full steps: a count (4), or a share of the run's ("5%").
        cooldown: trailing full steps, as `warmup`, or 0.
        threshold: 0, or the bound that an adaptive method keeps; see its own settings.
        storage: where and how features are kept between steps: "model" (on the device, as they are), or what
            a method's own settings know.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    name: ClassVar[str]
    interval: int
    warmup: Amount
    cooldown: Amount = 0
    threshold: float = 0.0
    storage: str = "model"

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        """Refuse unknown settings with the same error as bad values."""
        cls.check_names(settings)
        return super().__new__(cls)

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of the settings, in the order of the dataclass."""
        return tuple(field.name for field in fields(cls) if field.init)

    @classmethod
    def check_names(cls, given: Iterable[str]) -> None:
        """
        Raises:
            ConfigError: a name that is no setting's.
        """
        known = cls.setting_names()
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
                raise ConfigError(str(name), f"{cls.name} has no such setting; {hint}")

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON; :meth:`from_dict` reads them back."""
        values = {name: getattr(self, name) for name in self.setting_names()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Settings as :meth:`to_dict` gives them; those that are left out have their defaults.

        Raises:
            ConfigError: an unknown name, a bad value, or no mapping at all (field ``"config"``).
        """
        if not isinstance(settings, Mapping):
            raise ConfigError("config", f"{type(settings).__name__} is no mapping of settings to values")
        cls.check_names(settings)
        return cls(**settings)

    def _set(self, **checked: Any) -> None:
        """Store checked values in the frozen instance."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def resolve(self, blocks: int, steps: int | None = None) -> Counts:
        """Turn shares into counts.

        Args:
            blocks: number of transformer blocks of the model.
            steps: number of denoising steps of the run; needed where a setting is a share of them.

        Raises:
            ConfigError: a setting does not fit the model, or ``steps`` is needed and missing.
        """
        if steps is not None:
            steps = integer("steps", steps, 1)
        elif self._why_steps:
            raise ConfigError("steps", f"needed because {self._why_steps}; give the number of steps")
        # Without a number of steps neither is a share.
        warmup, cooldown = (amounts.count(amount, steps or 0) for amount in (self.warmup, self.cooldown))
        return Counts(warmup, cooldown, steps)

    @property
    def _why_steps(self) -> str:
        """Why the number of steps must be known; empty where it need not."""
        if isinstance(self.warmup, str):
            return "warmup is a share of them"
        return "cooldown counts from the last" if self.cooldown else ""

    @property
    def by_steps(self) -> str:
        """What was counted by the planned number of steps, to be followed by "of 50"; empty for nothing."""
        return "warm-up and cool-down are those" if self._why_steps else ""

    @property
    def needs_noise(self) -> bool:
        """Whether the method needs the noise schedule of the sampling."""
        return False

    def schedule(self, counts: Counts) -> Schedule:
        """Which steps are full, from the first of a pass on."""
        return Schedule(self.interval, counts.warmup, self.threshold, self._end(counts))

    def _end(self, counts: Counts) -> float:
        """The first step of the cool-down; infinite for none."""
        if not counts.cooldown or counts.planned_steps is None:
            return math.inf
        return counts.planned_steps - counts.cooldown

    def check(self, shape: ModelShape) -> None:  # noqa: B027 (most settings fit every shape)
        """Raise a ConfigError where the settings do not fit the model's shape."""

    # `counts` below is what `resolve` gave, of a method's own class.

    @abstractmethod
    def work(self, shape: ModelShape, counts: Any, age: int) -> Work:
        """What one cached forward computes at batch 1, `age` steps after the last full one."""

    @abstractmethod
    def cached_numbers(self, shape: ModelShape, counts: Any) -> int:
        """How many numbers are cached at batch 1, at most."""

    def cached_bytes(self, shape: ModelShape, counts: Any, element_bytes: int) -> int:
        """Bytes of what is cached at batch 1, at most, with `element_bytes` to a number of the model."""
        return self.cached_numbers(shape, counts) * element_bytes

    @abstractmethod
    def computed(self, shape: ModelShape, counts: Any) -> str:
        """Where tokens are computed on a cached step, to end "... of the tokens were computed in ..."."""
