"""Whether a model still has its weights."""

import pytest
import torch

from hero_engine import hero_session
from hero_engine.tune import weights_digest

from .models import noise
from .tuning import STEPS, small_model


def test_equal_weights_have_equal_digests():
    model = small_model()
    assert weights_digest(model) == weights_digest(small_model()) and len(weights_digest(model)) == 16
    with hero_session(model, "balanced", STEPS, noise()):
        assert weights_digest(model) == weights_digest(small_model())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_every_dtype_has_one(dtype):
    model = torch.nn.Linear(5, 3)
    model.weight.data = model.weight.data.to(dtype)
    assert weights_digest(model) not in (weights_digest(torch.nn.Linear(5, 3)), "")


def test_other_weights_shapes_and_names_have_others():
    model, found = small_model(), set()
    with torch.no_grad():
        for change in (
            lambda: None,
            lambda: model.transformer_blocks[2].attn1.to_q.weight.mul_(1.001),
            lambda: model.proj_out.bias.add_(1e-4),
            model.double,
        ):
            change()
            found.add(weights_digest(model))
    found |= {weights_digest(small_model(seed=1)), weights_digest(small_model(blocks=3))}
    found |= {weights_digest(one) for one in (torch.nn.Linear(1, 2), torch.nn.Linear(2, 1), torch.nn.ReLU())}
    assert len(found) == 9
