"""The denoising loop.

Source: ``__call__`` of the reference pipeline. Noise is drawn, and numbers are rounded, in its order.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol

import torch

from ..defaults import BASE_FPS
from ..errors import InputError, SamplingStopped
from ..model.parts import AetherModel, Denoiser
from ..model.rotary import rotary_embeddings
from .pinned_noise import SentAhead
from .tasks import Conditions, Task, check_fps, check_generator, check_task


@dataclass(frozen=True)
class StepInfo:
    """What a callback learns after a step.

    index: 0 for the first step. steps: how many there are. timestep: 999 (noise) down to 0.
    latent: (1, T, 56, h, w) after the step. predicted: the clean latent as the model sees it at this step.
    Both tensors are the run's own; copy them to keep or change them.
    """

    index: int
    steps: int
    timestep: int
    latent: torch.Tensor
    predicted: torch.Tensor


Callback = Callable[[StepInfo], bool | None]


class Branch(Protocol):
    """Stands around passes, as ``hero_engine.HeroRun.branch``."""

    def __call__(self, name: str | None, *, weights: tuple[float, ...]) -> AbstractContextManager[None]: ...


class Acceleration(Protocol):
    """What may run on the transformer, as ``hero_engine.HeroRun`` does.

    Attributes:
        branch: stands around passes.
    """

    branch: Branch

    def begin_pass(self, scheduler: Any, steps: int) -> None:
        """A run of so many steps begins, with this scheduler."""

    def needs_all(self, timestep: float) -> bool:
        """Whether no pass should be left out of the step."""


@torch.no_grad()
def sample(
    model: AetherModel | Denoiser,
    conditions: Conditions,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    dynamic_guidance: bool | None = None,
    guidance_skip: float = 0.0,
    fps: float = BASE_FPS,
    generator: torch.Generator | None = None,
    session: AbstractContextManager | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Denoise one clip under ``conditions``.

    Args:
        conditions: from :func:`aether.generation.tasks.condition`.
        steps: 1 to 1000; by default the task's (4, 50, 50).
        guidance: scale of classifier-free guidance, from 1 (none); by default the task's (1, 3, 3). Each
            guided step costs two passes. Reconstruction knows 1 only.
        dynamic_guidance: vary the scale from step to step by :func:`dynamic_guidance`, as Aether's published
            results do; by default on for the guided tasks.
        guidance_skip: leave the unconditional pass out where the scale is at most 1 + this (0 to 1): each
            such step costs one pass. 0 leaves it out at a scale of exactly 1 only, where it counts for
            nothing. See :func:`skipped_steps`.
        fps: frames per second of the clip: 8, 10, 12, 15 or 24.
        generator: the one already given to ``condition``. Without it torch's global generator is used.
        session: a context manager that is entered around the loop only and left whatever happens, such as
            ``hero_engine.hero_session(...)``. A HERO session that is on the transformer already, also by
            ``apply_hero``, is found there and need not be given. Under such an :class:`Acceleration`, passes
            run inside ``branch(name, weights=...)``, which passes what each part of the batch weighs in the
            guided answer. The name is None, or where passes may be left out "unconditional" and
            "conditional": they then run one by one and not as one batch, so that what is cached of one stays
            apart from the other, and none is left out of a step that ``needs_all``.
        callback: called after every step; returning False ends the run.

    Returns:
        The unified latent (1, T, 56, h, w) in the model's dtype.

    Raises:
        InputError: a value out of range.
        SamplingStopped: the callback returned False.
    """
    from diffusers.utils.torch_utils import randn_tensor

    recipe = _check_conditions(model, conditions)
    guided, scheduler = conditions.uncond is not None, copy.copy(model.scheduler)
    plan, timesteps = _plan(
        scheduler, recipe, steps, guidance, dynamic_guidance, guidance_skip, guided, model.device
    )
    batch, time, _, *size = conditions.cond.shape
    rotary = rotary_embeddings(model.spec, time, *size, fps=check_fps(fps), device=model.device)
    check_generator(generator)
    if session is not None and not hasattr(session, "__enter__"):
        raise InputError("session", f"is a {type(session).__name__}; give a context manager or None")

    shape = (batch, time, model.spec.out_channels, *size)
    latent = randn_tensor(shape, generator=generator, device=model.device, dtype=model.dtype)
    latent = latent * scheduler.init_noise_sigma
    with nullcontext() if session is None else session as entered:
        run = entered if hasattr(entered, "begin_pass") else acceleration_on(model.transformer)
        if run is not None:
            run.begin_pass(scheduler, len(plan))
        # Where some steps may leave a pass out and others not, passes run one by one.
        apart = run is not None and len({step.spared for step in plan}) == 2
        passes = _Passes(model, conditions, scheduler, rotary, run, apart)
        for info in _denoised(passes, plan, timesteps, latent, generator):
            latent = info.latent
            if callback and callback(info) is False:
                raise SamplingStopped(info.index + 1, len(plan))
    return latent


