"""Task nodes, streams, depth and cameras; foreign MODELs, VAEs, CONDITIONINGs and LATENTs."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch

NAN = float("nan")


def entries(positive, negative) -> tuple[dict, dict]:
    return positive[0][1], negative[0][1]


def test_prediction_conditions(nodes, miniature, clip):
    positive, negative, latent = nodes.AetherPredict(
        vae=miniature.vae, image=clip[:1], frames="25", fps="24"
    ).args
    first, second = entries(positive, negative)
    cond, uncond = first["concat_latent_image"], second["concat_latent_image"]
    assert cond.shape == uncond.shape == (1, 40, 7, 8, 12)
    assert (cond[:, :16, 0] != 0).any() and not cond[:, :16, 1:].any() and not cond[:, 16:].any()
    assert not uncond.any()
    assert latent["samples"].shape == (1, 56, 7, 8, 12) and not latent["samples"].any()
    assert first["aether_fps"] == latent["aether_fps"] == 24


def test_planning_conditions(nodes, miniature, clip):
    positive, _, _ = nodes.AetherPlan(vae=miniature.vae, start=clip[:1], goal=clip[-1:], frames="17").args
    cond = positive[0][1]["concat_latent_image"]
    assert [bool(cond[:, :16, t].any()) for t in range(5)] == [True, False, False, False, True]


def test_reconstruction_has_no_negative_of_its_own(nodes, miniature, clip):
    positive, negative, _ = nodes.AetherReconstruct(vae=miniature.vae, video=clip).args
    first, second = entries(positive, negative)
    assert torch.equal(first["concat_latent_image"], second["concat_latent_image"])


def test_conditions_are_the_librarys_and_follow_the_seed(nodes, part, miniature, clip):
    model = part("aether.miniature").build()
    make = part("aether.generation.tasks").condition
    generator = torch.Generator().manual_seed(7)
    expected = make(model, "reconstruction", video=clip.numpy(), generator=generator).cond.transpose(1, 2)

    def ours(seed):
        return nodes.AetherReconstruct(vae=miniature.vae, video=clip, seed=seed)[0][0][1][
            "concat_latent_image"
        ]

    assert (ours(7) - expected).abs().max() < 1e-5
    assert torch.equal(ours(7), ours(7)) and not torch.equal(ours(7), ours(8))


@pytest.mark.parametrize(
    "length, frames, asked, expected",
    [(40, "auto", "auto", 17), (40, "33", "auto", 33), (10, "auto", "auto", 17), (10, "17", "8", 17)],
)
def test_images_are_taken_one_by_one(nodes, miniature, clip, length, frames, asked, expected):
    video = clip[torch.arange(length) % 17]
    positive, _, _ = nodes.AetherReconstruct(vae=miniature.vae, video=video, frames=frames, fps=asked).args
    found = positive[0][1]
    assert found["aether_size"] == (expected, 64, 96)
    assert found["aether_fps"] == (12 if asked == "auto" else int(asked))


@pytest.mark.parametrize(
    "rate, asked, expected", [(24, "auto", 24), (30, "auto", 15), (Fraction(24000, 1001), "12", 12)]
)
def test_videos_bring_their_rate(nodes, miniature, clip, rate, asked, expected):
    from comfy_api.latest import InputImpl, Types

    frames = clip[torch.arange(60) % 17]
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, frame_rate=Fraction(rate)))
    positive, _, _ = nodes.AetherReconstruct(vae=miniature.vae, video=video, fps=asked).args
    assert positive[0][1]["aether_fps"] == expected


def film(count, seconds=0.0):
    """(pictures, a lossless video of them): 24 a second, the first shown at ``seconds``."""
    av = pytest.importorskip("av")
    pictures = np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + round(24 * seconds), Fraction(1, 24)
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return torch.from_numpy(pictures) / 255, file.getvalue()


@pytest.fixture
def decoded(part, monkeypatch):
    """How many frames of each video were decoded."""
    from comfy_api.latest import InputImpl

    clips, counts = part("aether.clips.clip"), []
    core, ours = InputImpl.VideoFromFile.get_components, clips.decode_video

    def count_core(video):
        parts = core(video)
        counts.append(len(parts.images))
        return parts

    def count_ours(*given):
        counts.append(0)
        for found in ours(*given):
            counts[-1] += 1
            yield found

    monkeypatch.setattr(InputImpl.VideoFromFile, "get_components", count_core)
    monkeypatch.setattr(clips, "decode_video", count_ours)
    return counts


@pytest.mark.parametrize(
    "kind, fps, expected",
    [("file", "auto", [17]), ("file", "8", [49]), ("memory", "8", [79]), ("trimmed", "auto", [79]),
     ("trimmed", "8", [79]), ("short", "8", [48]), ("late", "8", [0, 240])],
)  # fmt: skip
@pytest.mark.slow
def test_of_a_long_video_only_what_is_needed_is_decoded(
    nodes, part, miniature, tmp_path, decoded, monkeypatch, kind, expected, fps
):
    """And what becomes of it is the same as if all had been."""
    from comfy_api.latest import InputImpl, Types

    pictures, data = film(240, seconds=4 if kind == "late" else 0)
    path = tmp_path / "film.mkv"
    path.write_bytes(data)
    window = {"trimmed": {"start_time": 1, "duration": 8}, "short": {"start_time": 8}}.get(kind, {})
    video = InputImpl.VideoFromFile(BytesIO(data) if kind in ("memory", "late") else str(path), **window)
    texts = []
    monkeypatch.setattr(part("nodes.tasks"), "show_text", lambda node, text: texts.append(text))

    def reconstruct(video):
        return nodes.AetherReconstruct(vae=miniature.vae, video=video, fps=fps, width=48, height=32)[0][0][1]

    found = reconstruct(video)
    assert decoded == expected
    # Core's reader turns the colors of a file a little off, ours does not.
    images = pictures if kind == "file" else video.get_components().images
    whole = Types.VideoComponents(images=images, frame_rate=Fraction(24))
    wanted = reconstruct(InputImpl.VideoFromComponents(whole))
    assert (found.pop("concat_latent_image") - wanted.pop("concat_latent_image")).abs().max() < 1e-5
    assert found == wanted and texts[0] == texts[1]


def test_a_trim_window_behind_the_end(nodes, miniature, tmp_path):
    from comfy_api.latest import InputImpl

    path = tmp_path / "film.mkv"
    path.write_bytes(film(20)[1])
    with pytest.raises(ValueError, match=r"^video: has no frames; .*trim window"):
        nodes.AetherReconstruct(vae=miniature.vae, video=InputImpl.VideoFromFile(str(path), start_time=5))


def test_what_a_resize_overshoots_is_cut_off(nodes, miniature):
    import comfy.utils

    checker = (torch.arange(32)[:, None] // 4 + torch.arange(48) // 4) % 2
    image = checker.float().expand(17, 3, 32, 48)
    large = comfy.utils.common_upscale(image, 96, 64, "bicubic", "disabled").movedim(1, -1)
    assert large.min() < -0.1 and large.max() > 1.1
    for name, field in (("AetherReconstruct", "video"), ("AetherPredict", "image")):
        found, wanted = (
            getattr(nodes, name)(vae=miniature.vae, **{field: pictures})[0][0][1]["concat_latent_image"]
            for pictures in (large, large.clamp(0, 1))
        )
        assert torch.equal(found, wanted)
    for wrong in (large * 2 - 1, large * 255):
        with pytest.raises(ValueError, match=r"^video: values reach"):
            nodes.AetherReconstruct(vae=miniature.vae, video=wrong)


@pytest.mark.parametrize("kind", ["images", "file", "trimmed"])
def test_a_start_frame_and_every_nth(nodes, miniature, tmp_path, kind):
    """Like the frames picked by hand: of images, of a file, and of a part of one."""
    from comfy_api.latest import InputImpl

    frames, data = film(60)
    path = tmp_path / "clip.mkv"
    path.write_bytes(data)
    if kind == "images":
        video = frames
    else:
        video = InputImpl.VideoFromFile(str(path), start_time=0.25 if kind == "trimmed" else 0)
        frames = frames[6:] if kind == "trimmed" else frames

    def conditioned(video, **picked):
        made = nodes.AetherReconstruct(
            vae=miniature.vae, video=video, frames="17", fps="12", width=48, height=32, **picked
        )
        return made[0][0][1]["concat_latent_image"]

    picked = conditioned(video, start_frame=10, every_nth=2)
    assert torch.allclose(picked, conditioned(frames[10::2]), atol=0.05)
    assert not torch.allclose(picked, conditioned(frames), atol=0.05)
    with pytest.raises(ValueError, match="start_frame: 60 leaves 0"):
        conditioned(video, start_frame=60)


@pytest.mark.parametrize("shape", [(17, 80, 120, 3), (17, 200, 96, 3), (17, 64, 96, 4)])
def test_pictures_are_fitted(nodes, miniature, shape):
    video = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    positive, _, _ = nodes.AetherReconstruct(vae=miniature.vae, video=video).args
    assert positive[0][1]["concat_latent_image"].shape == (1, 40, 5, 8, 12)
    positive, _, _ = nodes.AetherReconstruct(vae=miniature.vae, video=video, width=48, height=32).args
    assert positive[0][1]["concat_latent_image"].shape == (1, 40, 5, 4, 6)


def test_a_raymap_is_a_camera(nodes, part, miniature, clip, ksampler):
    world = part("aether.miniature")
    rendered = world.render(world.random_scene(3), 17, 64, 96, 12)
    raymaps = part("aether.geometry.raymap")
    raymap = torch.from_numpy(raymaps.from_cameras(rendered.poses, rendered.intrinsics, 64, 96))
    camera = {"raymap": raymap, "fps": 15}
    positive, negative, latent = nodes.AetherPredict(
        vae=miniature.vae, image=clip[:1], frames="17", fps="auto", camera=camera
    ).args
    first, second = entries(positive, negative)
    assert first["aether_fps"] == latent["aether_fps"] == 15
    for entry in (first, second):
        packed = entry["concat_latent_image"][0, 16:].transpose(0, 1)
        assert torch.allclose(part("aether.geometry.raymap").unpack(packed, 17), raymap)
    with pytest.raises(ValueError, match=r"^camera: has shape"):
        nodes.AetherPredict(vae=miniature.vae, image=clip[:1], frames="25", camera=camera)
    cameras, path, text = nodes.AetherCameras(raymap=camera).args
    assert np.abs(cameras["cameras"].poses - rendered.poses).max() < 1e-3
    assert path.shape == (17, 480, 640, 3) and 0 <= path.min() < path.max() <= 1
    assert json.loads(text)["fps"] == 15 and len(json.loads(text)["frames"]) == 17


def test_streams_and_depth(nodes, miniature, predicted, ksampler):
    samples = ksampler(miniature.model, predicted, steps=2)
    before = samples.clone()
    rgb, disparity, raymap = nodes.AetherSplit(latent={"samples": samples, "aether_fps": 8}).args
    assert torch.equal(rgb["samples"], samples[:, :16]) and torch.equal(
        disparity["samples"], samples[:, 16:32]
    )
    assert raymap["raymap"].shape == (17, 6, 4, 6) and raymap["fps"] == 8
    plain = miniature.vae.decode(rgb["samples"])
    assert plain.shape == (1, 17, 32, 48, 3) and 0 <= plain.min() and plain.max() <= 1
    with torch.inference_mode():
        tiled = miniature.vae.decode_tiled(
            rgb["samples"], tile_x=32, tile_y=32, overlap=0, tile_t=16, overlap_t=2
        )
    assert (tiled - plain).abs().max() < 1e-5
    pictures = {}
    for normalize in ("sequence", "none"):
        for colormap in ("gray", "Spectral"):
            image, depth, values = nodes.AetherDepth(
                vae=miniature.vae, disparity=disparity, normalize=normalize, colormap=colormap
            ).args[:3]
            assert image.shape == depth.shape == values.shape == (17, 32, 48, 3)
            assert image.dtype == depth.dtype == torch.float32 and 0 <= image.min() and image.max() <= 1
            pictures[normalize, colormap] = image
    assert torch.allclose(depth, 1 / values.clamp(1e-3, 1), rtol=1e-6)
    assert torch.allclose(pictures["none", "gray"], values.clamp(0, 1))
    assert pictures["sequence", "gray"].min() == 0 and pictures["sequence", "gray"].max() == 1
    assert torch.equal(samples, before)


def stable_diffusion() -> SimpleNamespace:
    """A MODEL and a VAE of another kind, without weights worth the name."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    config = comfy.supported_models.SD15({"disable_unet_model_creation": True})
    base = comfy.model_base.BaseModel(config)
    base.diffusion_model = torch.nn.Linear(1, 1)
    cpu = torch.device("cpu")
    vae = comfy.sd.VAE.__new__(comfy.sd.VAE)
    vae.first_stage_model = torch.nn.Linear(1, 1)
    text = [[torch.zeros(1, 77, 768), {"pooled_output": torch.zeros(1, 768)}]]
    return SimpleNamespace(model=comfy.model_patcher.ModelPatcher(base, cpu, cpu), vae=vae, text=text)


