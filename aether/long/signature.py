"""What the results of windows hang on, so that finished ones are taken up by the same run alone."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ..model.parts import AetherModel
from ..run import job

_SAMPLES = 16  # of every weight, for the fingerprint


def run_signature(
    model: AetherModel,
    task: str,
    settings: job.Settings,
    accelerator: job.Accelerator | None,
    device: str,
) -> dict[str, Any]:
    """All that a window's result hangs on but its pictures: the settings, and the model down to a sample of
    its weights."""
    # Without diffusers' own entries, some of which are in another order in every process.
    scheduler = {name: value for name, value in model.scheduler.config.items() if not name.startswith("_")}
    return {
        "steps": job.steps_of(task, settings),
        "guidance": settings.guidance,
        "seed": settings.seed,
        "accelerator": accelerator.settings() if accelerator else None,
        "scheduler": {"class": type(model.scheduler).__name__, **scheduler},
        "weights": fingerprint(model.transformer, model.vae, model.prompt_embeds),
        "device": device,
        "dtype": str(model.dtype),
    }


def fingerprint(transformer: torch.nn.Module, vae: torch.nn.Module, prompt: torch.Tensor) -> str:
    """A hash of the names, shapes and a few values of all weights: reads little, sees another checkpoint."""
    digest = hashlib.sha256()
    for part in (transformer, vae):
        for name, weight in part.state_dict().items():
            flat = weight.detach().reshape(-1)
            few = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].to("cpu", torch.float32)
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + few.numpy().tobytes())
    digest.update(prompt.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()
