"""The residual form against the paper's per-block HERO."""

import pytest

from hero_engine import HeroConfig, hero_session

from .models import denoise, relative, tiny_transformer
from .oracle import PerBlockHero


def still_gates(model):
    """Take the timestep out of the gates (and of nothing else)."""
    for block in model.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            # Chunks: shift, scale, gate of the video; shift, scale, gate of the text.
            weight = norm.linear.weight.data.unflatten(0, (6, -1))
            weight[2] = weight[5] = 0
            norm.linear.bias.data += 0.3
    return model


def distances(config, model=None, steps=20):
    """Distance of each form from the untouched run, and of the two from each other."""
    model = tiny_transformer() if model is None else model
    truth = denoise(model, steps=steps)
    with hero_session(model, config, steps):
        residual = denoise(model, steps=steps)
    with PerBlockHero(model, config, steps):
        per_block = denoise(model, steps=steps)
    return relative(residual, truth), relative(per_block, truth), relative(residual, per_block)


def test_the_oracle_with_every_step_full_is_the_model():
    assert max(distances(HeroConfig(interval=1))) == 0


def test_refreshing_everything_everywhere_is_the_model_in_both_forms():
    assert max(distances(HeroConfig(tau="100%", ratio=1.0, interval=3))) < 1e-5


@pytest.mark.parametrize("text", ["omit", "refresh"])
@pytest.mark.parametrize("tau", [1, 3, 5])
@pytest.mark.parametrize("interval", [2, 4])
@pytest.mark.slow
def test_but_for_the_gates_the_two_forms_are_one(tau, interval, text):
    config = HeroConfig(tau=tau, interval=interval, text=text)
    residual, _, apart = distances(config, still_gates(tiny_transformer()))
    assert residual > 1e-3
    assert apart < 1e-5


def test_the_two_forms_are_one_over_uneven_gaps():
    config = HeroConfig(tau=3, mask="11001000011010001101")
    residual, _, apart = distances(config, still_gates(tiny_transformer()))
    assert residual > 1e-3
    assert apart < 1e-5


def test_with_moving_gates_they_differ():
    assert distances(HeroConfig())[2] > 1e-4
