"""The samplers that Aether runs with: diffusers' schedulers of CogVideoX, with Aether's noise schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..defaults import SCHEDULERS
from ..errors import InputError, reading
from .weights import read_json

SCHEDULER_CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}
"""The scheduler settings of BASE_REPO, used where a source has none of its own."""

_MOST_TIMESTEPS = 100_000


def make_scheduler(kind: str = "dpm", config_file: str | Path | None = None):
    """Aether's scheduler ("dpm") or its deterministic sister ("ddim"), by a scheduler_config.json if there.

    The reference, too, makes its DPM scheduler from CogVideoX's file, which names DDIM.

    Raises:
        InputError: field "scheduler".
    """
    made = _scheduler_class(kind)
    settings = SCHEDULER_CONFIG
    if config_file is not None and Path(config_file).is_file():
        content = read_json(Path(config_file), "scheduler")
        settings = {key: value for key, value in content.items() if not key.startswith("_")}
    with reading("scheduler", f"{config_file} describes no noise schedule that can be used"):
        if not 1 <= settings.get("num_train_timesteps", 1000) <= _MOST_TIMESTEPS:
            raise ValueError(f"num_train_timesteps is not from 1 to {_MOST_TIMESTEPS}")
        scheduler = made.from_config(settings)
        if not torch.isfinite(scheduler.alphas_cumprod).all():
            raise ValueError("NaN or infinite values come of it")
    return scheduler


def scheduler_like(own: Any, kind: str) -> Any:
    """A scheduler of this kind, see :func:`make_scheduler`, with the noise schedule of another.

    Raises:
        InputError: field "scheduler".
    """
    return _scheduler_class(kind).from_config(own.config)


def _scheduler_class(kind: str) -> Any:
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    kinds = dict(zip(SCHEDULERS, (CogVideoXDPMScheduler, CogVideoXDDIMScheduler), strict=True))
    if kind not in kinds:
        raise InputError("scheduler", f"{kind!r} is not one of {', '.join(kinds)}")
    return kinds[kind]
