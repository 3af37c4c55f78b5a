"""What a command works with: its options, the model, and what a run takes of the device's memory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..defaults import TASKS
from ..errors import InputError
from .console import Console
from .hero import Hero
from .parser import renamed

if TYPE_CHECKING:
    from ..explore.walk import Walk
    from ..geometry.cameras import Cameras
    from ..geometry.metric_scale import MetricScale
    from ..long.reconstruct import LongResult
    from ..model.parts import AetherModel
    from ..run.job import Inputs, Result, Settings
    from ..run.scale import Measure


@dataclass(frozen=True)
class Work:
    """A command's options and what was made of them. The number of steps in ``settings`` is given;
    ``measure`` finds the metric scale of a result where one is asked for."""

    arguments: argparse.Namespace
    console: Console
    task: str
    hero: Hero | None
    model: AetherModel
    settings: Settings
    measure: Measure | None = None

    def say_job(self, frames: int, height: int, width: int, fps: float) -> None:
        """The model and the job."""
        model, settings = self.model, self.settings
        trained = "" if model.trained else " (untrained: its pictures mean nothing yet)"
        dtype = str(model.dtype).removeprefix("torch.")
        self.console.say(f"model: {model.name}{trained} on {model.device}, {dtype}")
        self.console.say(
            f"{self.task}: {frames} frames of {width} x {height} at {fps} fps, {settings.steps} steps, seed "
            f"{settings.seed}"
        )

    def gather(self, sources: dict[str, str]) -> Inputs:
        """Read the inputs, and report what will be done and what it takes."""
        from ..run import job

        arguments = self.arguments
        inputs = job.gather(
            self.model,
            self.task,
            sources,
            size=arguments.size,
            frames=arguments.frames,
            fps=arguments.fps,
            raymap=arguments.raymap,
            camera=arguments.camera,
            lens=arguments.lens,
        )
        clip = inputs.frames, inputs.height, inputs.width
        self.say_job(*clip, inputs.fps)
        for note in inputs.notes:
            self.console.say(f"note: {note}")
        self.say_memory(*clip)
        return inputs

    def say_memory(self, frames: int, height: int, width: int) -> None:
        """What a run takes on so much as the model is given at once, before it begins."""
        from hero_engine.models.families import adapter_for

        from ..generation.sampling import is_guided
        from ..model.memory import bytes_text, decoding_bytes, step_bytes, weight_bytes

        model, spec = self.model, self.model.spec
        place = " (blocks in the computer's memory)" if self.arguments.offload else ""
        parts = [f"weights {bytes_text(weight_bytes(model.transformer, model.vae))}{place}"]
        latent = (1, spec.latent_frames(frames), spec.in_channels, *spec.cells(height, width))
        shape = adapter_for(model.transformer).shape(latent, model.prompt_embeds.shape[1])
        values = 2 if is_guided(self.task, self.settings.guidance) else 1, model.prompt_embeds.element_size()
        if self.hero:
            cached = self.hero.cached_bytes(shape, self.settings.steps, *values)
            parts.append(f"cached by HERO at most {bytes_text(cached)} (storage {self.hero.config.storage})")
        step = step_bytes(shape.tokens, shape.width, *values)
        decoding = decoding_bytes(model.vae, height, width)
        self.console.say(
            f"memory: {', '.join(parts)}; besides, a step takes about {bytes_text(step)}, "
            f"decoding {bytes_text(decoding)}"
        )

    def write(
        self,
        streams: Any,
        cameras: Cameras,
        fps: float,
        result: Result | LongResult | Walk,
        source: Any,
        asked: Cameras | None = None,
        extras: dict[str, Any] | None = None,
    ) -> None:
        """Write a result folder and say what is in it; see `aether.formats.export.write_run`."""
        from ..formats.export import write_run
        from ..run.job import lens_report

        self.console.stage("writing")
        scale = self._scale(streams, cameras)
        report = {**result.report, "lens": lens_report(cameras), "scale": scale and scale.to_dict()}
        files = write_run(
            self.arguments.out,
            streams,
            cameras,
            fps,
            report=report,
            report_png=result.picture,
            source=source,
            asked=asked,
            scale=scale,
            notes=result.report["notes"],
            extras=extras,
            overwrite=self.arguments.overwrite,
            depth_format=self.arguments.depth_format,
        )
        self.console.figures(report)
        self.console.result(next(iter(files.values())).parent, files)

    def _scale(self, streams: Any, cameras: Cameras) -> MetricScale | None:
        if self.measure is None:
            return None
        from ..frames import Frames
        from ..geometry.depth import disparity_to_depth

        disparity = streams.disparity
        depth = Frames(disparity.shape, lambda frame: disparity_to_depth(disparity[frame]))
        try:
            return self.measure(depth, cameras)
        except InputError as error:  # of a result that is there: it is not thrown away
            self.console.note(f"warning: meters: {error}. The result is in units of the nearest depth")
            return None


def prepare(arguments: argparse.Namespace, console: Console, task: str, hero: Hero | None) -> Work:
    """Load the model and check the settings with it.

    Raises:
        InputError, ConfigError: a setting that cannot be used.
    """
    from ..run import job
    from ..run.scale import parse_scale

    how = getattr(arguments, "meters", None)
    measure = None if how is None else parse_scale(how)
    steps = TASKS[task].accelerated_steps if arguments.steps is None else arguments.steps
    settings = job.Settings(steps, arguments.guidance, arguments.seed, arguments.guidance_skip)
    model = _load(arguments, console)
    job.make_generator(model, settings.seed)
    if hero:
        hero.check(model, steps)
    if arguments.attention != "sdpa" or arguments.compile:
        import hero_engine

        hero_engine.optimize(model.transformer, arguments.attention, compile=arguments.compile)
    return Work(arguments, console, task, hero, model, settings, measure)


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
    from ..model.memory import keep_in_float8, offload_blocks
    from ..model.schedulers import make_scheduler

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
