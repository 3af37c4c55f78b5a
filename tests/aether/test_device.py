"""On a GPU: a whole run stays there, the host does not wait for it, and it gives what it gives on the CPU."""

import pytest
import torch

from aether.generation.latents import decode, decode_pixels, encode
from aether.generation.sampling import sample
from aether.generation.tasks import condition
from aether.model.memory import decoding_bytes, enable_small_tiles, encoding_bytes
from aether.model.parts import AetherModel
from hero_engine import PRESETS, hero_session

from ..pretend import DEVICE, PretendGPU

STEPS = 8


@pytest.fixture
def gpu():
    return PretendGPU()


def on(gpu, model) -> AetherModel:
    """The same model on the GPU."""
    parts = gpu.module(model.transformer), gpu.module(model.vae), model.scheduler
    return AetherModel(*parts, gpu.tensor(model.prompt_embeds), name="there")


def run(model, tiny, task, callback=None, **options):
    """The latent of a run under HERO."""
    generator = torch.Generator().manual_seed(0)
    conditions = condition(model, task, **tiny.inputs(task), frames=tiny.FRAMES, generator=generator)
    session = hero_session(model.transformer, PRESETS["balanced"], STEPS, model.scheduler)
    return sample(
        model, conditions, steps=STEPS, generator=generator, session=session, callback=callback, **options
    )


@pytest.mark.parametrize("task", ["reconstruction", "prediction", "planning"])
@pytest.mark.slow
def test_a_run_gives_what_it_gives_on_the_cpu(tiny, gpu, task):
    model = tiny.model()
    there, expected = on(gpu, model), run(model, tiny, task)
    with gpu:
        latent = run(there, tiny, task)
        decoded = decode(there, latent)
    assert latent.device == DEVICE and torch.equal(latent.lies, expected)
    for stream, same in zip(vars(decoded).values(), vars(decode(model, expected)).values(), strict=True):
        assert (stream == same).all()


@pytest.mark.parametrize("ddim", [False, True])
@pytest.mark.parametrize("skip", [0.0, 0.5])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.slow
def test_the_host_waits_for_no_step(tiny, gpu, ddim, skip, mode):
    there, waits = on(gpu, tiny.model(ddim=ddim)), []
    with gpu, mode():
        run(there, tiny, "planning", lambda info: waits.append(len(gpu.waits)), guidance_skip=skip)
    assert len(waits) == STEPS and len(set(waits)) == 1, gpu.waits


@pytest.mark.slow
def test_on_a_device_too_small_for_the_whole_the_vae_works_in_tiles_at_once(tiny, gpu, caplog):
    model = tiny.model(vae_config={"sample_height": 96, "sample_width": 160})
    there, tiled = on(gpu, model), tiny.model(vae_config={"sample_height": 96, "sample_width": 160})
    enable_small_tiles(tiled.vae)
    clip, latent = tiny.noise("clip", (5, 64, 96, 3)), tiny.noise("latent", (1, 2, 16, 8, 12))

    def encoded(model):
        return encode(model, clip, torch.Generator().manual_seed(0))

    with gpu:
        gpu.memory = decoding_bytes(there.vae, 64, 96)
        whole = decode_pixels(there, gpu.tensor(latent))
        assert torch.equal(whole.lies, decode_pixels(model, latent)) and not caplog.records
        gpu.memory -= 1
        found = decode_pixels(there, gpu.tensor(latent))
        gpu.memory = encoding_bytes(there.vae, 64, 96) - 1
        conditions = encoded(there)
    torch.testing.assert_close(found.lies, decode_pixels(tiled, latent))
    torch.testing.assert_close(conditions.lies, encoded(tiled))
    assert [record.message for record in caplog.records] == [
        f"not enough memory: {doing} tile by tile" for doing in ("decoding", "encoding")
    ]
