"""Streams of the unified latent, in and out."""

import numpy as np
import pytest
import torch

from aether import InputError
from aether.generation.latents import decode, decode_disparity, decode_pixels, decode_rgb, encode, split
from aether.geometry.raymap import pack


def latent(model, frames=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, frames, model.spec.out_channels, 4, 6, generator=generator)


def test_split_gives_views_of_16_16_and_24_channels(model):
    whole = latent(model)
    streams = split(model.spec, whole)
    assert [stream.shape[2] for stream in streams] == [16, 16, 24]
    assert torch.equal(torch.cat(streams, dim=2), whole)
    assert streams.disparity.data_ptr() == whole[:, :, 16:].data_ptr()


def test_condition_is_divided_by_the_scaling_factor_where_the_vae_says_so(tiny, model):
    clip = torch.from_numpy(tiny.inputs("reconstruction")["video"])
    plain = tiny.model(vae_config={"invert_scale_latents": False})
    divided, multiplied = (encode(m, clip, torch.Generator().manual_seed(3)) for m in (model, plain))
    assert divided.shape == (1, 5, 16, 4, 6)
    torch.testing.assert_close(divided * 0.7, multiplied / 0.7)


def test_the_posterior_is_sampled_from_the_generator(tiny, model):
    clip = torch.from_numpy(tiny.inputs("reconstruction")["video"])
    first, again, other = (encode(model, clip, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_rgb_is_clipped_and_disparity_is_the_square_of_the_grey(model):
    stream = 3 * latent(model)[:, :, :16]
    pixels = decode_pixels(model, stream)[0].numpy()
    assert pixels.shape == (3, 17, 32, 48) and np.abs(pixels).max() > 1
    rgb, disparity = decode_rgb(model, stream), decode_disparity(model, stream)
    np.testing.assert_allclose(rgb, np.clip(pixels / 2 + 0.5, 0, 1).transpose(1, 2, 3, 0), atol=1e-6)
    np.testing.assert_allclose(disparity, (pixels.mean(0) / 2 + 0.5) ** 2, atol=1e-5)


def test_decode_returns_the_raymap_that_was_packed(tiny, model):
    whole = latent(model)
    whole[:, :, 32:] = torch.from_numpy(np.asarray(pack(tiny.raymap())))
    kept = whole.clone()
    decoded = decode(model, whole)
    np.testing.assert_array_equal(decoded.raymap, tiny.raymap())
    assert decoded.rgb.shape == (17, 32, 48, 3) and decoded.disparity.shape == (17, 32, 48)
    assert {array.dtype for array in (decoded.rgb, decoded.disparity, decoded.raymap)} == {
        np.dtype("float32")
    }
    assert torch.equal(whole, kept)


@pytest.mark.parametrize("frames, video_frames", [(5, 17), (7, 25), (9, 33), (11, 41)])
def test_every_length(model, frames, video_frames):
    decoded = decode(model, latent(model, frames))
    assert len(decoded.rgb) == len(decoded.disparity) == len(decoded.raymap) == video_frames


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[:, :, :40], r"56"),
        (lambda x: x[0], r"56"),
        (lambda x: torch.cat([x, x]), "2 clips"),
        (lambda x: x.index_fill(1, torch.tensor(0), float("nan")), "bfloat16"),
        (lambda x: x.long(), "floating-point"),
        (lambda x: x.numpy(), "floating-point"),
    ],
)
def test_a_wrong_latent_is_named(model, change, message):
    with pytest.raises(InputError, match=message) as error:
        decode(model, change(latent(model)))
    assert error.value.field == "latent"
