"""HERO, or another method, around a sampling run of ComfyUI's: on before the first step, off whatever ends
it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY

from ...aether.errors import InputError
from ...hero_engine import ConfigError, HeroRun, MethodConfig, NoiseSchedule, hero_session
from ...hero_engine.methods import checked_class
from ...hero_engine.models.families import adapter_for, family_of
from . import core_samplers
from .errors import on_canvas
from .hero_reports import ReportBox
from .model import KEY, AetherBase, kind_of

_RUN = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
_CALL = comfy.patcher_extension.WrappersMP.APPLY_MODEL
_UNCONDITIONAL = 1  # in core's "cond_or_uncond"

Done = Callable[[HeroRun, torch.Tensor], None]
Noise = Callable[[], NoiseSchedule | None]
Opener = Callable[[torch.nn.Module, int, Noise], AbstractContextManager[HeroRun]]
"""Opens a session on a transformer for a run of so many steps. The noise schedule is found when it is asked
for; None where it is not known (`core_samplers.noise_of`)."""


def transformer_of(model: Any) -> torch.nn.Module:
    """What HERO accelerates in a MODEL.

    Raises:
        InputError: a kind of model that HERO does not support; says why.
    """
    inner = getattr(model.model, "diffusion_model", None)
    transformer = inner.transformer if isinstance(model.model, AetherBase) else inner
    try:
        family_of(transformer)
    except ConfigError as error:
        raise InputError("model", f"is {kind_of(model)}: {error.problem}") from error
    return transformer


def is_measured(model: Any) -> bool:
    """Whether the quality of HERO's presets was measured on a MODEL of this family."""
    return family_of(transformer_of(model)).measured


def output_streams(model: Any) -> tuple[int, ...]:
    """Channels of each stream in what a MODEL gives: Aether's RGB, disparity and raymap, or all as one."""
    channels = model.model.latent_format.latent_channels
    if not isinstance(model.model, AetherBase):
        return (channels,)
    pictures = model.model.parts.spec.latent_channels
    return pictures, pictures, channels - 2 * pictures


def patched(model: Any, config: MethodConfig, node_id: str | None) -> Any:
    """A clone of a MODEL whose sampling runs are accelerated. One that is patched already is patched anew.

    Raises:
        InputError: see :func:`transformer_of`.
    """
    box = ReportBox(node_id)
    clone = in_session(model, config, lambda run, output: box.add(run.report, output))
    clone.set_attachments(KEY, box)
    return clone


def in_session(model: Any, config: MethodConfig, done: Done) -> Any:
    """A clone of a MODEL whose sampling runs are sessions of their own, in place of those it may have.

    Args:
        config: the settings of a method.
        done: called after each run that was finished, with the session's run and the latent.

    Raises:
        InputError: see :func:`transformer_of`.
    """
    checked_class(config, adapter_for(transformer_of(model)))

    def open_session(
        transformer: torch.nn.Module, steps: int, noise: Noise
    ) -> AbstractContextManager[HeroRun]:
        fitting, schedule = config, noise() if config.needs_noise else None
        if config.needs_noise and schedule is None:
            fitting = replace(config, feedback=0.0)
        return hero_session(transformer, fitting, steps, schedule)

    return in_sessions_of(model, open_session, done)


def in_sessions_of(model: Any, open_session: Opener, done: Done | None = None) -> Any:
    """As :func:`in_session`, with sessions that somebody else opens."""
    clone = model.clone()
    clone.remove_wrappers_with_key(_RUN, KEY)
    clone.add_wrapper_with_key(_RUN, KEY, _Session(open_session, done))
    return clone


class _Session:
    """Stands around core's ``outer_sample``: one call is one sampling run. Holds nothing of a run itself."""

    def __init__(self, open_session: Opener, done: Done | None):
        self._open = open_session
        self._done = done

    @on_canvas()
    def __call__(
        self, executor: Any, noise: Any, latent: Any, sampler: Any, sigmas: Any, *args: Any, **kwargs: Any
    ):
        guider = executor.class_obj
        if "context_handler" in guider.model_options:
            raise InputError(
                "model",
                "has context windows on it, which move from step to step, so that nothing can be reused: "
                "bypass HERO or the context windows",
            )
        if guider.model_patcher.get_additional_models_with_key("multigpu"):
            raise InputError(
                "model",
                "is split over several devices, and HERO's cache belongs to one: bypass HERO or MultiGPU CFG "
                "Split",
            )
        if len(sigmas) < 2:
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)  # no step at all
        if core_samplers.goes_back(sampler):
            logging.warning("Aether: this sampler goes back and forth in time: it runs without HERO")
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        transformer = transformer_of(guider.model_patcher)
        schedule = partial(core_samplers.noise_of, guider.model_patcher, sampler, sigmas)
        _leave_uncompiled(guider.model_options)
        steps = core_samplers.timesteps(guider.model_patcher, sampler, sigmas)
        with self._open(transformer, steps, schedule) as run:
            # Core has made a copy of the options for this run.
            comfy.patcher_extension.add_wrapper_with_key(
                _CALL, KEY, _name_branches(run, guider), guider.model_options, is_model_options=True
            )
            output = executor(noise, latent, sampler, sigmas, *args, **kwargs)
        if run.reports and self._done:
            self._done(run, output)
        return output


def _leave_uncompiled(options: dict[str, Any]) -> None:
    """Core's compiling nodes put compiled modules in the place of the model's for each call. HERO's choices
    would be traced, and compiled anew at every step."""
    wrappers = options.get("transformer_options", {}).get("wrappers", {}).get(_CALL, {})
    if wrappers.pop(COMPILE_KEY, None):
        logging.warning("Aether: under HERO the model runs uncompiled")


def _name_branches(run: HeroRun, guider: Any) -> Callable[..., torch.Tensor]:
    """Around every call of the model: conditional and unconditional are distinguished by core's ids.

    They come in one batch, or one by one, in an order that may change when memory is short. LoRA hooks may
    change the weights from call to call. Models may be given other timesteps than the sampler's: with an
    inpaint mask, smaller ones for what is kept.
    """

    def call(executor: Any, x: Any, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        options = args[3] if len(args) > 3 else kwargs["transformer_options"]
        ids = tuple(str(name) for name in options.get("uuids", ()))
        hooks = executor.class_obj.current_patcher.current_hooks
        strengths = tuple(hook.strength for hook in hooks.hooks) if hooks else ()
        timestep = float(executor.class_obj.model_sampling.timestep(t[:1])[0])
        with run.branch(ids or None, strengths, _weights(guider, options), timestep):
            return executor(x, t, *args, **kwargs)

    return call


def _weights(guider: Any, options: dict[str, Any]) -> tuple[float, ...] | None:
    """The weight of each part of a batch in core's guided answer; None where something other than a scale
    makes that answer, or a part of the picture has a prompt of its own."""
    kinds = options.get("cond_or_uncond", ())
    changed = any(f"sampler_{name}cfg_function" in guider.model_options for name in ("", "pre_", "post_"))
    plain = type(guider) is comfy.samplers.CFGGuider and not changed
    if not plain or not kinds or len(set(kinds)) < len(kinds):
        return None
    return tuple(1 - guider.cfg if kind == _UNCONDITIONAL else guider.cfg for kind in kinds)
