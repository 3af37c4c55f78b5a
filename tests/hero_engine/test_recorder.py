"""What is recorded of reuse is what a cached step gives."""

import pytest
import torch

from hero_engine import HeroConfig, hero_session
from hero_engine.tune.sketch import Sketch
from hero_engine.tune.slots import Slots, per_token
from hero_engine.tune.tables import SKETCH

from .models import denoise, noise, relative, scheduler
from .tuning import GRID, STEPS, recorded, small_model

CPU = torch.device("cpu")


def answers(model, *session):
    """The model's answers in every step of a run, inside a session."""
    found = []
    handle = model.register_forward_hook(lambda _module, _inputs, result: found.append(result[0].clone()))
    try:
        if session:
            with hero_session(model, *session):
                denoise(model, steps=STEPS, grid=GRID)
        else:
            denoise(model, steps=STEPS, grid=GRID)
    finally:
        handle.remove()
    return found


def sketched(off):
    """Of all tokens, in the order in which they are recorded."""
    index = Slots(GRID, 24, 0, CPU).index
    parts = per_token(off, GRID, 2).index_select(1, index).flatten()[None]
    return Sketch(parts.shape[1], SKETCH, CPU)(parts)[0]


@pytest.mark.parametrize("full", [1, 2, 4])
def test_of_all_that_the_blocks_add(full):
    """Some full steps, then one that is cached and refreshes a single token of the 24."""
    model = small_model()
    mask = "1" * full + "0" * (STEPS - full)
    config = HeroConfig(tau=1, patch=GRID, ratio=1 / 24, feedback=0.0, mask=mask, shallow="forecast")
    true, cached = answers(model), answers(model, config, STEPS, noise())
    times = scheduler()
    times.set_timesteps(STEPS)
    off = noise().factors(float(times.timesteps[full]))[1] * (cached[full] - true[full])
    measured = sketched(off) / sketched(denoise(model, steps=STEPS, grid=GRID)).norm()
    stale = torch.from_numpy(recorded(model).tables.stale[full])
    # Two neighbours are extrapolated by a step.
    expected = stale[0] if full == 1 else 2 * stale[0] - stale[1]
    assert relative(measured, expected) < 0.25
