"""Aether Sampler: the reference's recipe in one node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..aether.defaults import TASKS
from ..aether.errors import InputError
from ..aether.generation.sampling import Callback, StepInfo, sample
from ..aether.generation.tasks import Conditions
from ..aether.model.schedulers import scheduler_like
from .bridge.messages import MINIATURE, show_text
from .inputs import NOISE_SEED, SCHEDULER, seed_input
from .latents import whole
from .types import FPS_KEY

DYNAMIC = {"auto": None, "on": True, "off": False}


class AetherSampler(io.ComfyNode):
    """Conditioning to a latent, as Aether's published results were made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherSampler",
            display_name="Aether Sampler",
            category="Aether",
            description="Samples as Aether's authors do: with their scheduler, number of steps and guidance "
            "for each task. A preview shows color and depth side by side while it works.",
            search_aliases=["aether sample", "ksampler", "denoise", "dynamic guidance"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="From HERO Patch, or from the loader to run without acceleration."
                ),
                io.Conditioning.Input("positive", tooltip="From Aether Reconstruct, Predict or Plan."),
                io.Conditioning.Input("negative", tooltip="From the same node as positive."),
                io.Latent.Input(
                    "latent",
                    tooltip="From the same node as positive. It sets the length and size; sampling starts "
                    "from noise.",
                ),
                seed_input(
                    NOISE_SEED,
                    most=2**64 - 1,
                    control=io.ControlAfterGenerate.fixed,
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="0 is the task's own number: 4 for reconstruction, 50 for prediction and "
                    "planning.",
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How strictly to follow the pictures. 0 is the task's own: 3 for prediction and "
                    "planning. 1 is none, which halves the time. Reconstruction has none.",
                ),
                SCHEDULER,
                io.Combo.Input(
                    "dynamic_guidance",
                    options=list(DYNAMIC),
                    default="auto",
                    advanced=True,
                    tooltip="Lets guidance change from step to step, as in the published results. auto: on "
                    "for tasks with guidance.",
                ),
                io.Float.Input(
                    "guidance_skip",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Skips the unconditional pass on steps whose guidance is at most 1 + this, "
                    "which halves their time. 0.05 does so on 6 of 50 steps, on fewer with HERO. 0 skips it "
                    "only where it has no effect.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="Color, depth and camera in one latent. Goes to Aether Split.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, guidance: float | None) -> bool | str:
        # A linked value is not known yet. ComfyUI puts the input's name before the answer.
        return True if guidance is None else guidance_problem(guidance) or True

    @classmethod
    def execute(cls, model: Any, **inputs: Any) -> io.NodeOutput:
        latent = sample_latent(model, **inputs)
        if model.model.name == MINIATURE:
            show_text(cls.hidden.unique_id, "Rough: made by the Miniature")
        return io.NodeOutput(latent)


