"""Which model is measured, with which sampler and in how many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from aether.defaults import TASKS
from aether.model.parts import AetherModel

_SCHEDULERS = {"reference": "dpm", "deterministic": "ddim"}
SAMPLERS = tuple(_SCHEDULERS)
"""Aether's own, which is stochastic, and the deterministic one."""
STEPS = {task.name: task.accelerated_steps for task in TASKS.values()}

Loader = Callable[[], AetherModel]
"""Gives a worker its model; a function or partial that can be pickled."""


def loader_of(source: str) -> Loader:
    """For "miniature", or what ``aether.model.loading.load`` takes."""
    return load_miniature if source == "miniature" else partial(load_other, source)


def load_miniature() -> AetherModel:
    from aether.miniature import build

    return build()


def load_other(source: str) -> AetherModel:
    from aether.model.loading import load

    return load(source, dtype=torch.float32)


def with_sampler(model: AetherModel, sampler: str) -> AetherModel:
    """The model with one of SAMPLERS, on its own noise schedule."""
    from aether.model.loading import scheduler_like

    return replace(model, scheduler=scheduler_like(model.scheduler, _SCHEDULERS[sampler]))
