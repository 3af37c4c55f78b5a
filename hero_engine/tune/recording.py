"""What was recorded of an unaccelerated run, and the error that it predicts for a setting."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..flops import BlockShape, ModelShape
from ..hero.config import HeroConfig
from .files import new_file
from .propagation import propagated
from .sampled_steps import Steps
from .tables import Tables

FORMAT = 1
_OPENNESS = (0.0, 0.1, 0.3)
_FEWEST_TO_OPEN = 4
_DOUBT = 0.2
"""By how much better a larger openness must fit, as a share. Found by trials, as the three before."""


@dataclass(frozen=True)
class Recording:
    """One unaccelerated run, as far as predictions need it. A few megabytes.

    Attributes:
        model: name of the transformer's class.
        shape: of its calls.
        hero: whose refresh was tried.
        sampling: of the run; None where the noise is not known, the part of the model behind its blocks does
            not treat tokens one by one, or what was tried gave NaN. Then nothing is predicted.
        tables: what cached steps would be off by.
        about: what else is to be known of it, as text by name.
        openness: of the clip, see :class:`~hero_engine.tune.response.Response`, from runs that were made.
        scale: factor on what is predicted, from runs that were made.
        spread: factor by which a prediction is off on average; None before there are runs to compare.
    """

    model: str
    shape: ModelShape
    hero: HeroConfig
    sampling: Steps | None
    tables: Tables
    about: dict[str, str] = field(default_factory=dict)
    openness: float = 0.0
    scale: float = 1.0
    spread: float | None = None

    @property
    def blocks(self) -> int:
        return self.shape.blocks

    @property
    def steps(self) -> int:
        return self.tables.steps

    def predict_error(self, config: HeroConfig) -> float | None:
        """The relative error of the result of a run with these settings.

        Returns:
            None where it cannot be said: an adaptive threshold, or a model or sampler that recordings do not
            fit.

        Raises:
            ConfigError: the settings do not fit the model or the number of steps.
        """
        config.resolve(self.blocks, self.steps)
        if config.threshold > 0 or self.sampling is None:
            return None
        return self.scale * propagated(
            self.tables, self.sampling, config, self.blocks, self.hero.ratio, self.openness
        )

    def fitted(self, pairs: Sequence[tuple[HeroConfig, float]]) -> Recording:
        """The same, with openness, scale and spread from settings and the errors that they had in real runs.

        Of more than one openness, the smaller is taken unless the larger fits clearly better.
        """
        tried = _OPENNESS if len(pairs) >= _FEWEST_TO_OPEN else _OPENNESS[:1]
        found = [replace(self, openness=openness).scaled(pairs) for openness in tried]
        doubts = [math.log(one.spread or 1.0) * (1 + _DOUBT * number) for number, one in enumerate(found)]
        return found[doubts.index(min(doubts))]

    def scaled(self, pairs: Sequence[tuple[HeroConfig, float]]) -> Recording:
        """The same, with scale and spread alone."""
        logs = [
            math.log(error / (predicted / self.scale))
            for config, error in pairs
            if error > 0 and (predicted := self.predict_error(config))
        ]
        if not logs:
            return self
        middle = float(np.median(logs))
        off = [abs(one - middle) for one in logs]
        spread = math.exp(float(np.mean(off))) if len(off) > 1 else None
        return replace(self, scale=math.exp(middle), spread=spread)

    def save(self, path: Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        from safetensors.numpy import save_file

        facts = {
            "format": FORMAT, "model": self.model, "shape": asdict(self.shape),
            "hero": self.hero.to_dict(), "sampling": self.sampling and asdict(self.sampling),
            "about": self.about, "openness": self.openness, "scale": self.scale, "spread": self.spread,
        }  # fmt: skip
        arrays = {name: np.ascontiguousarray(array) for name, array in vars(self.tables).items()}
        with new_file(path) as part:
            save_file(arrays, part, {"recording": json.dumps(facts)})

    def _check(self) -> None:
        """
        Raises:
            ValueError: parts that do not fit each other.
        """
        self.tables.check()
        if self.sampling is not None:
            self.sampling.check(self.steps)
            if not (self.sampling.known and self.tables.finite):
                raise ValueError("with NaN or infinite values")
        if min(self.blocks, *self.shape.grid) < 1:
            raise ValueError("of no model")
        if (
            not 0 <= self.openness < 1
            or not 0 < self.scale < math.inf
            or not 0 < (self.spread or 1) < math.inf
        ):
            raise ValueError("with a fit that cannot be")
        if not all(isinstance(text, str) for text in (self.model, *self.about, *self.about.values())):
            raise ValueError("of something that is no text")

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: no such file, another one, or one whose parts do not fit each other (field
                ``"recording"``).
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {})["recording"])
                arrays = {name.name: file.get_tensor(name.name) for name in fields(Tables)}
            if facts.pop("format") != FORMAT:
                raise ValueError("of another version")
            sampling = facts.pop("sampling")
            recording = cls(
                shape=_shape(facts.pop("shape")),
                hero=HeroConfig.from_dict(facts.pop("hero")),
                sampling=None if sampling is None else Steps(**_fixed(sampling)),
                tables=Tables(**arrays),
                **facts,
            )
            recording._check()
            return recording
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                "recording", f"{path.name} cannot be read ({error}); run HERO Tuner again"
            ) from error


def _shape(found: dict[str, Any]) -> ModelShape:
    stack = tuple(BlockShape(**part) for part in found.pop("stack"))
    return ModelShape(stack=stack, **_fixed(found))


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    """With tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
