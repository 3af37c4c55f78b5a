"""Which model is measured, with which sampler and in how many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from aether.defaults import SCHEDULERS, TASKS
from aether.model.parts import AetherModel

_SCHEDULERS = {"reference": SCHEDULERS[0], "deterministic": SCHEDULERS[1]}
SAMPLERS = tuple(_SCHEDULERS)
"""Aether's own, which is stochastic, and the deterministic one."""
STEPS = {task.name: task.accelerated_steps for task in TASKS.values()}

Loader = Callable[[], AetherModel]
"""Gives a worker its model; a function or partial that can be pickled."""


def load_model(source: str) -> AetherModel:
    """The "miniature", or what ``aether.model.loading.load`` takes, in float32."""
    from aether.miniature import build
    from aether.model.loading import load

    return build() if source == "miniature" else load(source, dtype=torch.float32)


def loader_of(source: str) -> Loader:
    return partial(load_model, source)


def with_sampler(model: AetherModel, sampler: str) -> AetherModel:
    """The model with one of SAMPLERS, on its own noise schedule."""
    from aether.model.schedulers import scheduler_like

    return replace(model, scheduler=scheduler_like(model.scheduler, _SCHEDULERS[sampler]))
