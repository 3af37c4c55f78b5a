"""The model that a command works with, and what it takes of the device's memory."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..defaults import TASKS
from .console import Console
from .hero import Hero
from .parser import renamed

if TYPE_CHECKING:
    from ..model.parts import AetherModel
    from ..run.job import Settings


def prepare_model(
    arguments: argparse.Namespace, console: Console, task: str, hero: Hero | None
) -> tuple[AetherModel, Settings]:
    """Load the model and check the settings with it.

    Raises:
        InputError, ConfigError: a setting that cannot be used.
    """
    from ..run import job

    steps = TASKS[task].accelerated_steps if arguments.steps is None else arguments.steps
    settings = job.Settings(steps, arguments.guidance, arguments.seed, arguments.guidance_skip)
    model = _load(arguments, console)
    job.make_generator(model, settings.seed)
    if hero:
        hero.check(model, job.steps_of(task, settings))
    if arguments.attention != "sdpa" or arguments.compile:
        import hero_engine

        hero_engine.optimize(model.transformer, arguments.attention, compile=arguments.compile)
    return model, settings


def _load(arguments: argparse.Namespace, console: Console) -> AetherModel:
    import torch

    from ..model.loading import check_device, load

    float8 = arguments.dtype == "float8"
    computed = "auto" if float8 else arguments.dtype
    device = check_device(auto_device() if arguments.device == "auto" else arguments.device, "try auto")
    if arguments.model == "miniature":
        return _miniature(arguments, device, computed, float8)
    return load(
        arguments.model,
        vae=arguments.vae,
        prompt=arguments.prompt,
        text_encoder=arguments.text_encoder,
        scheduler=arguments.scheduler,
        device=device,
        dtype=torch.bfloat16 if computed == "auto" else getattr(torch, computed),
        float8=float8,
        offload=arguments.offload,
        tiling=arguments.vae_tiling,
        cache_dir=arguments.cache_dir,
        progress=lambda text: console.stage(renamed(text)),
    )


def _miniature(arguments: argparse.Namespace, device: object, computed: str, float8: bool) -> AetherModel:
    import torch

    from ..miniature import build
    from ..model.loading import make_scheduler
    from ..model.memory import keep_in_float8, offload_blocks

    # Small enough for exact arithmetic everywhere.
    dtype = torch.float32 if computed == "auto" else getattr(torch, computed)
    model = build(dtype=dtype).to(device)
    if float8:
        keep_in_float8(model.transformer, dtype)
    if arguments.offload:
        offload_blocks(model.transformer, device)
    return replace(model, scheduler=make_scheduler(arguments.scheduler))


def auto_device() -> str:
    """The best device there is. ROCm's is "cuda" too."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if torch.xpu.is_available():
        return "xpu"
    return "cpu"


def say_job(
    console: Console, model: AetherModel, task: str, clip: tuple[int, int, int, float], settings: Settings
) -> None:
    """The model and the job.

    Args:
        clip: its frames, height, width and rate.
    """
    from ..run import job

    trained = "" if model.trained else " (untrained: its pictures mean nothing yet)"
    console.say(f"model: {model.name}{trained} on {model.device}, {str(model.dtype).removeprefix('torch.')}")
    frames, height, width, fps = clip
    steps = job.steps_of(task, settings)
    console.say(
        f"{task}: {frames} frames of {width} x {height} at {fps} fps, {steps} steps, seed {settings.seed}"
    )


def say_memory(
    console: Console,
    model: AetherModel,
    task: str,
    clip: tuple[int, int, int],
    settings: Settings,
    hero: Hero | None,
    *,
    offload: bool,
) -> None:
    """What a run takes, before it begins.

    Args:
        clip: frames, height and width that the model is given at once.
    """
    from hero_engine.models.families import adapter_for

    from ..generation.sampling import is_guided
    from ..model.memory import bytes_text, decoding_bytes, step_bytes, weight_bytes
    from ..run import job

    place = " (blocks in the computer's memory)" if offload else ""
    parts = [f"weights {bytes_text(weight_bytes(model.transformer, model.vae))}{place}"]
    frames, height, width = clip
    spec = model.spec
    latent = (1, spec.latent_frames(frames), spec.in_channels, *spec.cells(height, width))
    shape = adapter_for(model.transformer).shape(latent, model.prompt_embeds.shape[1])
    element_bytes = model.prompt_embeds.element_size()
    batch = 2 if is_guided(task, settings.guidance) else 1
    if hero:
        cached = hero.cached_bytes(shape, job.steps_of(task, settings), batch, element_bytes)
        parts.append(f"cached by HERO at most {bytes_text(cached)} (storage {hero.config.storage})")
    step = step_bytes(shape.tokens, shape.width, batch, element_bytes)
    decoding = decoding_bytes(model.vae, height, width)
    console.say(
        f"memory: {', '.join(parts)}; besides, a step takes about {bytes_text(step)}, "
        f"decoding {bytes_text(decoding)}"
    )
