"""`python -m hero_engine.cost`. No torch."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from ..command_options import SETTING_HELP, add_settings, error_text, given_settings, sides, whole_number
from ..errors import ConfigError
from ..hero.config import PRESETS, HeroConfig
from ..methods import METHODS
from ..setting_text import from_text
from ..settings import MethodConfig
from .paper import TOLERANCE, figures, format_figures
from .prediction import aether_shape, format_prediction, predict

_RENAMED = {"element_bytes": "bytes"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hero_engine.cost",
        description="Predict FLOPs, cached bytes and speed-up bound of a setting on Aether.",
    )
    parser.add_argument("--paper", action="store_true", help="check every FLOPs figure of the paper's tables")
    parser.add_argument("--method", default="hero", help=f"one of {', '.join(METHODS)} (hero)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--preset", help=f"HERO's settings to start from: {', '.join(PRESETS)} (paper)")
    start.add_argument("--setting", metavar="TEXT", help=SETTING_HELP.replace("%", "%%"))
    add_settings(parser, HeroConfig)
    parser.add_argument("--order", type=whole_number, help="TaylorSeer's order")
    parser.add_argument("--steps", type=whole_number, default=50, help="denoising steps (50)")
    parser.add_argument(
        "--size", type=_size, default="480x720x41", help="height x width x frames (480x720x41)"
    )
    parser.add_argument(
        "--batch", type=whole_number, default=2, help="forwards per step: 2 with guidance (2)"
    )
    parser.add_argument("--bytes", type=whole_number, default=2, help="bytes of one number: 2 for bf16 (2)")
    return parser


def _size(text: str) -> tuple[int, ...]:
    return sides(text, "HEIGHTxWIDTHxFRAMES", "480x720x41")


def _config(method: str, preset: str | None, setting: str | None, given: dict[str, Any]) -> MethodConfig:
    if method not in METHODS:
        raise ConfigError("method", f"{method!r} is not one of {', '.join(METHODS)}")
    if setting is not None:
        return replace(from_text(METHODS[method], setting), **given)
    if method == "hero":
        return HeroConfig.preset("paper" if preset is None else preset, **given)
    return METHODS[method].from_dict(given if preset is None else {**given, "preset": preset})


def _check_paper() -> int:
    rows = figures()
    print(format_figures(rows))
    off = [row for row in rows if not abs(row.deviation) <= TOLERANCE]
    print(f"{len(rows) - len(off)} of {len(rows)} figures within {100 * TOLERANCE:g} %")
    return 1 if off else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (0, 1 where a figure differs, 2 on bad input)."""
    arguments = _parser().parse_args(argv)
    if arguments.paper:
        return _check_paper()
    given = given_settings(arguments, HeroConfig)
    if arguments.order is not None:
        given["order"] = arguments.order
    try:
        config = _config(arguments.method, arguments.preset, arguments.setting, given)
        shape = aether_shape(*arguments.size)
        print(format_prediction(predict(config, shape, arguments.steps, arguments.batch, arguments.bytes)))
    except ConfigError as error:
        print(f"error: {error_text(error, arguments, renamed=_RENAMED)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