def sample_latent(
    model: Any,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    seed: int,
    steps: int = 0,
    guidance: float = 0.0,
    scheduler: str = "dpm",
    dynamic_guidance: str = "auto",
    guidance_skip: float = 0.0,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """What Aether Sampler does, for other nodes.

    Args:
        model to guidance_skip: Aether Sampler's inputs.
        callback: called after every step, in place of core's progress and preview.

    Raises:
        InputError: another kind of MODEL, CONDITIONING or LATENT, or a guidance that cannot be used.
    """
    from .bridge.model import aether_parts

    problem = guidance_problem(guidance)
    if problem is not None:
        raise InputError("guidance", problem)
    parts = aether_parts(model)
    conditions, fps = _conditions(positive, negative)
    whole(latent)
    run = _Run(
        conditions,
        scheduler=scheduler_like(parts.scheduler, scheduler),
        settings={
            "steps": steps or TASKS[conditions.task].default_steps,
            "guidance": guidance or None,
            "dynamic_guidance": DYNAMIC[dynamic_guidance],
            "guidance_skip": guidance_skip,
            "fps": fps,
        },
        callback=callback,
    )
    return {**latent, "samples": run.run(model, positive, negative, latent, seed), FPS_KEY: fps}


def guidance_problem(guidance: float) -> str | None:
    if guidance == 0 or 1 <= guidance <= 20:
        return None
    return f"{guidance} cannot be used; give 1 (none) to 20, or 0 for the task's own"


def _conditions(positive: Any, negative: Any) -> tuple[Conditions, int]:
    """Of a task node's CONDITIONING.

    Raises:
        InputError: of another node, or of two.
    """
    from .bridge.model import OUR_TASKS

    entries = {}
    for name, conditioning in (("positive", positive), ("negative", negative)):
        if len(conditioning) != 1 or "aether_task" not in conditioning[0][1]:
            raise InputError(name, f"is no conditioning of Aether's: connect {name} of {OUR_TASKS}")
        entries[name] = conditioning[0][1]
    first, second = entries["positive"], entries["negative"]
    for key in ("aether_task", "aether_size", "aether_fps"):
        if first[key] != second[key]:
            raise InputError("negative", "belongs to another task node than positive: connect the same one's")
    cond, uncond = (entry["concat_latent_image"].transpose(1, 2) for entry in (first, second))
    task = first["aether_task"]
    conditions = Conditions(task, cond, uncond if TASKS[task].guided else None, *first["aether_size"])
    return conditions, first["aether_fps"]


class _Run:
    """One run of ``aether.generation.sampling.sample`` where core would run one of its samplers.

    So everything around it is core's: loading, wrappers such as HERO Patch's, progress, preview, interrupt.

    Attributes:
        scheduler: diffusers'.
    """

    def __init__(
        self, conditions: Conditions, scheduler: Any, settings: dict[str, Any], callback: Callback | None
    ):
        self._conditions = conditions
        self.scheduler = scheduler
        self._settings = settings
        self._callback = callback

    def run(
        self, model: Any, positive: Any, negative: Any, latent: dict[str, Any], seed: int
    ) -> torch.Tensor:
        import comfy.model_management
        import comfy.samplers
        import latent_preview

        steps = self._settings["steps"]
        samples = latent["samples"]
        result = comfy.samplers.sample(
            model,
            torch.zeros_like(samples),  # our own noise is drawn later
            positive,
            negative,
            cfg=1.0,
            device=model.load_device,
            sampler=self,
            sigmas=torch.arange(steps, -1, -1, dtype=torch.float32),  # only their number counts
            model_options=model.model_options,
            latent_image=torch.zeros_like(samples),
            callback=None if self._callback else latent_preview.prepare_callback(model, steps),
            seed=seed,
        )
        return result.to(
            comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
        )

    def sample(
        self, guider: Any, sigmas: Any, extra_args: Any, callback: Any, noise: torch.Tensor, *args: Any
    ) -> torch.Tensor:
        """Core calls this, with the model loaded."""
        import comfy.model_management

        device = noise.device
        parts = guider.inner_model.parts
        # Where ComfyUI offloads weights, they do not say on which device they run.
        model = replace(
            parts, scheduler=self.scheduler, prompt_embeds=parts.prompt_embeds.to(device), device=device
        )
        like = {"device": device, "dtype": model.dtype}
        cond, uncond = self._conditions.cond, self._conditions.uncond
        conditions = replace(
            self._conditions, cond=cond.to(**like), uncond=None if uncond is None else uncond.to(**like)
        )

        def report(info: StepInfo) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if self._callback:
                self._callback(info)
            else:
                callback(info.index, info.predicted.transpose(1, 2), info.latent.transpose(1, 2), info.steps)

        generator = torch.Generator().manual_seed(extra_args["seed"])
        # HERO Patch has begun its session around this already; it is found on the transformer.
        latent = sample(model, conditions, generator=generator, callback=report, **self._settings)
        return latent.transpose(1, 2)


NODES: list[type[Any]] = [AetherSampler]
