"""The methods that HERO is compared with, on ComfyUI's own CogVideoX transformer."""

import pytest

from .test_native_cogvideox import native  # noqa: F401 (a fixture)

STEPS = 12
CONFIGS = {
    "fora": {},
    "taylorseer": {"order": 2},
    "toca": {"ratio": 0.5},
    "duca": {},
    "worldcache": {"streams": (16,), "warmup": 4},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_full_is_bit_identical_and_nothing_is_left(native, name):  # noqa: F811
    import torch

    before = {key: sorted(vars(module)) for key, module in native.model.named_modules()}
    config = native.hero.METHODS[name](**{**CONFIGS[name], "interval": 1})
    with native.hero.hero_session(native.model, config, STEPS):
        assert torch.equal(native.run(), native.truth)
    assert torch.equal(native.run(), native.truth)
    assert {key: sorted(vars(module)) for key, module in native.model.named_modules()} == before


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_accelerated(native, name):  # noqa: F811
    config = native.hero.METHODS[name](**CONFIGS[name])
    with native.hero.hero_session(native.model, config, STEPS) as run:
        result = native.run()
    assert 0 < float((result - native.truth).norm() / native.truth.norm()) < 0.05
    report = run.report
    assert report.cached_steps >= 2
    assert report.bytes_cached == native.hero.cost.cached_bytes(report.shape, config, report.counts, 2, 4)


def test_a_feed_forward_for_every_token_is_the_models(native):  # noqa: F811
    """ToCa with every token computed: only the attention is reused, as a hook on the model does it."""
    import torch

    blocks, kept = native.model.blocks, {}
    schedule = native.hero.schedule.Schedule(2, 4)
    full = True

    def begin(*_):
        nonlocal full
        full = schedule.next().full

    def attention(number):
        def hook(module, args, output):
            if full:
                kept[number] = output
            return kept[number]

        return hook

    handles = [native.model.register_forward_pre_hook(begin)]
    handles += [block.attn_out.register_forward_hook(attention(n)) for n, block in enumerate(blocks)]
    expected = native.run()
    for handle in handles:
        handle.remove()
    with native.hero.hero_session(native.model, native.hero.TocaConfig(ratio=1.0), STEPS):
        result = native.run()
    assert not torch.equal(result, native.truth)
    assert float((result - expected).norm() / expected.norm()) < 1e-5
