"""HERO, or another method, around a sampling run of ComfyUI's: on before the first step, off whatever ends
it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.cogvideo.model
import comfy.patcher_extension
import torch

from ..aether.errors import InputError
from ..hero_engine import HeroRun, MethodConfig, hero_session
from .comfy_model import KEY, OUR_LOADERS, AetherBase, kind_of
from .hero_reports import ReportBox

_RUN = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
_CALL = comfy.patcher_extension.WrappersMP.APPLY_MODEL

Done = Callable[[HeroRun, torch.Tensor], None]


def transformer_of(model: Any) -> torch.nn.Module:
    """What HERO accelerates in a MODEL.

    Raises:
        InputError: a kind of model that HERO does not take.
    """
    if isinstance(model.model, AetherBase):
        return model.model.diffusion_model.transformer
    inner = getattr(model.model, "diffusion_model", None)
    if isinstance(inner, comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel):
        return inner
    raise InputError(
        "model",
        f"is {kind_of(model)}; HERO takes the MODEL of {OUR_LOADERS}, or a CogVideoX MODEL of core's loaders",
    )


def output_streams(model: Any) -> tuple[int, ...]:
    """Channels of each stream in what a MODEL gives: Aether's RGB, disparity and raymap, or all as one."""
    channels = model.model.latent_format.latent_channels
    if not isinstance(model.model, AetherBase):
        return (channels,)
    pictures = model.model.parts.latent_channels
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
        done: called after each run that came to its end, with the session's run and the latent.

    Raises:
        InputError: see :func:`transformer_of`.
    """
    transformer_of(model)
    clone = model.clone()
    clone.remove_wrappers_with_key(_RUN, KEY)
    clone.add_wrapper_with_key(_RUN, KEY, _Session(config, done))
    return clone


class _Session:
    """Stands around core's ``outer_sample``: one call is one sampling run. Holds nothing of a run itself."""

    def __init__(self, config: MethodConfig, done: Done):
        self._config = config
        self._done = done

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
                "is split over several devices, and what HERO caches belongs to one: bypass HERO or MultiGPU "
                "CFG Split",
            )
        transformer = transformer_of(guider.model_patcher)
        steps = len(sigmas) - 1
        with hero_session(transformer, self._config, steps=steps) as run:
            # Core has made a copy of the options for this run.
            comfy.patcher_extension.add_wrapper_with_key(
                _CALL, KEY, _name_branches(run), guider.model_options, is_model_options=True
            )
            output = executor(noise, latent, sampler, sigmas, *args, **kwargs)
        if run.reports:
            self._done(run, output)
        return output


def _name_branches(run: HeroRun) -> Callable[..., torch.Tensor]:
    """Around every call of the model: conditional and unconditional are told apart by core's ids.

    They come in one batch, or one by one, in an order that may change when memory is short. LoRA hooks may
    change the weights from call to call.
    """

    def call(executor: Any, x: Any, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        options = args[3] if len(args) > 3 else kwargs["transformer_options"]
        ids = " ".join(str(name) for name in options.get("uuids", ()))
        hooks = executor.class_obj.current_patcher.current_hooks
        strengths = tuple(hook.strength for hook in hooks.hooks) if hooks else ()
        with run.branch(ids or None, strengths):
            return executor(x, t, *args, **kwargs)

    return call
