"""Write web/constants.js, the numbers of the page that the libraries have too, or compare it.

    python scripts/page_constants.py          # write
    python scripts/page_constants.py --check  # only compare; the exit status is 1 if it differs

It holds the models' shapes, HERO's presets and the other methods' defaults, in the words of the widgets.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from aether.miniature.model import TRANSFORMER  # noqa: E402 (the repository's, whatever is installed)
from hero_engine import METHODS, PRESETS, HeroConfig, MethodConfig  # noqa: E402
from hero_engine.amounts import fraction  # noqa: E402
from hero_engine.cost import AETHER  # noqa: E402
from hero_engine.cost.prediction import AETHER_SIZE  # noqa: E402

FILE = ROOT / "web/constants.js"
_HEAD = "// Written by scripts/page_constants.py from Python: change it there, run that.\n"
_PIXELS = 8  # a side of the VAE's latent pixel
_FRAMES = 4  # of a latent frame after the first
_PREDICTED = {"interval", "warmup", "cooldown", "order", "ratio", "taper", "first"}
"""Settings of the other methods that a prediction needs."""
_ASSUMED = "balanced"
"""The preset assumed where a wire hides the widget's value, as the node has it by default."""


def constants() -> dict[str, Any]:
    """By name, what the page has of Python."""
    return {
        "MODELS": {"aether": _aether(), "miniature": _miniature()},
        "PRESETS": {name: widgets_of(config) for name, config in PRESETS.items()},
        "ASSUMED": {
            "preset": _ASSUMED,
            **widgets_of(PRESETS[_ASSUMED]),
            "storage": PRESETS[_ASSUMED].storage,
        },
        "DEFAULTS": {name: _defaults(method) for name, method in METHODS.items() if name != "hero"},
    }


def widgets_of(config: HeroConfig) -> dict[str, Any]:
    """A configuration in the words of HERO Patch's widgets, without seed and storage.

    The sliders have steps of 0.01: a ratio of 1/6 is 0.17, which is the same number of tokens.
    """
    tau = fraction(str(config.tau))
    if tau is None:
        raise ValueError(f"tau: the slider takes a share of the blocks, not the count {config.tau}")
    sides = dict(zip(("frames", "rows", "columns"), config.patch, strict=True))
    return {
        "tau": _number(tau),
        "interval": config.interval,
        "ratio": _number(Fraction(config.ratio)),
        "threshold": config.threshold,
        "warmup": str(config.warmup),
        "cooldown": str(config.cooldown),
        **{f"patch_{axis}": side for axis, side in sides.items()},
        "shallow": config.shallow,
        "feedback": config.feedback,
        "text": config.text,
    }


def _number(share: Fraction) -> float:
    return round(float(share), 2)


def _defaults(method: type[MethodConfig]) -> dict[str, Any]:
    config = method()
    names = [setting.name for setting in fields(config) if setting.name in _PREDICTED]
    settings = {name: getattr(config, name) for name in names}
    return settings | {name: str(settings[name]) for name in ("warmup", "cooldown")}


def _aether() -> dict[str, Any]:
    shape = {
        "blocks": AETHER_SIZE.blocks,
        "width": AETHER_SIZE.width,
        "timeWidth": AETHER_SIZE.time_width,
        "textTokens": AETHER.text_tokens,
        "textWidth": AETHER_SIZE.text_width,
        "inChannels": AETHER_SIZE.in_channels,
        "outChannels": AETHER_SIZE.out_channels,
        "patchSize": AETHER_SIZE.patch_size,
    }
    frames, rows, columns = AETHER.grid
    side = _PIXELS * AETHER_SIZE.patch_size
    clip = {"height": side * rows, "width": side * columns, "frames": _FRAMES * (frames - 1) + 1}
    return {"shape": shape, **clip, "bytes": 2}


def _miniature() -> dict[str, Any]:
    shape = {
        "blocks": TRANSFORMER["num_layers"],
        "width": TRANSFORMER["num_attention_heads"] * TRANSFORMER["attention_head_dim"],
        "timeWidth": TRANSFORMER["time_embed_dim"],
        "textTokens": TRANSFORMER["max_text_seq_length"],
        "textWidth": TRANSFORMER["text_embed_dim"],
        "inChannels": TRANSFORMER["in_channels"],
        "outChannels": TRANSFORMER["out_channels"],
        "patchSize": TRANSFORMER["patch_size"],
    }
    height, width = (_PIXELS * TRANSFORMER[f"sample_{side}"] for side in ("height", "width"))
    clip = {"height": height, "width": width, "frames": TRANSFORMER["sample_frames"]}
    return {"shape": shape, **clip, "bytes": 4}


def text() -> str:
    """What web/constants.js holds."""
    parts = (
        f"export const {name} = Object.freeze({json.dumps(value, indent=2)});\n"
        for name, value in constants().items()
    )
    return "\n".join([_HEAD, *parts])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    same = FILE.exists() and FILE.read_text(encoding="utf-8") == text()
    if options.check and not same:
        print("differs: web/constants.js; python scripts/page_constants.py writes it")
        return 1
    if not same:
        FILE.write_text(text(), encoding="utf-8", newline="\n")
        print("written: web/constants.js")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
