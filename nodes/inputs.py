"""Inputs that several nodes have."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..aether.tasks import FPS

AUTO = "auto"
RATES = [AUTO, *map(str, FPS)]
SCHEDULERS = ["dpm", "ddim"]
MOST_PIXELS = 16384

VAE = io.Vae.Input("vae", lazy=True, tooltip="The VAE of Aether Loader or Aether Miniature.")
"""Lazy, so that a node can refuse its settings before the model is loaded: see `wiring.waiting`."""
SCHEDULER = io.Combo.Input(
    "scheduler",
    options=SCHEDULERS,
    default="dpm",
    tooltip="dpm: the authors'; adds fresh noise each step. ddim: adds none.",
)


def seed_input(
    tooltip: str,
    *,
    most: int = 2**63 - 1,
    control: bool | io.ControlAfterGenerate = False,
    **options: Any,
) -> io.Input:
    """A seed from 0 to ``most``. control: what becomes of it after a run, False for a plain number."""
    return io.Int.Input(
        "seed", default=0, min=0, max=most, control_after_generate=control, tooltip=tooltip, **options
    )


def amount_input(name: str, default: str, tooltip: str, **options: Any) -> io.Input:
    """A count of steps or a share of them, see `hero_engine.amounts`."""
    return io.String.Input(
        name, default=default, tooltip=f"{tooltip} Steps (4), or a share of them (5%).", **options
    )


def rate_input(*, advanced: bool = False) -> io.Input:
    """The rate of a clip that comes as a LATENT or the like, see `latents.rate`."""
    return io.Combo.Input(
        "fps",
        options=RATES,
        default=AUTO,
        optional=True,
        advanced=advanced,
        tooltip="Frames per second. auto: the clip's own. Set it for a latent from Load Latent, which has "
        "lost its rate.",
    )


def size_inputs() -> list[io.Input]:
    """width and height, see `conditioning.size_of`."""
    return [
        io.Int.Input(
            side,
            default=0,
            min=0,
            max=MOST_PIXELS,
            step=8,
            tooltip=f"{side.capitalize()} in pixels; 0 = the model's own. Pictures are scaled and cropped to "
            "fill width x height.",
        )
        for side in ("width", "height")
    ]
