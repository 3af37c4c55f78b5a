"""HERO's settings as the widgets of a user interface hold them. No torch."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..amounts import fraction
from .config import HeroConfig


def widgets_of(config: HeroConfig, blocks: int | None = None) -> dict[str, Any]:
    """A configuration in the words of HERO Patch's widgets, without seed and storage.

    The sliders have steps of 0.01: a ratio of 1/6 is 0.17, which is the same number of tokens.

    Args:
        blocks: of the model; needed where tau is a count of them.

    Raises:
        ValueError: tau is a count, and ``blocks`` is missing.
    """
    sides = dict(zip(("frames", "rows", "columns"), config.patch, strict=True))
    return {
        "tau": _number(_share(config, blocks)),
        "interval": config.interval,
        "ratio": _number(Fraction(config.ratio)),
        "threshold": config.threshold,
        "warmup": str(config.warmup),
        "cooldown": str(config.cooldown),
        **{f"patch_{axis}": side for axis, side in sides.items()},
        "shallow": config.shallow,
        "feedback": config.feedback,
        "text": config.text,
        "mask": config.mask,
        "trend": config.trend,
    }


def _share(config: HeroConfig, blocks: int | None) -> Fraction:
    share = fraction(str(config.tau))
    if share is not None:
        return share
    if blocks is None:
        raise ValueError(f"tau: the slider takes a share of the blocks, not the count {config.tau}")
    return Fraction(int(config.tau), blocks)


def _number(share: Fraction) -> float:
    return round(float(share), 2)