class _Step(NamedTuple):
    """What is known of a step before it runs.

    place: its timestep, as a number. strength: its guidance scale. spared: its unconditional pass may be left
    out.
    """

    place: int
    strength: float
    spared: bool


def _plan(
    scheduler: Any,
    recipe: Task,
    steps: int | None,
    guidance: float | None,
    dynamic: bool | None,
    tolerance: float,
    guided: bool,
    device: torch.device | str = "cpu",
) -> tuple[list[_Step], torch.Tensor]:
    """The steps of a run and its timesteps (steps,), falling, which are set on the scheduler.

    At 62 of the 1000 possible step counts (61 is the smallest) rounding gives the trailing schedule one
    timestep too many, -1, at which the model's answer means nothing. It is left out.

    Args:
        steps, guidance, dynamic, tolerance: as for :func:`sample`.
        guided: False where there are no conditions to guide by.
    """
    steps = check_steps(scheduler, recipe.default_steps if steps is None else steps)
    scale = _check_guidance(recipe, guidance)
    scale = scale if guided else 1.0
    dynamic = (recipe.guided if dynamic is None else dynamic) and scale > 1
    if not _is_number(tolerance) or not 0 <= tolerance <= 1:
        raise InputError(
            "guidance_skip", f"{tolerance!r} cannot be used; give 0 (at a scale of 1 only) to 1, such as 0.05"
        )
    with torch.inference_mode(False):  # ordinary tensors, so that a session can know them for unchanged
        scheduler.set_timesteps(steps, device=device)
        timesteps = scheduler.timesteps[scheduler.timesteps >= 0]
    places = timesteps.tolist()
    strengths = [dynamic_guidance(scale, place, steps) if dynamic else scale for place in places]
    pairs = zip(places, strengths, strict=True)
    return [_Step(place, strength, strength - 1 <= tolerance) for place, strength in pairs], timesteps


@dataclass(frozen=True)
class _Passes:
    """A run's passes of the transformer.

    Args:
        run: what accelerates them, or None.
        apart: the two passes of a step run one by one.
    """

    model: AetherModel | Denoiser
    conditions: Conditions
    scheduler: Any
    rotary: tuple[torch.Tensor, torch.Tensor] | None
    run: Acceleration | None
    apart: bool

    def output(self, latent: torch.Tensor, timestep: torch.Tensor, step: _Step) -> torch.Tensor:
        """The model's answer for one step, guided, in float32."""
        cond, uncond = self.conditions.cond, self.conditions.uncond
        if step.spared and not (self.apart and self.run.needs_all(float(step.place))):
            with self._branch("conditional" if self.apart else None, 1.0):
                return self.transformed(latent, timestep, cond)
        strength = step.strength
        if self.apart:
            with self._branch("unconditional", 1 - strength):
                unconditional = self.transformed(latent, timestep, uncond)
            with self._branch("conditional", strength):
                conditional = self.transformed(latent, timestep, cond)
        else:
            with self._branch(None, 1 - strength, strength):
                both = self.transformed(latent, timestep, torch.cat([uncond, cond]))
            unconditional, conditional = both.chunk(2)
        return unconditional + strength * (conditional - unconditional)

    def _branch(self, name: str | None, *weights: float) -> AbstractContextManager[None]:
        return nullcontext() if self.run is None else self.run.branch(name, weights=weights)

    def transformed(
        self, latent: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """The transformer's output in float32 for each condition of the batch."""
        batch = condition.shape[0]
        noisy = self.scheduler.scale_model_input(torch.cat([latent] * batch), timestep)
        return self.model.transformer(
            hidden_states=torch.cat([noisy, condition], dim=2),
            encoder_hidden_states=self.model.prompt_embeds.repeat(batch, 1, 1),
            timestep=timestep.expand(batch),
            image_rotary_emb=self.rotary,
            return_dict=False,
        )[0].float()


def _denoised(
    passes: _Passes,
    plan: list[_Step],
    timesteps: torch.Tensor,
    latent: torch.Tensor,
    generator: torch.Generator | None,
) -> Iterator[StepInfo]:
    """The state after each step."""
    from diffusers import CogVideoXDPMScheduler

    model, scheduler, predicted, before = passes.model, passes.scheduler, None, None
    for index, (step, timestep) in enumerate(zip(plan, timesteps, strict=True)):
        output = passes.output(latent, timestep, step)
        # Places as numbers: to look them up in its tables, a scheduler would wait for the device.
        with SentAhead(model.device):
            if isinstance(scheduler, CogVideoXDPMScheduler):  # it also wants the step before
                latent, predicted = scheduler.step(
                    output, predicted, step.place, before, latent, generator=generator, return_dict=False
                )
            else:
                result = scheduler.step(output, step.place, latent, generator=generator)
                latent, predicted = result.prev_sample, result.pred_original_sample
        latent, before = latent.to(model.dtype), step.place
        yield StepInfo(index, len(plan), step.place, latent, predicted)


def acceleration_on(transformer: torch.nn.Module) -> Acceleration | None:
    """What accelerates a transformer, however it was put there; None where nothing does.

    It stands where torch looks for what to call in a module's stead (``hero_engine/wrapping.py``).
    """
    module = getattr(transformer, "_orig_mod", transformer)
    return getattr(vars(module).get("_compiled_call_impl"), "run", None)


def dynamic_guidance(scale: float, timestep: float, steps: int) -> float:
    """Guidance of one of n steps, 1 to 1 + scale: 1 + scale (1 - cos(pi ((n - timestep) / n)^5)) / 2.

    ``timestep`` is the raw one (0 to 999), not the step's number, so that the scale jumps from step to step.
    It looks like an oversight, but it is what the published results were made with.
    """
    return 1 + scale * ((1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5.0)) / 2)


