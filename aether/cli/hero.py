"""HERO on the command line: where `aether` and `hero_engine` meet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hero_engine.command_options import given_settings

from ..errors import InputError
from .parser import HERO_RENAMED

if TYPE_CHECKING:
    from hero_engine import HeroConfig, HeroRun
    from hero_engine.flops import ModelShape

    from ..model.parts import AetherModel


class Hero:
    """HERO as an `aether.run.job.Accelerator`."""

    def __init__(self, config: HeroConfig) -> None:
        self.config = config
        self._run: HeroRun | None = None

    def check(self, model: AetherModel, steps: int) -> None:
        """Refuse settings that do not fit the model, before anything is computed."""
        self.config.resolve(len(model.transformer.transformer_blocks), steps)

    def rehearsal(self) -> Hero:
        """The same with full and cached steps in turn from the first on."""
        return Hero(replace(self.config, warmup=1, cooldown=0, interval=2, threshold=0.0, mask=""))

    def cached_bytes(self, shape: ModelShape, steps: int, batch: int, element_bytes: int) -> int:
        """Bytes that it will cache in a run, at most."""
        from hero_engine.cost import predict

        return predict(self.config, shape, steps, batch, element_bytes).cached_bytes

    def settings(self) -> dict[str, Any]:
        return self.config.to_dict()

    @contextmanager
    def session(self, model: AetherModel, steps: int) -> Iterator[HeroRun]:
        import hero_engine

        with hero_engine.hero_session(model.transformer, self.config, steps, model.scheduler) as self._run:
            yield self._run

    def to_dict(self) -> dict[str, Any]:
        return self._run.report.to_dict()

    def total(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        from hero_engine.totals import total

        return total(reports)

    def picture(self, report: Mapping[str, Any]) -> bytes:
        import hero_engine

        return hero_engine.report_png(report)


def chosen_hero(arguments: argparse.Namespace) -> Hero | None:
    """HERO with the preset, or the setting, and the options that were given; None for --hero off.

    Raises:
        ConfigError: a setting that HERO cannot use.
        InputError: the same, for those that have another name on the command line.
    """
    if arguments.hero == "off":
        return None
    import hero_engine

    given = given_settings(arguments, hero_engine.HeroConfig, HERO_RENAMED)
    try:
        if arguments.setting is None:
            return Hero(hero_engine.HeroConfig.preset(arguments.hero, **given))
        return Hero(replace(hero_engine.HeroConfig.from_text(arguments.setting), **given))
    except hero_engine.ConfigError as error:
        option = {"preset": "hero", **HERO_RENAMED}.get(error.field)
        if option is None:
            raise
        raise InputError(option, str(error).removeprefix(f"{error.field}: ")) from error
