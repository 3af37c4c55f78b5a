"""The miniature's training: seeded, resumable, and beginning from a linear code that works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aether.errors import InputError
from aether.generation.latents import decode_disparity, split
from aether.generation.sampling import sample
from aether.generation.tasks import Conditions, condition
from aether.miniature import build
from aether.miniature.model import TRANSFORMER, WEIGHTS
from aether.model.parts import AetherModel
from training import (
    autoencoder,
    data,
    decoder,
    denoiser,
    latents,
    parallel,
    reconstructions,
    state,
    vae_decoder,
)
from training.__main__ import main


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes of `clips` are kept."""
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def clips(scenes: Path) -> data.Clips:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 2)
        return data.load_clips(scenes, 4)


@pytest.fixture(scope="module")
def codec(clips: data.Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("codec") / "autoencoder.safetensors"
    autoencoder.begin_autoencoder(clips, file)
    return file


@pytest.fixture(scope="module")
def encoded(clips: data.Clips, codec: Path, tmp_path_factory: pytest.TempPathFactory) -> latents.LatentClips:
    vae = autoencoder.load_autoencoder(codec)
    return latents.load_latents(vae, clips, tmp_path_factory.mktemp("latents") / "latents.npz")


@pytest.mark.slow
def test_scenes_are_read_back_as_they_were_rendered(
    scenes: Path, clips: data.Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of a file and the first of the next, too."""
    rendered = {number: data._rendered(data.FIRST_SCENE + number) for number in (1, 2)}
    monkeypatch.setattr(data, "SHARD", 2)
    monkeypatch.setattr(data, "_rendered", lambda seed: pytest.fail("rendered again"))
    again = data.load_clips(scenes, 4)
    for place, name in enumerate(("rgb", "depth", "poses", "intrinsics")):
        found = getattr(again, name)
        assert np.array_equal(found, getattr(clips, name))
        assert all(np.array_equal(found[number], arrays[place]) for number, arrays in rendered.items())
    assert again.roots().max() == 1


@pytest.mark.slow
def test_the_encoder_begins_as_a_linear_code(clips: data.Clips, codec: Path) -> None:
    """From its 16 numbers a least-squares fit draws 8x8 pixels x 4 frames; a flat color would give 15 dB."""
    vae = autoencoder.load_autoencoder(codec)
    video = clips.rgb.astype(np.float32) / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(torch.from_numpy(video).permute(0, 4, 1, 2, 3)).latent_dist.mean
    codes = mean[:, :, 1:].permute(0, 2, 3, 4, 1).reshape(-1, 16).numpy()
    blocks = (
        video[:, 1:]
        .reshape(4, 4, 4, 8, 8, 12, 8, 3)
        .transpose(0, 1, 3, 5, 2, 4, 6, 7)
        .reshape(len(codes), -1)
    )
    columns = np.concatenate([codes, np.ones((len(codes), 1), np.float32)], axis=1)
    drawn = columns @ np.linalg.lstsq(columns, blocks, rcond=None)[0]
    assert -10 * np.log10(np.square(drawn - blocks).mean() / 4) > 26
    assert 0.5 < codes.std() < 2


def stop_after_saving(module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the training of `module` end at its next checkpoint, as Ctrl-C would."""
    save = module.save

    def save_then_stop(*arguments) -> None:
        save(*arguments)
        monkeypatch.setattr(module, "save", save)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save", save_then_stop)


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="training needs torch 2.9 or newer")


@needs_muon
@pytest.mark.slow
def test_autoencoder_goes_on_where_it_stopped(
    clips: data.Clips, codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    for file in (straight, broken):
        file.write_bytes(codec.read_bytes())
    monkeypatch.setattr(autoencoder, "CROPS", ((1, 9, 32, 32), (1, 17, 32, 32)))
    said: list[str] = []
    autoencoder.train_autoencoder(clips, straight, 3, say=said.append)
    assert len(said) == 1 and said[0].startswith("autoencoder 3/3: ")
    monkeypatch.setattr(vae_decoder, "SAVE_EVERY", 2)
    stop_after_saving(vae_decoder, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        autoencoder.train_autoencoder(clips, broken, 3, say=said.append)
    autoencoder.train_autoencoder(clips, broken, 3, say=said.append)

    one, other, begin = (load_file(file) for file in (straight, broken, codec))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    encoder = [key for key in begin if key.startswith("module.encoder")]
    assert encoder and all(torch.equal(one[key], begin[key]) for key in encoder)
    changed = "module.decoder.conv_in.conv.weight"
    assert not torch.equal(one[changed], begin[changed])


@pytest.mark.slow
def test_conditions_and_targets_are_those_of_the_library(
    clips: data.Clips, codec: Path, encoded: latents.LatentClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained on is what `aether.generation.tasks.condition` gives, up to float16 and the
    posterior's noise."""
    vae = autoencoder.load_autoencoder(codec)
    model = build(0)
    model.vae.load_state_dict(vae.state_dict())
    video = torch.from_numpy(clips.rgb[1].astype(np.float32) / 255)
    given = {
        "reconstruction": {"video": video},
        "planning": {"image": video[0], "goal": video[-1], "raymap": encoded.raymap[2].astype(np.float32)},
    }
    monkeypatch.setattr(denoiser, "NO_PICTURES", 0)
    monkeypatch.setattr(denoiser, "NO_CAMERA", 0)
    for task, inputs in given.items():
        trained = denoiser.random_condition(model, encoded, 2, 17, task, np.random.default_rng(0))
        wanted = condition(model, task, **inputs, generator=torch.Generator().manual_seed(0)).cond[0]
        assert trained.shape == wanted.shape
        # The posterior's noise is 0.05, divided by the scaling factor of 0.7.
        assert (trained - wanted)[:, :16].std() < 0.09 and torch.equal(trained[:, 16:], wanted[:, 16:])
    clean = denoiser.target(model, encoded, 2, 17)
    assert clean.shape == (5, 56, 8, 12)
    assert clean[:, 32:].equal(wanted[:, 16:])
    assert clean[:, :16].std() == pytest.approx(0.7, abs=0.3)


class OffBy(torch.nn.Module):
    """Answers with the velocity that leads to `clean` plus a mistake."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, model, clean: torch.Tensor, mistake: float) -> None:
        super().__init__()
        self.model, self.clean, self.mistake = model, clean, mistake
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, given, text, timesteps, image_rotary_emb) -> SimpleNamespace:
        noisy = given[:, :, : self.model.spec.out_channels]
        self.seen.append((timesteps, noisy))
        signal, noise = denoiser._levels(self.model, timesteps)
        return SimpleNamespace(sample=(signal * noisy - (self.clean + self.mistake)) / noise + self.bias)


@pytest.mark.slow
def test_in_a_rollout_the_denoiser_is_given_its_own_answers(
    encoded: latents.LatentClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(0)
    clean = denoiser.target(model, encoded, 0, 9)
    monkeypatch.setattr(denoiser, "target", lambda *arguments: clean)
    mistake, rollouts, kept = 0.5, [], 0
    worker = OffBy(model, clean, mistake)
    for step in range(40):
        given = rollouts
        errors, rollouts = denoiser._step(model, worker, encoded, rollouts, 9, [0, step, 0])
        timesteps, noisy = worker.seen.pop()
        signal, noise = denoiser._levels(model, timesteps)
        assert len(timesteps) == denoiser.BATCH and len(rollouts) <= denoiser.ROLLOUTS
        assert (timesteps[len(given) : denoiser.ROLLOUTS] == denoiser.LAST).all()
        for row, rollout in enumerate(given):
            added = (noisy[row] - signal[row] * (clean + mistake)) / noise[row]
            assert timesteps[row] == rollout.timestep < denoiser.LAST
            assert added.std() == pytest.approx(1, abs=0.1), "the model's answer, under noise"
            if rollout.noise is not None:
                kept += 1
                torch.testing.assert_close(added, rollout.noise, rtol=0, atol=2e-3)
        # In a rollout an answer as far from the truth counts as much at every timestep.
        others = (1 / noise[denoiser.ROLLOUTS :].flatten() ** 2).sum()
        wanted = mistake**2 * (denoiser.ROLLOUTS + others) / denoiser.BATCH
        assert errors == pytest.approx(float(wanted), rel=1e-2)
    assert kept > 20


@needs_muon
@pytest.mark.slow
def test_denoiser_goes_on_where_it_stopped(
    encoded: latents.LatentClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    monkeypatch.setitem(TRANSFORMER, "num_layers", 3)
    monkeypatch.setattr(denoiser, "BATCH", 2)
    monkeypatch.setattr(denoiser, "ROLLOUTS", 1)
    monkeypatch.setattr(denoiser, "SAVE_EVERY", 2)

    def train(file: Path) -> None:
        model = replace(build(0), transformer=denoiser.new_transformer(0))
        denoiser.train_denoiser(model, encoded, file, 3, say=lambda text: None)

    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    train(straight)
    stop_after_saving(denoiser, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    train(broken)
    one, other = load_file(straight), load_file(broken)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert denoiser.load_transformer(straight).proj_out.weight.any()


@pytest.fixture
def made(
    encoded: latents.LatentClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[AetherModel, latents.LatentClips, np.ndarray]:
    """The bundled miniature, four clips, and what it makes of them in two steps; in files of three clips."""
    monkeypatch.setattr(reconstructions, "STEPS", 2)
    monkeypatch.setattr(reconstructions, "SHARD", 3)
    model = build()
    some = latents.LatentClips(*(getattr(encoded, name)[:4] for name in latents.NAMES))
    return model, some, reconstructions.load_reconstructions(model, some, tmp_path / "made")


@pytest.mark.slow
def test_reconstructions_are_what_the_sampler_makes_of_each_clip(
    made: tuple[AetherModel, latents.LatentClips, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, some, disparities = made
    assert disparities.shape == (4, 5, 16, 8, 12) and len(list((tmp_path / "made").glob("*/*.npy"))) == 2

    rng = np.random.default_rng([0, 3])
    cond = denoiser.random_condition(model, some, 3, 17, "reconstruction", rng)[None]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    given = Conditions("reconstruction", cond, None, 17, 64, 96)
    latent = sample(model, given, steps=2, generator=generator)
    shown = model.vae.decode(torch.from_numpy(disparities[3:]).float().transpose(1, 2)).sample
    wanted = decode_disparity(model, split(model.spec, latent).disparity)
    assert np.allclose((shown[0].mean(0) / 2 + 0.5).square().numpy(), wanted, atol=0.01)

    monkeypatch.setattr(reconstructions, "sample", lambda *_, **__: pytest.fail("sampled again"))
    again = reconstructions.load_reconstructions(model, some, tmp_path / "made")
    assert np.array_equal(again, disparities)
    model.transformer.proj_out.bias.add_(0.1)  # trained on
    with pytest.raises(pytest.fail.Exception, match="sampled again"):
        reconstructions.load_reconstructions(model, some, tmp_path / "made")


def test_processes_share_what_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 2)
    parts = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        parts.append(parallel.share("abcde"))
    assert parts == [["a", "c", "e"], ["b", "d"]]


@pytest.mark.slow
def test_latents_of_other_clips_than_asked_for_are_made_anew(
    clips: data.Clips, codec: Path, tmp_path: Path
) -> None:
    vae = autoencoder.load_autoencoder(codec)
    parts = [getattr(clips, name)[:1] for name in ("rgb", "depth", "poses", "intrinsics")]
    for given in (data.Clips(*parts), clips):
        assert len(latents.load_latents(vae, given, tmp_path / "latents.npz")) == 2 * len(given)


class WrongBy(torch.nn.Module):
    """A VAE that knows the truth, in [0, 1]. It draws roots of disparity too large by a share of them, and
    colors too light."""

    device = torch.device("cpu")

    def __init__(self, truth: torch.Tensor, share: float, lighter: float) -> None:
        super().__init__()
        self.truth, self.share, self.lighter = truth, share, lighter
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def decode(self, latent: torch.Tensor) -> SimpleNamespace:
        self.seen = latent
        drawn = self.truth.clone()
        drawn[: decoder.DEPTHS] *= 1 + self.share
        drawn[decoder.DEPTHS :] += self.lighter
        return SimpleNamespace(sample=drawn * 2 - 1 + self.bias)


@pytest.mark.slow
def test_the_decoder_is_measured_against_the_clip_it_is_given(
    clips: data.Clips, encoded: latents.LatentClips
) -> None:
    """Both ways round: the odd clips of latents are mirrored and backwards."""
    drawn = np.array([2, 5, 3])
    colors = clips.rgb[1, ::-1, :, ::-1].astype(np.float32)[None] / 255
    roots = np.stack([clips.roots(1), clips.roots(2)[::-1, :, ::-1]])[..., None].repeat(3, axis=-1)
    truth = torch.from_numpy(np.concatenate([roots, colors])).permute(0, 4, 1, 2, 3)
    vae = WrongBy(truth, 0.1, 0.2)
    made = encoded.disparity + np.float16(1)
    relative, squared = decoder._backward(vae, made, encoded, clips, drawn, np.random.default_rng(0))
    assert relative == pytest.approx(0.1, rel=1e-3) and squared == pytest.approx(0.04, rel=1e-3)
    given = vae.seen.transpose(1, 2).numpy()
    assert np.array_equal(given[:2], made[drawn[:2]].astype(np.float32))
    assert (given[2] - encoded.rgb[3]).std() == pytest.approx(autoencoder.NOISE, rel=0.05)
    assert vae.bias.grad > 0


@needs_muon
@pytest.mark.slow
def test_decoder_goes_on_where_it_stopped(
    clips: data.Clips,
    codec: Path,
    encoded: latents.LatentClips,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder, "DEPTHS", 1)
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    said: list[str] = []
    seen = replace(clips, rgb=clips.rgb[:, :, :32, :48], depth=clips.depth[:, :, :32, :48])
    colors, disparity = encoded.rgb[..., :4, :6], encoded.disparity[..., :4, :6]

    def train(file: Path) -> None:
        decoder.train_decoder(disparity, replace(encoded, rgb=colors), seen, file, 3, say=said.append)

    for file in (straight, broken):
        file.write_bytes(codec.read_bytes())
    train(straight)
    assert len(said) == 1 and said[0].startswith("decoder 3/3: ")
    monkeypatch.setattr(vae_decoder, "SAVE_EVERY", 2)
    stop_after_saving(vae_decoder, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    train(broken)

    one, other, begin = (load_file(file) for file in (straight, broken, codec))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    changed = {key for key in begin if not torch.equal(one[key], begin[key])}
    assert changed and all(".decoder." in key for key in changed)


@needs_muon
@pytest.mark.slow
def test_the_command_trains_the_decoder_of_the_bundled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "SHARD", 2)
    monkeypatch.setattr(reconstructions, "STEPS", 1)
    main(
        ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--bundled", "--device", "cpu"]
        + ["--first", "reconstructions", "--decoder-scenes", "2", "--decoder-steps", "1", "--workers", "1"]
    )
    bundled, trained = (load_file(folder / "vae.safetensors") for folder in (WEIGHTS, tmp_path / "out"))
    assert bundled.keys() == trained.keys()
    changed = {key for key in bundled if not torch.equal(bundled[key], trained[key])}
    assert changed and all(key.startswith("decoder.") for key in changed)
    kept = "transformer.safetensors"
    assert (WEIGHTS / kept).read_bytes() == (tmp_path / "out" / kept).read_bytes()


def test_nothing_is_exported_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="work: .*decoder.safetensors is not there"):
        main(["--work", str(tmp_path), "--first", "export", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_training_can_begin_with_given_weights(tmp_path: Path) -> None:
    weights = build(seed=1).transformer.state_dict()
    file = tmp_path / "denoiser.safetensors"
    state.begin_with(file, weights)
    state.begin_with(file, {})  # what is there stays
    loaded = denoiser.load_transformer(file).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    transformer = denoiser.new_transformer(0)
    assert state.restore(file, transformer, state.Average(transformer), []) == 0
    assert all(torch.equal(value, weights[key]) for key, value in transformer.state_dict().items())
