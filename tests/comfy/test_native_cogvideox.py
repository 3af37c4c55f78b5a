"""HERO on ComfyUI's own CogVideoX transformer."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def native(part):
    """A random transformer of core's class and a denoising-like run on it."""
    import comfy.ops
    import torch
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, time_embed_dim=32,
        text_embed_dim=16, num_layers=6, sample_width=6, sample_height=4, sample_frames=17, patch_size=1,
        use_rotary_positional_embeddings=True, max_text_seq_length=8, dtype=torch.float32, device="cpu",
        operations=comfy.ops.manual_cast,
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)

    @torch.no_grad()
    def run(batch=2):
        generator = torch.Generator().manual_seed(1)
        latent = torch.randn(batch, 16, 5, 4, 6, generator=generator)
        text = torch.randn(batch, 8, 16, generator=generator)
        for timestep in range(900, 0, -75):
            velocity = model(latent, torch.full((batch,), float(timestep)), text, transformer_options={})
            latent = latent - 0.05 * velocity
        return latent

    return SimpleNamespace(model=model, run=run, truth=run(), hero=part("hero_engine"))


def test_every_step_full_is_bit_identical_and_nothing_is_left(native):
    import torch

    config = native.hero.HeroConfig(interval=1)
    with native.hero.hero_session(native.model, config, 12):
        assert torch.equal(native.run(), native.truth)
    assert torch.equal(native.run(), native.truth)
    assert not {"_forward", "_compiled_call_impl"} & vars(native.model).keys()


@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
def test_all_blocks_and_tokens_refreshed_is_the_model(native, shallow):
    config = native.hero.HeroConfig(tau="100%", ratio=1.0, interval=3, shallow=shallow)
    with native.hero.hero_session(native.model, config, 12) as run:
        result = native.run()
    assert float((result - native.truth).norm() / native.truth.norm()) < 1e-5
    assert run.report.cached_steps == 6


@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
def test_it_is_accelerated(native, shallow):
    config = native.hero.HeroConfig.preset("paper", shallow=shallow)
    with native.hero.hero_session(native.model, config, 12) as run:
        result = native.run()
    assert 0 < float((result - native.truth).norm() / native.truth.norm()) < 0.05
    report = run.report
    assert (report.full_steps, report.cached_steps) == (8, 4)
    predicted = native.hero.cost.cached_bytes(report.shape, config, report.counts, 2, 4)
    assert report.bytes_cached == predicted


def test_attention_overrides_of_others_are_kept(native):
    """Nodes that choose an attention backend set an override."""
    import torch

    calls = []

    def theirs(function, *args, **kwargs):
        calls.append(args[1].shape[1])
        return function(*args, **kwargs)

    config = native.hero.HeroConfig(warmup=1, text="omit")
    latent, text = torch.randn(1, 16, 5, 4, 6), torch.randn(1, 8, 16)
    options = {"optimized_attention_override": theirs}
    with native.hero.hero_session(native.model, config), torch.no_grad():
        for timestep in (900.0, 800.0):
            native.model(latent, torch.tensor([timestep]), text, transformer_options=options)
    # Six blocks in full, on 8 + 120 tokens, then three shallow ones on a sixth of the video's.
    assert calls == [128] * 6 + [20] * 3
    assert options == {"optimized_attention_override": theirs}
