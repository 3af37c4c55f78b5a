"""HERO Patch on MODELs that core's own loader makes of a checkpoint, through core's own samplers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .core_models import CORE_MODELS

SETTINGS = {
    "preset": "custom", "interval": 3, "warmup": "2", "cooldown": "1", "patch_columns": 2, "tau": 0.5, "ratio": 0.5,
}  # fmt: skip
STEPS = 8


@pytest.fixture(scope="module", params=CORE_MODELS)
def core(request: pytest.FixtureRequest, pack: Any) -> SimpleNamespace:
    """A MODEL of core's and a task for it."""
    made = CORE_MODELS[request.param]
    task = SimpleNamespace(
        positive=made.conditioning(1),
        negative=made.conditioning(2),
        latent={"samples": torch.zeros(1, *made.latent)},
    )
    return SimpleNamespace(model=made.load(), task=task, name=request.param)


def test_every_step_full_is_bit_identical(nodes, ksampler, core):
    plain = ksampler(core.model, core.task, steps=STEPS)
    patched = nodes.HeroPatch(model=core.model, **SETTINGS | {"interval": 1})[0]
    assert torch.equal(ksampler(patched, core.task, steps=STEPS), plain)
    assert torch.equal(ksampler(core.model, core.task, steps=STEPS), plain)


@pytest.mark.parametrize("feedback", [0.0, 1.0])
def test_it_is_accelerated_and_the_second_run_like_the_first(nodes, part, ksampler, core, feedback):
    plain = ksampler(core.model, core.task, steps=STEPS)
    patched = nodes.HeroPatch(model=core.model, **SETTINGS, feedback=feedback)[0]
    first, second = (ksampler(patched, core.task, steps=STEPS) for _ in range(2))
    other = ksampler(patched, core.task, steps=STEPS, seed=2)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert 0 < float((first - plain).norm() / plain.norm()) < 0.3
    for result in (first, other):
        report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
        assert (report.full_steps, report.cached_steps) == (4, 4)
        assert report.steps == STEPS
