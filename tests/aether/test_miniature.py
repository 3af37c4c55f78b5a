"""The miniature: Aether's form, weights from a seed, and numbers of a size that sampling can live with."""

import numpy as np
import pytest
import torch

from aether.errors import InputError
from aether.miniature import build, random_scene, render


@pytest.fixture(scope="module")
def model():
    return build(0)


def test_it_has_aethers_form(model):
    config = model.transformer.config
    assert type(model.transformer).__name__ == "CogVideoXTransformer3DModel"
    assert type(model.vae).__name__ == "AutoencoderKLCogVideoX"
    assert type(model.scheduler).__name__ == "CogVideoXDPMScheduler"
    assert (config.in_channels, config.out_channels, config.patch_size) == (96, 56, 1)
    assert len(model.transformer.transformer_blocks) == 12
    assert config.use_rotary_positional_embeddings and not config.use_learned_positional_embeddings
    assert (model.spec.latent_channels, model.spec.spatial_scale, model.spec.temporal_scale) == (16, 8, 4)
    assert model.vae.config.invert_scale_latents and model.vae.config.scaling_factor == 0.7
    assert model.spec.default_size == (64, 96) and model.spec.default_frames == 17
    assert model.name == "miniature" and not model.trained
    assert build().trained and build().transformer.config == config


def test_the_token_grid_takes_heros_patches(model):
    frames, (height, width) = model.spec.default_frames, model.spec.default_size
    grid = ((frames - 1) // 4 + 1, height // 8, width // 8)
    assert grid == (5, 8, 12)
    assert grid[1] % 2 == 0 and grid[2] % 3 == 0


def test_the_scheduler_is_aethers(model):
    """Zero terminal SNR, trailing steps, velocities."""
    scheduler = model.scheduler
    assert scheduler.alphas_cumprod[-1] == pytest.approx(0, abs=1e-12)
    assert scheduler.config.prediction_type == "v_prediction"
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[0] == 999 and scheduler.timesteps[-1] == 19


def test_weights_come_from_the_seed_alone(model):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again, other = build(0), build(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for part in ("transformer", "vae"):
        first, second, third = (getattr(m, part).state_dict() for m in (model, again, other))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not any(torch.equal(first[key], third[key]) for key in first if first[key].ndim > 1)
    assert torch.equal(model.prompt_embeds, again.prompt_embeds)


def test_weights_are_the_same_on_every_machine(model):
    """Numbers written down once; they change only if the drawing of weights changes."""
    weight = model.transformer.transformer_blocks[3].attn1.to_q.weight
    assert weight[0, :3].tolist() == pytest.approx(EXPECTED_QUERY, rel=1e-6)
    assert model.prompt_embeds[0, 0, :3].tolist() == pytest.approx(EXPECTED_PROMPT, rel=1e-6)


EXPECTED_QUERY = [0.12367087, -0.09664956, -0.01968777]
EXPECTED_PROMPT = [-1.3571254, -0.43252841, -1.0243482]


def test_latents_and_pictures_have_a_sane_size(model):
    clip = torch.from_numpy(render(random_scene(0), 17, 64, 96, samples=1).rgb)
    with torch.no_grad():
        posterior = model.vae.encode(clip.permute(3, 0, 1, 2)[None] * 2 - 1).latent_dist
        latent = torch.randn(1, 16, 5, 8, 12, generator=torch.Generator().manual_seed(0))
        picture = model.vae.decode(latent).sample
    assert posterior.mean.shape == (1, 16, 5, 8, 12) and picture.shape == (1, 3, 17, 64, 96)
    assert 0.3 < posterior.mean.std() < 2 and posterior.std.max() < 0.2
    assert 0.2 < picture.std() < 0.8 and (picture.abs() < 1).float().mean() > 0.9


def test_velocities_have_a_sane_size_and_depend_on_everything(model):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 5, 96, 8, 12, generator=generator)

    def velocity(latent, timestep):
        with torch.no_grad():
            return model.transformer(latent, model.prompt_embeds, torch.tensor([timestep])).sample

    base = velocity(latent, 999)
    assert base.shape == (1, 5, 56, 8, 12) and 0.3 < base.std() < 0.8
    assert 0.05 < (velocity(latent, 899) - base).std() < 1
    latent[:, :, 56:] = 0
    assert 0.05 < (velocity(latent, 999) - base).std() < 1


def test_half_precision(model):
    small = build(0, dtype=torch.bfloat16)
    assert small.dtype == small.transformer.dtype == small.vae.dtype == torch.bfloat16
    assert torch.equal(small.prompt_embeds, model.prompt_embeds.bfloat16())


@pytest.mark.parametrize("seed", [-1, 0.5, np.nan, True])
def test_bad_seeds_are_named(seed):
    with pytest.raises(InputError, match="^seed: "):
        build(seed)