def test_other_models_are_refused_by_name(nodes, miniature, predicted, clip, ksampler):
    other = stable_diffusion()
    sampler = {"positive": predicted.positive, "negative": predicted.negative, "latent": predicted.latent}
    with pytest.raises(ValueError, match=r"^model: is SD15: .* is not supported; HERO takes"):
        nodes.HeroPatch(model=other.model)
    with pytest.raises(ValueError, match=r"^model: is SD15, which is not an Aether model"):
        nodes.AetherSampler(model=other.model, **sampler)
    for call in (
        lambda: nodes.AetherReconstruct(vae=other.vae, video=clip),
        lambda: nodes.AetherPredict(vae=other.vae, image=clip),
        lambda: nodes.AetherPlan(vae=other.vae, start=clip, goal=clip),
        lambda: nodes.AetherDepth(vae=other.vae, disparity=predicted.latent),
    ):
        with pytest.raises(ValueError, match=r"^vae: is a Linear, which is not Aether's"):
            call()
    for name in ("positive", "negative"):
        with pytest.raises(ValueError, match=rf"^{name}: is no conditioning of Aether's"):
            nodes.AetherSampler(model=miniature.model, **sampler | {name: other.text})
    texts = SimpleNamespace(positive=other.text, negative=other.text, latent=predicted.latent)
    with pytest.raises(ValueError, match=r"^positive, negative: an Aether MODEL takes no text"):
        ksampler(miniature.model, texts)


