"""Weights in float8 and blocks on the host, without HERO and with it."""

import pytest
import torch

from aether.memory import FLOAT8, keep_in_float8, offload_blocks, weight_bytes
from aether.sampling import sample
from aether.tasks import condition
from hero_engine import HeroConfig, hero_session


def run(model, tiny, hero, steps=7):
    generator = torch.Generator().manual_seed(2)
    conditions = condition(model, "planning", **tiny.inputs("planning"), generator=generator)
    session = None
    if hero:
        session = hero_session(model.transformer, HeroConfig(warmup=2, patch=(1, 1, 3)), steps)
    return sample(model, conditions, steps=steps, generator=generator, session=session)


@pytest.mark.parametrize("hero", [False, True])
def test_weights_in_float8_give_what_rounded_weights_give(tiny, hero):
    model, rounded = tiny.model(), tiny.model()
    before = weight_bytes(model.transformer)
    keep_in_float8(model.transformer, torch.float32)
    kept = {name for name, weight in model.transformer.named_parameters() if weight.dtype == FLOAT8}
    assert any("attn1.to_q" in name for name in kept) and not any("norm" in name for name in kept)
    assert weight_bytes(model.transformer) < 0.75 * before  # modulation and patch embedding stay as they are
    for name, weight in rounded.transformer.named_parameters():
        if name in kept:
            weight.data = weight.data.to(FLOAT8).float()
    assert torch.equal(run(model, tiny, hero), run(rounded, tiny, hero))
    assert not torch.equal(run(model, tiny, hero), run(tiny.model(), tiny, hero))


@pytest.mark.parametrize("hero", [False, True])
@pytest.mark.parametrize("float8", [False, True])
def test_blocks_on_the_host_change_nothing(tiny, hero, float8):
    model, plain = tiny.model(), tiny.model()
    for one in (model, plain):
        if float8:
            keep_in_float8(one.transformer, torch.float32)
    offload_blocks(model.transformer, torch.device("cpu"))
    assert model.device == torch.device("cpu")
    assert torch.equal(run(model, tiny, hero), run(plain, tiny, hero))


def test_a_block_that_hero_skips_is_not_brought_over(tiny):
    from diffusers.hooks import group_offloading

    model, brought = tiny.model(), []
    offload_blocks(model.transformer, torch.device("cpu"))
    original = group_offloading.ModuleGroup.onload_

    def onload(group, *args):
        brought.append(group.onload_leader)
        return original(group, *args)

    group_offloading.ModuleGroup.onload_ = onload
    try:
        run(model, tiny, hero=True)
    finally:
        group_offloading.ModuleGroup.onload_ = original
    counts = [brought.count(block) for block in model.transformer.transformer_blocks]
    assert counts == [7, 7, 4]  # of three blocks two are shallow; steps 0, 1, 3 and 5 of seven are full
