"""The VAE with less memory: the same values, and what is done where memory runs out all the same."""

import copy
import io
import logging
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import conv3d

from aether.generation.latents import decode_pixels, encode
from aether.miniature import build
from aether.model import lean_vae
from aether.model.lean_vae import make_lean
from aether.model.loading import load_vae
from aether.model.memory import decoding_bytes, enable_small_tiles, encoding_bytes, step_bytes
from benchmarks.memory import Peak


def lean(vae):
    made = copy.deepcopy(vae)
    make_lean(made)
    return made


def assert_same(vae, latent):
    """The same values, up to what a pointwise convolution may round otherwise on another size."""
    expected = vae.decode(latent).sample.float()
    tolerance = 64 * torch.finfo(latent.dtype).eps * expected.std().item()
    torch.testing.assert_close(lean(vae).decode(latent).sample.float(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, pytest.param(11, marks=pytest.mark.slow)])
@torch.no_grad()
def test_values_are_the_same(tiny, frames, dtype):
    assert_same(tiny.vae().to(dtype), tiny.noise("latent", (1, 16, frames, 4, 6)).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [1, 5, 17, 21])
@torch.no_grad()
def test_a_clip_is_encoded_to_the_same_values(tiny, frames, dtype):
    vae, clip = tiny.vae().to(dtype), tiny.noise("clip", (1, 3, frames, 32, 48)).to(dtype)
    assert torch.equal(lean(vae).encode(clip).latent_dist.parameters, vae.encode(clip).latent_dist.parameters)


@torch.no_grad()
@pytest.mark.slow
def test_values_are_the_same_with_three_layers_of_other_widths_and_in_tiles(tiny):
    vae = tiny.vae(block_out_channels=(8, 16, 24, 32), layers_per_block=3)
    latent = tiny.noise("latent", (2, 16, 5, 4, 6))
    assert_same(vae, latent)
    vae.enable_tiling(16, 24)
    assert_same(vae, latent)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_what_comes_out_is_not_rounded_to_the_vaes_dtype(tiny, dtype):
    exact, latent = tiny.vae(), tiny.noise("latent", (1, 16, 5, 4, 6))
    truth, rough = exact.decode(latent).sample, exact.to(dtype)
    fine, coarse = lean(rough).decode(latent.to(dtype)).sample, rough.decode(latent.to(dtype)).sample
    assert fine.dtype == torch.float32
    assert len(fine.unique()) > 0.99 * fine.numel() > 2 * len(coarse.unique())
    assert (fine - truth).norm() < (coarse.float() - truth).norm()


def test_gradients_are_the_same(tiny):
    latents = [tiny.noise("latent", (1, 16, 3, 2, 2)).requires_grad_() for _ in range(2)]
    vae = tiny.vae()
    for one, latent in zip((vae, lean(vae)), latents, strict=True):
        one.decode(latent).sample.square().sum().backward()
    assert torch.equal(latents[0].grad, latents[1].grad) and latents[0].grad.abs().max() > 0


def test_weights_keep_their_names_and_a_lean_model_can_be_sent(tiny):
    vae, changed = tiny.vae(), lean(tiny.vae())
    assert changed.state_dict().keys() == vae.state_dict().keys()
    sent = io.BytesIO()
    torch.save(changed, sent)
    sent.seek(0)
    latent = tiny.noise("latent", (1, 16, 2, 2, 2))
    with torch.no_grad():
        arrived = torch.load(sent, weights_only=False).decode(latent).sample
        assert torch.equal(arrived, changed.decode(latent).sample)


def peak_of_decoding(vae, tiny, frames=5) -> int:
    with torch.no_grad(), Peak() as peak:
        vae.decode(tiny.noise("latent", (1, 16, frames, 4, 6)))
    return peak.bytes


@pytest.mark.slow
def test_it_takes_at_most_half_the_memory(tiny, tmp_path):
    plain = build().vae
    plain.save_pretrained(tmp_path)
    plain = load_vae(tmp_path, dtype=torch.float32, lean=False)
    assert peak_of_decoding(load_vae(tmp_path, dtype=torch.float32), tiny) < peak_of_decoding(plain, tiny) / 2
    assert peak_of_decoding(build().vae, tiny) < peak_of_decoding(plain, tiny) / 2


