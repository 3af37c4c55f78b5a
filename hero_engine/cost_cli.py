"""The command line of :mod:`hero_engine.cost`. No torch."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import METHODS
from .amounts import fraction
from .config import PRESETS, HeroConfig
from .cost import aether_shape, format_prediction, predict
from .errors import ConfigError
from .paper import TOLERANCE, figures, format_figures
from .settings import MethodConfig


def ratio(text: str) -> float:
    """``"0.1667"``, ``"1/6"`` or ``"17%"``."""
    part = fraction(text.strip())
    try:
        return float(text) if part is None else float(part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; use one such as 0.17, 1/6 or 17%") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hero_engine.cost",
        description="Predict FLOPs, cached bytes and speed-up bound of a setting on Aether.",
    )
    parser.add_argument("--paper", action="store_true", help="check every FLOPs figure of the paper's tables")
    parser.add_argument("--method", default="hero", help=f"one of {', '.join(METHODS)} (hero)")
    parser.add_argument("--preset", help=f"HERO's settings to start from: {', '.join(PRESETS)} (paper)")
    parser.add_argument("--tau", help="shallow blocks: a count (21), or a share (50%%, 1/2)")
    parser.add_argument("--interval", type=int, help="N: a full step at least every N steps")
    parser.add_argument("--ratio", type=ratio, help="share of tokens computed, such as 1/6")
    parser.add_argument("--warmup", help="leading full steps: a count (4), or a share (20%%)")
    parser.add_argument("--cooldown", help="trailing full steps: a count, or a share")
    parser.add_argument("--context", help="selected or cached_kv")
    parser.add_argument("--forecast", help="linear, quadratic or fitted")
    parser.add_argument("--text", help="refresh or omit")
    parser.add_argument("--shallow", help="residual of tokens not refreshed: reuse or forecast")
    parser.add_argument("--feedback", type=float, help="share of errors that full steps make good, 0 to 1")
    parser.add_argument("--storage", help="of cached features: model, float8 or host")
    parser.add_argument("--order", type=int, help="TaylorSeer's order")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps (50)")
    parser.add_argument("--size", default="480x720x41", help="height x width x frames (480x720x41)")
    parser.add_argument("--batch", type=int, default=2, help="forwards per step: 2 with guidance (2)")
    parser.add_argument("--bytes", type=int, default=2, help="bytes of one number: 2 for bf16 (2)")
    return parser


def _size(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ConfigError("size", f"{text!r} is not HEIGHTxWIDTHxFRAMES, such as 480x720x41")
    height, width, frames = (int(part) for part in parts)
    return height, width, frames


def _config(method: str, preset: str | None, given: dict[str, Any]) -> MethodConfig:
    if method == "hero":
        return HeroConfig.preset("paper" if preset is None else preset, **given)
    if method not in METHODS:
        raise ConfigError("method", f"{method!r} is not one of {', '.join(METHODS)}")
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
    names = (
        "tau", "interval", "ratio", "warmup", "cooldown", "context", "forecast", "text", "shallow",
        "feedback", "storage", "order",
    )  # fmt: skip
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        config = _config(arguments.method, arguments.preset, given)
        shape = aether_shape(*_size(arguments.size))
        print(format_prediction(predict(config, shape, arguments.steps, arguments.batch, arguments.bytes)))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
