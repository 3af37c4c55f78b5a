"""A model's numbers, read off its configs alone."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

from aether.errors import InputError
from aether.model.parts import AetherModel, Denoiser, Encoder
from aether.model.rotary import rotary_embeddings
from aether.spec import AETHER_V1, AetherSpec

TRANSFORMER = {
    "num_attention_heads": 48, "in_channels": 96, "out_channels": 56, "num_layers": 42, "sample_frames": 41,
    "use_rotary_positional_embeddings": True, "patch_size_t": None, "ofs_embed_dim": None,
}  # fmt: skip
VAE = {
    "latent_channels": 16, "scaling_factor": 0.7, "invert_scale_latents": True,
    "block_out_channels": [128, 256, 256, 512],
}  # fmt: skip


def config(cls: type, **values: object) -> SimpleNamespace:
    """The config that diffusers would give a model of these values, without making one."""
    import inspect

    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return SimpleNamespace(**{each.name: each.default for each in parameters} | values)


def spec(vae: dict | None = None, **transformer: object) -> AetherSpec:
    return AetherSpec.of(
        config(CogVideoXTransformer3DModel, **TRANSFORMER | transformer),
        config(AutoencoderKLCogVideoX, **VAE | (vae or {})),
    )


def test_the_published_models_configs_give_its_numbers():
    assert spec() == AETHER_V1
    channels = (AETHER_V1.raymap_channels, AETHER_V1.condition_channels, AETHER_V1.out_channels)
    assert (*channels, AETHER_V1.in_channels, AETHER_V1.size_multiple) == (24, 40, 56, 96, 16)


def test_frames_and_cells():
    lengths = [(17, 5), (25, 7), (33, 9), (41, 11)]
    assert [(video, AETHER_V1.latent_frames(video)) for video, _ in lengths] == lengths
    assert [(AETHER_V1.video_frames(latent), latent) for _, latent in lengths] == lengths
    assert AETHER_V1.cells(480, 720) == (60, 90)


def test_another_vae_changes_channels_with_it():
    other = spec({"latent_channels": 4, "temporal_compression_ratio": 8, "block_out_channels": [1, 2]},
                 in_channels=108, out_channels=56)  # fmt: skip
    assert (other.raymap_channels, other.out_channels, other.in_channels) == (48, 56, 108)
    assert (other.spatial_scale, other.default_size) == (2, (120, 180))


@pytest.mark.parametrize("frames, wanted", [(17, 17), (33, 33), (49, 41), (13, 41)])
def test_a_length_that_aether_does_not_take_becomes_its_longest(frames, wanted):
    assert spec(sample_frames=frames).default_frames == wanted


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"patch_size_t": 2}, "1.5's form"),
        ({"ofs_embed_dim": 512}, "1.5's form"),
        ({"in_channels": 32, "out_channels": 16}, "takes 32 and returns 16 channels; Aether's takes 96"),
        ({"out_channels": 16}, "returns 16"),
    ],
)
def test_another_models_transformer(changes, match):
    with pytest.raises(InputError, match=match) as raised:
        spec(**changes)
    assert raised.value.field == "transformer"


@pytest.mark.parametrize(
    "changes, shape, match",
    [
        ({}, (1, 226, 4096), None),
        ({}, (1, 3, 4096), None),  # rotary positions count no text tokens
        ({}, (1, 226, 8), "8 wide, the transformer expects 4096"),
        ({}, (2, 226, 4096), "1, tokens, width"),
        ({}, (226, 4096), "1, tokens, width"),
        ({"fixed_size": True}, (1, 3, 4096), "3 tokens.*226"),
        ({"rotary": False}, (1, 3, 4096), "3 tokens.*226"),
    ],
)
def test_the_shape_of_a_prompt(changes, shape, match):
    checked = replace(AETHER_V1, **changes)
    if match is None:
        return checked.check_prompt(shape)
    with pytest.raises(InputError, match=match) as raised:
        checked.check_prompt(shape)
    assert raised.value.field == "prompt"


def test_rotary_positions_need_no_weights():
    cosines, sines = rotary_embeddings(AETHER_V1, 11, 60, 90, fps=12)
    assert cosines.shape == sines.shape == (11 * 30 * 45, 64)
    assert torch.allclose(cosines**2 + sines**2, torch.ones(()))


def test_a_stage_with_its_own_parts_alone_gives_the_whole_models_result(tiny):
    from aether.generation.sampling import sample
    from aether.generation.tasks import condition

    model: AetherModel = tiny.model()
    encoder = Encoder(model.spec, model.vae, model.device, model.dtype)
    denoiser = Denoiser(model.spec, model.transformer, model.scheduler, model.prompt_embeds, model.device)

    def run(encodes: AetherModel | Encoder, denoises: AetherModel | Denoiser) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        made = condition(encodes, "prediction", **tiny.inputs("prediction"), frames=17, generator=generator)
        return sample(denoises, made, steps=3, generator=generator)

    assert torch.equal(run(encoder, denoiser), run(model, model))