def is_guided(task: str, guidance: float | None = None) -> bool:
    """Whether :func:`sample` runs two passes a step.

    Raises:
        InputError: an unknown task, or a scale out of range.
    """
    return _check_guidance(check_task(task), guidance) > 1


def skipped_steps(
    model: AetherModel | Denoiser,
    task: str,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    dynamic_guidance: bool | None = None,
    guidance_skip: float = 0.0,
) -> list[int]:
    """Numbers (from 0) of the steps that :func:`sample` runs without the unconditional pass, where no session
    needs it.

    None where the run is not guided at all. Arguments, errors: as for ``sample``.
    """
    recipe, scheduler = check_task(task), copy.copy(model.scheduler)
    plan, _ = _plan(scheduler, recipe, steps, guidance, dynamic_guidance, guidance_skip, True)
    return [index for index, step in enumerate(plan) if step.spared] if is_guided(task, guidance) else []


def _check_conditions(model: AetherModel | Denoiser, conditions: Conditions) -> Task:
    if not isinstance(conditions, Conditions):
        raise InputError("conditions", "must come from aether.generation.tasks.condition()")
    recipe = check_task(conditions.task)
    spec, size = model.spec, (conditions.height, conditions.width)
    wanted = (1, spec.latent_frames(conditions.frames), spec.condition_channels, *spec.cells(*size))
    for field, tensor in (("cond", conditions.cond), ("uncond", conditions.uncond)):
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise InputError(
                "conditions", f"{field} has shape {tuple(tensor.shape)}; this model needs {wanted}"
            )
    return recipe


def check_steps(scheduler: Any, steps: int, field: str = "steps") -> int:
    """
    Raises:
        InputError: a number of steps that cannot be used.
    """
    most = scheduler.config.num_train_timesteps
    if not isinstance(steps, Integral) or isinstance(steps, bool) or not 1 <= steps <= most:
        raise InputError(field, f"{steps!r} cannot be used; give a whole number from 1 to {most}")
    return int(steps)


def _check_guidance(task: Task, guidance: float | None) -> float:
    """The scale, by default the task's."""
    guidance = task.default_guidance if guidance is None else guidance
    if not _is_number(guidance) or not math.isfinite(guidance) or guidance < 1:
        raise InputError(
            "guidance", f"{guidance!r} cannot be used; give a number from 1 (no guidance), such as 3"
        )
    if guidance > 1 and not task.guided:
        raise InputError("guidance", f"{task.name} has none: leave it out or give 1")
    return float(guidance)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