@pytest.mark.slow
def test_what_encoding_and_decoding_take_is_foretold(tiny):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        vae = tiny.AutoencoderKLCogVideoX(**tiny.VAE | {"block_out_channels": (128, 256, 256, 512)} |
                                          {"layers_per_block": 3, "norm_num_groups": 32})  # fmt: skip
        make_lean(vae)
        for frames, height, width in ((41, 480, 720), (17, 320, 480), (25, 480, 720)):
            latent = torch.empty(1, 16, (frames + 3) // 4, height // 8, width // 8)
            with Peak() as peak:
                vae.decode(latent)
            assert decoding_bytes(vae, height, width) == pytest.approx(peak.bytes, rel=0.03)
            clip = torch.empty(1, 3, frames, height, width)
            with Peak() as peak:
                vae.encode(clip)
            assert encoding_bytes(vae, height, width) == pytest.approx(peak.bytes, rel=0.03)
        whole = decoding_bytes(vae, 480, 720)
        enable_small_tiles(vae)
        assert decoding_bytes(vae, 480, 720) == pytest.approx(whole / 4)


def test_what_a_step_takes_is_foretold():
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.memory import step_peak
    from benchmarks.sizes import SIZES

    size = SIZES["aether"].with_blocks(2)
    with FakeTensorMode(), torch.no_grad():
        counted = step_peak(size)
    shape = size.shape
    assert step_bytes(shape.tokens, shape.width, 2, 2) == pytest.approx(counted, rel=0.03)


class TestUnfolding:
    """torch would convolve in half precision without cuDNN, which is asked by name then."""

    @pytest.mark.parametrize(
        "device, dtype, torch_version, cudnn, unfolds",
        [
            ("cuda", torch.bfloat16, "2.9.0+cu128", 91002, True),
            ("cuda", torch.float16, "2.11.0", 90800, True),
            ("cuda", torch.bfloat16, "2.11.0", 91499, True),
            ("cuda", torch.bfloat16, "2.11.0", 91500, False),
            ("cuda", torch.bfloat16, "2.9.1", 90701, False),
            ("cuda", torch.bfloat16, "2.8.0", 91002, False),
            ("cuda", torch.bfloat16, "2.11.0", None, False),
            ("cuda", torch.float32, "2.11.0", 91002, False),
            ("cpu", torch.bfloat16, "2.11.0", 91002, False),
        ],
    )
    def test_when(self, monkeypatch, device, dtype, torch_version, cudnn, unfolds):
        monkeypatch.setattr(torch, "__version__", type(torch.__version__)(torch_version))
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
        assert lean_vae._would_unfold(SimpleNamespace(device=torch.device(device), dtype=dtype)) is unfolds

    @torch.no_grad()
    def test_cudnn_gives_the_same_values(self, tiny, monkeypatch):
        vae, calls = lean(tiny.vae().to(torch.bfloat16)), []
        latent, clip = (
            tiny.noise(name, (1, *shape)).to(torch.bfloat16)
            for name, shape in (("latent", (16, 3, 4, 6)), ("clip", (3, 9, 32, 48)))
        )

        def convolve(given, weight, padding, stride, dilation, groups, benchmark, deterministic, allow_tf32):
            calls.append((benchmark, deterministic, allow_tf32))
            return conv3d(given, weight, None, stride, padding, dilation, groups)

        def results():
            return vae.encode(clip).latent_dist.parameters, vae.decode(latent).sample

        expected = results()
        monkeypatch.setattr(lean_vae, "_would_unfold", lambda padded: padded.dtype != torch.float32)
        monkeypatch.setattr(torch, "cudnn_convolution", convolve)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        for one, other in zip(results(), expected, strict=True):
            # The bias is added to what was rounded before.
            tolerance = 32 * torch.finfo(torch.bfloat16).eps * other.float().std().item()
            torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
        cudnn = torch.backends.cudnn
        assert set(calls) == {(True, cudnn.deterministic, cudnn.allow_tf32)} and len(calls) > 30

    def test_what_cudnn_is_asked_with_is_what_it_takes(self):
        schema = torch.ops.aten.cudnn_convolution.default._schema
        taken = "padding stride dilation groups benchmark deterministic allow_tf32"
        assert [argument.name for argument in schema.arguments[2:]] == taken.split()


class TestOutOfMemory:
    """The VAE has room for tiles only."""

    room = 16

    @pytest.fixture
    def model(self, tiny, monkeypatch):
        def limited(work):
            def does(vae, given):
                if not (vae.use_tiling and vae.tile_sample_min_height <= self.room):
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory")
                return work(vae, given)

            return does

        for name in ("encode", "decode"):
            work = getattr(tiny.AutoencoderKLCogVideoX, name)
            monkeypatch.setattr(tiny.AutoencoderKLCogVideoX, name, limited(work))
        return tiny.model(vae_config={"sample_height": 32, "sample_width": 48})

    def test_it_is_decoded_in_tiles_and_said(self, model, tiny, caplog):
        latent = tiny.noise("latent", (1, 2, 16, 4, 6))
        before = {name: value for name, value in vars(model.vae).items() if "til" in name}
        with caplog.at_level(logging.WARNING):
            pixels = decode_pixels(model, latent)
        assert "not enough memory: decoding tile by tile" in caplog.text
        assert {name: value for name, value in vars(model.vae).items() if "til" in name} == before
        tiled = tiny.vae(sample_height=32, sample_width=48)
        tiled.enable_tiling(16, 24)
        with torch.no_grad():
            torch.testing.assert_close(pixels, tiled.decode(latent.permute(0, 2, 1, 3, 4) / 0.7).sample)

    def test_a_clip_is_encoded_in_tiles_too(self, model, tiny, caplog):
        self.room = 48
        model.vae.register_to_config(sample_height=96, sample_width=160)
        clip = tiny.noise("clip", (5, 64, 96, 3))
        with caplog.at_level(logging.WARNING):
            latent = encode(model, clip, torch.Generator().manual_seed(0))
        assert "not enough memory: encoding tile by tile" in caplog.text
        assert not model.vae.use_tiling
        enable_small_tiles(model.vae)
        assert torch.equal(latent, encode(model, clip, torch.Generator().manual_seed(0)))

    def test_where_tiles_do_not_fit_either_it_is_the_callers(self, model, tiny):
        self.room = 0
        with pytest.raises(torch.cuda.OutOfMemoryError):
            decode_pixels(model, tiny.noise("latent", (1, 2, 16, 4, 6)))
        assert not model.vae.use_tiling