def with_latent(task: SimpleNamespace, samples: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(**vars(task) | {"latent": {"samples": samples}})


def test_latents_of_another_kind(nodes, miniature, predicted, ksampler):
    small = torch.zeros(1, 4, 8, 8)
    for call in (
        lambda: nodes.AetherSplit(latent={"samples": small}),
        lambda: nodes.AetherSampler(
            model=miniature.model, positive=predicted.positive, negative=predicted.negative,
            latent={"samples": small},
        ),
        lambda: ksampler(miniature.model, with_latent(predicted, small)),
        lambda: ksampler(miniature.model, with_latent(predicted, small + 1)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^latent: "):
            call()
    broken = torch.full((1, 56, 5, 4, 6), float("nan"))
    with pytest.raises(ValueError, match=r"^latent: holds NaN.*fp16"):
        nodes.AetherSplit(latent={"samples": broken})
    with pytest.raises(ValueError, match=r"^latent: holds 2 clips"):
        nodes.AetherSplit(latent={"samples": torch.zeros(2, 56, 5, 8, 12)})


def test_parts_of_two_task_nodes_do_not_mix(nodes, miniature, predicted, clip, ksampler):
    longer = nodes.AetherPredict(vae=miniature.vae, image=clip[:1], frames="25").args
    with pytest.raises(ValueError, match=r"^negative: belongs to another task node"):
        nodes.AetherSampler(
            model=miniature.model, positive=predicted.positive, negative=longer[1], latent=predicted.latent
        )
    mixed = SimpleNamespace(positive=longer[0], negative=longer[1], latent=predicted.latent)
    with pytest.raises(ValueError, match=r"^latent: is .*same node"):
        ksampler(miniature.model, mixed)
    with pytest.raises(ValueError, match=r"^latent: is .*same node"):
        nodes.AetherSampler(model=miniature.model, **vars(mixed))


@pytest.mark.parametrize(
    "name, inputs, message",
    [
        ("AetherPredict", {"width": 96}, "width, height: give both"),
        (
            "AetherPredict",
            {"width": 100, "height": 64},
            "width, height: 100 x 64 (width x height) cannot be used",
        ),
        ("AetherPredict", {"width": -8, "height": 64}, "width: -8 cannot be used"),
        ("AetherPredict", {"image": torch.rand(64, 96, 3)}, "image: has shape"),
        ("AetherPredict", {"image": torch.full((1, 64, 96, 3), float("nan"))}, "image: holds NaN"),
        ("AetherPredict", {"image": torch.full((1, 64, 96, 3), 255.0)}, "image: values reach"),
        ("AetherReconstruct", {"video": torch.rand(1, 64, 96, 3)}, "video: has a single frame"),
        ("AetherReconstruct", {"video": torch.rand(0, 64, 96, 3)}, "video: has no frames"),
        ("AetherPlan", {"goal": torch.full((1, 64, 96, 3), -1.0)}, "goal: values reach"),
    ],
)
def test_bad_inputs_are_named(nodes, miniature, clip, name, inputs, message):
    given = {
        "AetherPredict": {"image": clip[:1], "frames": "17"},
        "AetherReconstruct": {"video": clip},
        "AetherPlan": {"start": clip[:1], "goal": clip[-1:], "frames": "17"},
    }[name]
    with pytest.raises(ValueError) as caught:
        getattr(nodes, name)(vae=miniature.vae, **given | inputs)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("guidance", [0.5, -1.0, float("nan"), float("inf"), 21.0])
def test_bad_guidance(nodes, miniature, predicted, guidance):
    assert "cannot be used" in nodes.get("AetherSampler").validate_inputs(guidance=guidance)
    with pytest.raises(ValueError, match=r"^guidance: "):
        nodes.AetherSampler(model=miniature.model, **vars(predicted), guidance=guidance)


def test_reconstruction_refuses_guidance(nodes, miniature, clip):
    positive, negative, latent = nodes.AetherReconstruct(vae=miniature.vae, video=clip).args
    with pytest.raises(ValueError, match=r"^guidance: reconstruction has none"):
        nodes.AetherSampler(
            model=miniature.model, positive=positive, negative=negative, latent=latent, guidance=3.0
        )


@pytest.mark.parametrize(
    "field, bad",
    [
        *((name, value) for name in ("tau", "ratio", "threshold") for value in (NAN, float("inf"), -1.0)),
        ("tau", 0.0), ("tau", 1.01), ("ratio", 0.0), ("ratio", 0.01), ("interval", 0), ("interval", 2.5),
        ("warmup", 0), ("patch_frames", 0), ("patch_rows", 65), ("patch_columns", -1), ("shallow", "all"),
        ("text", ""), ("seed", -1), ("preset", "unknown"),
        ("warmup", "5 hours"), ("cooldown", "-1"), ("mask", "011"), ("mask", "2 of 2: 1"),
        ("setting", ""), ("setting", "interval=0"), ("setting", "fast"),
    ],
)  # fmt: skip
def test_bad_hero_settings_are_named_and_the_model_is_untouched(nodes, miniature, field, bad):
    before = (repr(miniature.model.model_options), dict(miniature.model.attachments))
    settings = {"preset": "custom", field: bad}
    named = "patch" if field.startswith("patch") else field
    widgets = {i.id: i.default for i in nodes.get("HeroPatch").define_schema().inputs if i.id != "model"}
    with pytest.raises(ValueError, match=rf"^{named}: "):
        nodes.get("HeroPatch").check_lazy_status(**widgets | settings)
    with pytest.raises(ValueError, match=rf"^{named}: "):
        nodes.HeroPatch(model=miniature.model, **settings)
    assert (repr(miniature.model.model_options), dict(miniature.model.attachments)) == before


def test_presets_win_over_sliders(part, nodes):
    hero = part("nodes.hero")
    engine = part("hero_engine")
    widgets = {i.id: i.default for i in nodes.get("HeroPatch").define_schema().inputs if i.id != "model"}
    assert hero.make_config(**widgets) == engine.PRESETS["balanced"]
    assert hero.make_config(**widgets | {"interval": 9, "tau": 0.1}) == engine.PRESETS["balanced"]
    assert hero.make_config(**widgets | {"preset": "paper-fast", "seed": 5}).seed == 5
    custom = hero.make_config(**widgets | {"preset": "custom", "tau": 1, "warmup": "20%"})
    assert custom == replace(engine.PRESETS["balanced"], tau="100%", ratio=0.17, warmup="20%")
    assert nodes.get("HeroPatch").check_lazy_status(model=None, **widgets) == ["model"]
    assert nodes.get("HeroPatch").check_lazy_status(model="there", **widgets) == []


def test_a_setting_wins_over_the_preset_and_tau_blocks_over_it(part, nodes):
    hero, engine = part("nodes.hero"), part("hero_engine")
    widgets = {i.id: i.default for i in nodes.get("HeroPatch").define_schema().inputs if i.id != "model"}
    masked = hero.make_config(**widgets | {"preset": "custom", "mask": "1101"})
    assert masked == replace(engine.PRESETS["balanced"], ratio=0.17, mask="3 of 4: 1101")
    assert hero.make_config(**widgets | {"mask": "1101"}) == engine.PRESETS["balanced"]
    given = {"setting": "tau=3 mask=10 seed=9 storage=host", "seed": 5, "storage": "float8"}
    for preset in ("custom", "fast"):
        found = hero.make_config(**widgets | given | {"preset": preset, "mask": "1101"})
        assert found == engine.HeroConfig(tau=3, mask="10", seed=5, storage="float8")
    assert hero.make_config(**widgets | given | {"tau_blocks": 7}).tau == 7


@pytest.mark.parametrize(
    "given", [{"preset": "custom", "mask": "1101 0010"}, {"setting": "mask='4 of 8: 11010010'"}]
)
def test_the_steps_of_a_mask(nodes, part, miniature, predicted, ksampler, given):
    patched = nodes.HeroPatch(model=miniature.model, **given)[0]
    report = part("nodes.bridge.hero_reports").box_of(patched).find(ksampler(patched, predicted, steps=8))
    assert [record.reason.full for record in report.records] == [bit == "1" for bit in "11010010"]
    report = part("nodes.bridge.hero_reports").box_of(patched).find(ksampler(patched, predicted, steps=16))
    assert report.full_steps == report.cached_steps == 8


def test_a_patch_larger_than_the_clip_is_named(nodes, miniature, predicted, ksampler):
    patched = nodes.HeroPatch(model=miniature.model, preset="custom", patch_frames=6)[0]
    with pytest.raises(ValueError, match=r"^patch: .*larger than the token grid"):
        ksampler(patched, predicted)


@pytest.fixture
def core_vae(part):
    """Core's own autoencoder, here small and untrained."""
    import comfy.ldm.cogvideo.vae
    import comfy.model_patcher
    import comfy.sd

    model = part("aether.miniature").build()
    ours = part("nodes.bridge.vae").AetherVAE(model)
    inner = comfy.ldm.cogvideo.vae.AutoencoderKLCogVideoX(
        block_out_channels=(16, 32, 64, 64), layers_per_block=1, groups=8
    ).eval()
    inner.load_state_dict(model.vae.state_dict())
    vae = comfy.sd.VAE.__new__(comfy.sd.VAE)
    vae.__dict__ |= ours.__dict__ | {"first_stage_model": inner}
    cpu = torch.device("cpu")
    vae.patcher = comfy.model_patcher.ModelPatcher(inner, cpu, cpu)
    return vae


@pytest.mark.slow
def test_a_vae_of_cores_encodes_and_decodes(nodes, part, clip, core_vae):
    """Uncut clips it encodes as diffusers' does."""
    ours, vae = part("nodes.bridge.vae").AetherVAE(part("aether.miniature").build()), core_vae
    for inner in (vae.first_stage_model, ours.first_stage_model.vae):
        inner.num_sample_frames_batch_size = 17
    theirs, own = (
        nodes.AetherReconstruct(vae=v, video=clip, width=96, height=64)[0][0][1]["concat_latent_image"]
        for v in (vae, ours)
    )
    # Ours is a sample of the posterior, core's its mean.
    assert 0 < (theirs - own).norm() / own.norm() < 0.08
    streams = nodes.AetherSplit(latent={"samples": torch.zeros(1, 56, 5, 8, 12)}).args
    assert nodes.AetherDepth(vae=vae, disparity=streams[1])[1].shape == (17, 64, 96, 3)


@pytest.fixture
def our_vae(part):
    """The miniature's, with Aether's own size, which tiles go by."""
    model = part("aether.miniature").build()
    model.vae.register_to_config(sample_height=480, sample_width=720)
    return part("nodes.bridge.vae").AetherVAE(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["our_vae", "core_vae"])
def test_where_memory_runs_out_the_vae_works_in_tiles(nodes, clip, kind, monkeypatch, caplog, request):
    """There is room for nine tenths of the picture."""
    vae, height, width = request.getfixturevalue(kind), 64, 416
    failures = []

    def limit(name, scale):
        layer = vae.first_stage_model.get_submodule(name)
        forward = layer.forward

        def limited(given, *args, **kwargs):
            if scale**2 * given.shape[3] * given.shape[4] > 0.9 * height * width:
                failures.append(name)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(given, *args, **kwargs)

        monkeypatch.setattr(layer, "forward", limited)

    def results():
        torch.manual_seed(0)
        condition = nodes.AetherReconstruct(vae=vae, video=clip[:5], width=width, height=height)[0][0][1]
        latent = condition["concat_latent_image"][:, :16]
        stream = nodes.AetherSplit(latent={"samples": torch.cat([latent, latent, latent, latent[:, :8]], 1)})
        return latent, nodes.AetherDepth(vae=vae, disparity=stream.args[1])[2]

    expected = results()
    part = "vae." if kind == "our_vae" else ""
    names = [part + "encoder.conv_in", part + "decoder.conv_in"]
    limit(names[0], 1)
    limit(names[1], 8)
    for one, other in zip(expected, results(), strict=True):
        assert 0 < (one - other).norm() / one.norm() < 0.2
    assert failures == names
    assert "encoding tile by tile" in caplog.text and "decoding tile by tile" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("MPS backend out of memory"), MemoryError()], ids=repr)
@torch.inference_mode()
@pytest.mark.slow
def test_cores_nodes_work_in_tiles_on_every_device(our_vae, clip, error, monkeypatch, caplog):
    latent = torch.zeros(1, 16, 3, 8, 12)
    expected = our_vae.encode(clip[:5]), our_vae.decode(latent)
    inner = our_vae.first_stage_model
    for name in ("encode", "decode"):
        work, seen = getattr(inner, name), []

        def fail(given, work=work, seen=seen):
            seen.append(given)
            if len(seen) == 1:
                raise error
            return work(given)

        monkeypatch.setattr(inner, name, fail)
    results = our_vae.encode(clip[:5]), our_vae.decode(latent)
    for one, other in zip(results, expected, strict=True):
        assert one.shape == other.shape and (one - other).norm() / other.norm() < 0.2
    assert "encoding tile by tile" in caplog.text and "decoding tile by tile" in caplog.text
    monkeypatch.setattr(inner, "decode", lambda _: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        our_vae.decode(latent)


@pytest.mark.slow
@torch.inference_mode()
def test_a_device_too_small_for_the_whole_decodes_in_tiles_at_once(nodes, our_vae, monkeypatch, caplog):
    import comfy.model_management as management

    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 56, 1, 8, 34, generator=generator)
    rgb, disparity, _ = nodes.AetherSplit(latent={"samples": latent}).args
    whole, depth = our_vae.decode(rgb["samples"]), nodes.AetherDepth(vae=our_vae, disparity=disparity)[2]
    needed = our_vae.memory_used_decode(rgb["samples"].shape, torch.float32)
    monkeypatch.setattr(management, "get_total_memory", lambda device=None: needed - 1)
    assert "decoding tile by tile" not in caplog.text
    found, tiled = our_vae.decode(rgb["samples"]), our_vae.decode_tiled(rgb["samples"], 32, 32, 8)
    assert torch.equal(found, tiled) and 0 < (found - whole).norm() / whole.norm() < 0.2
    assert "decoding tile by tile" in caplog.text
    found = nodes.AetherDepth(vae=our_vae, disparity=disparity)[2]
    assert 0 < (found - depth).norm() / depth.norm() < 0.2


def test_versions(part):
    compat = part("nodes.bridge.compat")
    assert [compat.is_supported(v) for v in ("0.33.0", "0.33.1", "0.40.0", "1.0.0", "0.33.0+local")] == [
        True
    ] * 5
    assert [compat.is_supported(v) for v in ("0.32.9", "0.3.77", "unknown", "")] == [False] * 4
    compat.check_comfyui()


def test_an_old_comfyui_is_told_so(part, monkeypatch):
    import comfyui_version

    monkeypatch.setattr(comfyui_version, "__version__", "0.3.50")
    with pytest.raises(
        ImportError, match=r"needs ComfyUI 0\.33\.0 or newer, and this is 0\.3\.50: please update"
    ):
        part("nodes.extension").make_extension()
