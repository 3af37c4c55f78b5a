"""HERO's refresh beside a full step is what a cached step computes."""

from dataclasses import replace

import pytest
import torch

from hero_engine import HeroConfig, hero_session
from hero_engine.tune.recorder import RecordingConfig

from .models import denoise, noise
from .tuning import GRID, STEPS, small_model

SEED = 5
CONFIG = HeroConfig(tau=3, ratio=1 / 3, patch=(1, 3, 1), seed=SEED, mask="10" + "1" * (STEPS - 2))


class Heard:
    """What each block of a model gives, call by call: ``calls[block]`` holds (video, text)."""

    def __init__(self, model):
        self.calls = [[] for _ in model.transformer_blocks]
        self._model = model

    def __enter__(self):
        self._handles = [
            block.register_forward_hook(lambda _module, _inputs, result, calls=calls: calls.append(result))
            for block, calls in zip(self._model.transformer_blocks, self.calls, strict=True)
        ]
        return self

    def __exit__(self, *_):
        for handle in self._handles:
            handle.remove()


def heard(model, config):
    """Of a run with these settings."""
    with hero_session(model, config, STEPS, noise()), Heard(model) as listener:
        denoise(model, steps=STEPS, grid=GRID)
    return listener.calls


@pytest.mark.parametrize("text", ["omit", "refresh"])
def test_in_every_shallow_block(text):
    """In step 1, for the same drawn tokens; a recording draws with the seed and the number of the step."""
    model, config = small_model(), replace(CONFIG, text=text)
    cached = heard(model, config)
    beside = heard(model, RecordingConfig(hero=replace(config, seed=SEED - 1)))
    assert [len(calls) for calls in cached] == [
        STEPS,
        STEPS,
        STEPS,
        STEPS - 1,
    ]  # the deep one is left out once
    assert [len(calls) for calls in beside] == [2 * STEPS] * 4
    for block in range(3):
        step, same = cached[block][1], beside[block][2]
        assert step[0].shape == same[0].shape == (1, 8, 64)
        assert torch.equal(step[0], same[0])
        # The full step after it takes all tokens, as they would be without.
        assert beside[block][3][0].shape == (1, 24, 64)


def test_other_tokens_differ():
    model = small_model()
    cached = heard(model, CONFIG)
    beside = heard(model, RecordingConfig(hero=replace(CONFIG, seed=SEED)))
    assert not torch.equal(cached[2][1][0], beside[2][2][0])
