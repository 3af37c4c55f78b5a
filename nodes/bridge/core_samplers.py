"""What HERO must know of core's samplers, which have names only: how often they call the model, and the
weight of an answer in the result."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

import comfy.k_diffusion.sampling
import comfy.model_sampling
import torch

from ...hero_engine import NoiseSchedule, StepNoise

_STAGES = {
    "dpm_2": 2,
    "dpmpp_sde": 2,
    "seeds_2": 2,
    "seeds_3": 3,
}
"""Times of its own at which a sampler asks in each step but the last, where that is more than one."""
_FLOW_STAGES = {"dpmpp_2s_ancestral": 2}
"""The same of samplers that do so with flows only; with other models they ask at the next step's time."""

# Deterministic samplers that ask once a step; core's ddim is its euler.
_FIRST_ORDER = {"euler"}
_MULTISTEP = {"dpmpp_2m", "res_multistep", "deis", "gradient_estimation"}
_OUT_OF_ORDER = {"heunpp2"}  # asks for later steps, and then for earlier ones
_NOISELESS = {"res_multistep", "res_multistep_cfg_pp"}  # take a noise sampler for their ancestral kin alone
_LEAST_LAST_STEP = 0.5  # of the usual one


def goes_back(sampler: Any) -> bool:
    """Whether a sampler asks for a step after one that comes later, so that nothing can be reused."""
    return name_of(sampler) in _OUT_OF_ORDER


def adds_noise(name: str) -> bool:
    """Whether a sampler of core's name adds noise of its own in every step, as its function's parameters say;
    False for one that is not known."""
    function = getattr(comfy.k_diffusion.sampling, f"sample_{name}", None)
    if function is None:
        return False
    parameters = inspect.signature(function).parameters
    if "eta" in parameters:  # the strength; that of dpm_fast and dpm_adaptive is 0
        return bool(parameters["eta"].default > 0)
    return "noise_sampler" in parameters and name not in _NOISELESS


def timesteps(model: Any, sampler: Any, sigmas: torch.Tensor) -> int:
    """At how many times a sampler asks a MODEL in a run.

    Args:
        sigmas: (steps + 1,) of the run; a step that repeats one is at no time of its own.
    """
    flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    stages = (_STAGES | _FLOW_STAGES if flow else _STAGES).get(name_of(sampler), 1)
    return stages * (len(sigmas[:-1].unique()) - 1) + 1


def noise_of(model: Any, sampler: Any, sigmas: torch.Tensor) -> NoiseSchedule | None:
    """The noise of a MODEL, as a sampler removes it: Aether Sampler's, or one of core's.

    Args:
        sigmas: (steps + 1,) of the run.

    Returns:
        None where the sigmas do not fall. Error feedback is better left out with samplers that ask more than
        once a step, which weight steps differently, and with multistep ones whose last step is shorter than
        the others (with core's schedulers "normal", "karras" and their like). With core's stochastic ones
        results were no more accurate in trials, and with uni_pc less. Others were not tried.
    """
    if scheduler := getattr(sampler, "scheduler", None):
        return NoiseSchedule.of(scheduler)
    sampling, name = model.get_model_object("model_sampling"), name_of(sampler)
    even = name in _MULTISTEP and _is_even(sampling, sigmas)
    if not even and name not in _FIRST_ORDER:
        logging.info("Aether: HERO leaves out error feedback with %s", name or "this sampler")
    steps = sigmas[:-1].double()
    if not (steps.diff() <= 0).all():
        return None
    return StepNoise(
        timesteps=tuple(float(time) for time in sampling.timestep(sigmas[:-1])),
        ratios=tuple(_ratio(sampling, sigma) for sigma in steps),
        steps=tuple(_factors(sampling, sigma) for sigma in steps),
        multistep=name in _MULTISTEP,
        supports_feedback=even or name in _FIRST_ORDER,
    )


def _ratio(sampling: Any, sigma: torch.Tensor) -> float:
    """Signal over noise in a noisy latent, read off what a ModelSampling makes of either."""
    one, none = sigma.new_ones(1, 1), sigma.new_zeros(1, 1)
    sigma = sigma[None]
    signal = float(sampling.noise_scaling(sigma, none, one, False))
    noise = float(sampling.noise_scaling(sigma, one, none, False))
    return signal / noise if noise else math.inf


def _factors(sampling: Any, sigma: torch.Tensor) -> tuple[float, float]:
    """Of what the model is given and of its answer in the clean latent: linear in every ModelSampling of
    core, and read off it."""
    one, none = sigma.new_ones(1, 1), sigma.new_zeros(1, 1)
    sigma = sigma[None]
    scale = float(sampling.calculate_input(sigma, one))
    of_latent = float(sampling.calculate_denoised(sigma, none, one))
    return of_latent / scale, float(sampling.calculate_denoised(sigma, one, none))


def name_of(sampler: Any) -> str:
    """Of a KSAMPLER's function, as in core's list of samplers; those of GPUs have the others' names."""
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    return name.removeprefix("sample_").removesuffix("_gpu")


def _is_even(sampling: Any, sigmas: torch.Tensor) -> bool:
    """Whether the last step is about as long as the others, on the scale of timesteps."""
    times = [float(sampling.timestep(sigma)) for sigma in (sigmas[0], sigmas[-2])]
    return times[1] * max(1, len(sigmas) - 2) >= _LEAST_LAST_STEP * (times[0] - times[1])
