"""Inputs that several nodes have."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..aether.defaults import BASE_FPS, FPS, SCHEDULERS

AUTO = "auto"
RATES = [AUTO, *map(str, FPS)]
MOST_PIXELS = 16384
MOST_FRAMES = 10_000_000
"""Of a video that a clip is taken out of."""

AETHER_SIZE = {"width": 720, "height": 480}
"""What Aether makes where no size is set, in pixels."""
BYPASS = "Bypass it (Ctrl+B) to switch it off."
NOISE_SEED = "Another number gives another take. The same number and settings give the same clip."

VAE = io.Vae.Input("vae", lazy=True, tooltip="The VAE, from the same loader as the model.")
"""Lazy, so that a node can refuse its settings before the model is loaded: see `wiring.waiting`."""
HERO_MODEL = io.Model.Input(
    "model",
    lazy=True,
    tooltip="Aether, or a video model from ComfyUI's own loaders: Wan, HunyuanVideo, LTX-Video and others "
    "(HERO Patch's help page lists them). It stays unchanged: the node works on a copy.",
)
"""What HERO and the methods that it is compared with are put on; lazy as `VAE` is."""
DEPTH = io.Image.Input("depth", tooltip="The depth of Aether Depth: its second output, not the picture.")
SCHEDULER = io.Combo.Input(
    "scheduler",
    options=list(SCHEDULERS),
    default="dpm",
    tooltip="dpm is the authors' choice and adds fresh noise at every step. ddim adds none.",
)

_AS_SAMPLER = "The same as for the sampler."
_OTHERS = "Models other than Aether are sampled with ddim."


def sampled_inputs(latent: str = "") -> list[io.Input]:
    """What a node that samples by itself is given as a sampler is. latent: what else to know of it."""
    return [
        *(io.Conditioning.Input(name, tooltip=_AS_SAMPLER) for name in ("positive", "negative")),
        io.Latent.Input("latent", tooltip=f"{_AS_SAMPLER} {latent}".rstrip()),
    ]


def sampled_scheduler(note: str = "") -> io.Input:
    """Aether Sampler's scheduler, for such a node. note: what it does to the result."""
    return io.Combo.Input(
        "scheduler",
        options=list(SCHEDULERS),
        default="dpm",
        tooltip=f"The same as in Aether Sampler{note}. {_OTHERS}",
    )


SAMPLED_GUIDANCE = io.Float.Input(
    "guidance",
    default=0.0,
    min=0.0,
    max=20.0,
    step=0.1,
    tooltip=f"{_AS_SAMPLER} 0 is the task's own, or 6 for models other than Aether.",
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


def interval_input(default: int = 2) -> io.Input:
    """N of HERO and of the methods that it is compared with."""
    return io.Int.Input(
        "interval",
        default=default,
        min=1,
        max=10,
        display_mode=io.NumberDisplay.slider,
        tooltip="At least one step in this many is computed in full. 2 is gentle, 3 or more is faster and "
        "rougher, 1 turns reuse off.",
    )


def amount_input(name: str, default: str, tooltip: str, **options: Any) -> io.Input:
    """A count of steps or a share of them, see `hero_engine.amounts`."""
    return io.String.Input(
        name,
        default=default,
        tooltip=f"{tooltip} A number of steps (4), or a share of them (5%).",
        **options,
    )


def warmup_input(default: str, **options: Any) -> io.Input:
    """Full steps at the start, a count or a share."""
    return amount_input(
        "warmup",
        default,
        "Steps at the start that always run in full, while the picture takes shape.",
        **options,
    )


def cooldown_input(default: str, **options: Any) -> io.Input:
    """Full steps at the end, a count or a share."""
    return amount_input(
        "cooldown",
        default,
        "Steps at the end that always run in full. They settle the details: even a few bring the result much "
        "closer to the unaccelerated one. 0 is none, as published.",
        **options,
    )


def rate_input(*, advanced: bool = False) -> io.Input:
    """The rate of a clip that comes as a LATENT or the like, see `latents.rate`."""
    return io.Combo.Input(
        "fps",
        options=RATES,
        default=AUTO,
        optional=True,
        advanced=advanced,
        tooltip="Frames per second. auto is the clip's own rate. Set it for a latent from Load Latent, "
        "which has lost its rate.",
    )


def video_input(note: str) -> io.Input:
    """A clip as core hands it on. note: what the node does with it."""
    return io.MultiType.Input(
        "video", [io.Image, io.Video], tooltip=f"The clip, as a video or as images in order. {note}"
    )


def video_rate_input() -> io.Input:
    """The rate at which a clip is read."""
    return io.Combo.Input(
        "fps",
        options=RATES,
        default=AUTO,
        tooltip=f"Frames per second. auto picks what suits the video, or {BASE_FPS} for images.",
    )


def size_inputs(note: str = "") -> list[io.Input]:
    """width and height, see `conditioning.size_of`. note: what else the reader should know of them."""
    return [
        io.Int.Input(
            side,
            default=0,
            min=0,
            max=MOST_PIXELS,
            step=8,
            tooltip=f"{side.capitalize()} in pixels; 0 is the model's own ({pixels} for Aether). Set both "
            f"sides or neither. Pictures are scaled and cropped to fit.{note}",
        )
        for side, pixels in AETHER_SIZE.items()
    ]


def prefix_input(default: str) -> io.Input:
    """Where a node saves."""
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Name in ComfyUI's output folder. / makes subfolders; a number is added.",
    )
