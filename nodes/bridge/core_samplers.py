"""What HERO must know of core's samplers, which have names only: how often they ask the model, and what an
answer weighs in the result."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ...aether.errors import InputError
from ...hero_engine import NoiseSchedule

_STAGES = {
    "dpm_2": 2,
    "dpmpp_sde": 2,
    "seeds_2": 2,
    "seeds_3": 3,
}
"""Times of its own at which a sampler asks in each step but the last, where that is more than one."""

# Deterministic samplers that ask once a step; core's ddim is its euler.
_FIRST_ORDER = {"euler"}
_MULTISTEP = {"dpmpp_2m", "res_multistep", "deis", "gradient_estimation"}
_OUT_OF_ORDER = {"heunpp2"}  # asks for later steps, and then for earlier ones
_LEAST_LAST_STEP = 0.5  # of the usual one


def goes_back(sampler: Any) -> bool:
    """Whether a sampler asks for a step after one that comes later, so that nothing can be reused."""
    return _name(sampler) in _OUT_OF_ORDER


def timesteps(sampler: Any, steps: int) -> int:
    """At how many times a sampler asks the model in so many steps."""
    stages = _STAGES.get(_name(sampler), 1)
    return stages * (steps - 1) + 1


def noise_of(model: Any, sampler: Any, sigmas: torch.Tensor) -> NoiseSchedule | None:
    """The noise of a MODEL, as a sampler takes it away: Aether Sampler's, or one of core's.

    Returns:
        None where error feedback is better left out: steps of samplers that ask more than once a step weigh
        otherwise than it takes them to, and so do those of multistep ones whose last step is shorter than
        the others (with core's schedulers "normal", "karras" and their like); with core's stochastic ones
        results were no more accurate in trials; others were not tried.

    Raises:
        InputError: field "feedback", where timesteps are no places in a table of noise.
    """
    if scheduler := getattr(sampler, "scheduler", None):
        return NoiseSchedule.of(scheduler)
    sampling = model.get_model_object("model_sampling")
    table = getattr(sampling, "sigmas", None)
    if table is None or float(sampling.timestep(table[-1])) != len(table) - 1:
        raise InputError(
            "feedback",
            "goes by the noise schedule that the model was trained with, and another ModelSampling is on "
            "this MODEL: choose the preset custom and set feedback to 0, or bypass that node",
        )
    name = _name(sampler)
    even = name in _MULTISTEP and _is_even(sampling, sigmas)
    if not even and name not in _FIRST_ORDER:
        logging.info("Aether: HERO leaves out error feedback with %s", name or "this sampler")
        return None
    return NoiseSchedule(tuple((1 / (1 + table.double() ** 2)).tolist()), multistep=even)


def _name(sampler: Any) -> str:
    """Of a KSAMPLER's function, as in core's list of samplers; those of GPUs have the others' names."""
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    return name.removeprefix("sample_").removesuffix("_gpu")


def _is_even(sampling: Any, sigmas: torch.Tensor) -> bool:
    """Whether the last step is about as long as the others, on the scale of timesteps."""
    times = [float(sampling.timestep(sigma)) for sigma in (sigmas[0], sigmas[-2])]
    return times[1] * max(1, len(sigmas) - 2) >= _LEAST_LAST_STEP * (times[0] - times[1])
