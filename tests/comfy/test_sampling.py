"""Core's samplers and Aether Sampler on the bridge's MODEL, with HERO and without."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

ALL_FULL = {"preset": "custom", "interval": 1}
CACHING = {"preset": "custom", "interval": 3, "warmup": 2, "threshold": 0.0}


def report_of(part, model, samples):
    return part("nodes.bridge.hero_reports").box_of(model).find(samples)


def counts(report) -> tuple[int, int]:
    return report.full_steps, report.cached_steps


def record_calls(model, monkeypatch) -> list[tuple[float, int]]:
    """(timestep, batch) of every call of the transformer from now on."""
    calls = []
    transformer = model.model.diffusion_model.transformer
    forward = transformer.forward

    def record(**kwargs):
        calls.append((float(kwargs["timestep"][0]), len(kwargs["hidden_states"])))
        return forward(**kwargs)

    monkeypatch.setattr(transformer, "forward", record)
    return calls


def test_core_samples_at_the_models_timesteps_in_one_batch(miniature, predicted, ksampler, monkeypatch):
    calls = record_calls(miniature.model, monkeypatch)
    samples = ksampler(miniature.model, predicted, steps=4)
    assert [round(t) for t, _ in calls] == [999, 749, 499, 250]
    assert {batch for _, batch in calls} == {2}
    assert samples.shape == (1, 56, 5, 4, 6) and torch.isfinite(samples).all()


@pytest.mark.parametrize("sampler, apart", [("euler", False), ("euler", True), ("heun", False)])
def test_every_step_full_changes_nothing(nodes, miniature, predicted, ksampler, monkeypatch, sampler, apart):
    if apart:  # as where memory is short
        monkeypatch.setattr(type(miniature.model.model), "memory_required", lambda *a, **k: 1e18)
    calls = record_calls(miniature.model, monkeypatch)
    plain = ksampler(miniature.model, predicted, steps=4, sampler=sampler)
    patched = nodes.HeroPatch(model=miniature.model, **ALL_FULL)[0]
    assert torch.equal(ksampler(patched, predicted, steps=4, sampler=sampler), plain)
    assert {batch for _, batch in calls} == ({1} if apart else {2})


@pytest.mark.parametrize("apart", [False, True], ids=["batched", "apart"])
@pytest.mark.slow
def test_the_patch_accelerates_every_seed_alike_and_repeats_itself(
    nodes, hero_left, part, miniature, predicted, ksampler, monkeypatch, apart
):
    if apart:
        monkeypatch.setattr(type(miniature.model.model), "memory_required", lambda *a, **k: 1e18)
    plain = ksampler(miniature.model, predicted)
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    first = ksampler(patched, predicted, seed=1)
    second = ksampler(patched, predicted, seed=2)
    # 2 of warm-up, then one in three: 0 1 | 4 7.
    assert counts(report_of(part, patched, first)) == (4, 4)
    assert counts(report_of(part, patched, second)) == (4, 4)
    assert not torch.equal(first, plain) and not torch.equal(first, second)
    assert torch.equal(ksampler(patched, predicted, seed=1), first)
    assert torch.equal(ksampler(miniature.model, predicted), plain)
    assert not hero_left(miniature.model)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2s_ancestral", "uni_pc"])
def test_other_samplers_stay_finite_under_hero(nodes, part, miniature, predicted, ksampler, sampler):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    samples = ksampler(patched, predicted, sampler=sampler)
    assert torch.isfinite(samples).all()
    assert report_of(part, patched, samples).cached_steps > 0


def test_applying_twice_keeps_the_last(nodes, part, miniature, predicted, ksampler):
    once = nodes.HeroPatch(model=miniature.model, **ALL_FULL)[0]
    twice = nodes.HeroPatch(model=once, **CACHING)[0]
    samples = ksampler(twice, predicted)
    assert counts(report_of(part, twice, samples)) == (4, 4)
    assert report_of(part, once, samples) is None
    assert counts(report_of(part, once, ksampler(once, predicted))) == (8, 0)


def test_the_model_that_came_in_stays_as_it_was(nodes, miniature):
    model = miniature.model
    before = (repr(model.model_options), repr(model.wrappers), dict(model.attachments))
    nodes.HeroPatch(model=model, **CACHING)
    assert (repr(model.model_options), repr(model.wrappers), dict(model.attachments)) == before


def test_guidance_of_one_needs_no_negative(nodes, part, miniature, predicted, ksampler, monkeypatch):
    calls = record_calls(miniature.model, monkeypatch)
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    samples = ksampler(patched, predicted, cfg=1.0)
    assert {batch for _, batch in calls} == {1}
    assert counts(report_of(part, patched, samples)) == (4, 4)


def test_positive_and_negative_are_different_conditions(miniature, predicted, ksampler):
    swapped = SimpleNamespace(
        positive=predicted.negative, negative=predicted.positive, latent=predicted.latent
    )
    assert not torch.allclose(
        ksampler(miniature.model, predicted), ksampler(miniature.model, swapped), atol=1e-3
    )


@pytest.mark.parametrize("where", ["callback", "block"])
def test_an_interrupt_frees_everything_and_the_next_run_is_right(
    nodes, hero_left, part, miniature, predicted, ksampler, monkeypatch, where
):
    import comfy.model_management

    interrupt = comfy.model_management.InterruptProcessingException
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    expected = ksampler(patched, predicted)

    def stop(step, *args):
        if step == 4:
            raise interrupt()

    if where == "callback":
        with pytest.raises(interrupt):
            ksampler(patched, predicted, callback=stop)
    else:
        block = miniature.model.model.diffusion_model.transformer.transformer_blocks[2]
        calls = iter(range(99))
        handle = block.register_forward_pre_hook(lambda *args: stop(next(calls)))
        with pytest.raises(interrupt):
            ksampler(patched, predicted)
        handle.remove()
    assert not hero_left(miniature.model)
    assert torch.equal(ksampler(patched, predicted), expected)


def task_outputs(nodes, miniature, clip, task: str) -> SimpleNamespace:
    size = {"height": clip.shape[1], "width": clip.shape[2], "seed": 5}
    image, goal = clip[:1], clip[-1:]
    outputs = {
        "reconstruction": lambda: nodes.AetherReconstruct(vae=miniature.vae, video=clip, **size),
        "prediction": lambda: nodes.AetherPredict(vae=miniature.vae, image=image, frames="17", **size),
        "planning": lambda: nodes.AetherPlan(vae=miniature.vae, start=image, goal=goal, frames="17", **size),
    }[task]().args
    return SimpleNamespace(**dict(zip(("positive", "negative", "latent"), outputs, strict=True)))


@pytest.mark.parametrize(
    "task, scheduler",
    [
        ("reconstruction", "dpm"),
        pytest.param("prediction", "dpm", marks=pytest.mark.slow),
        pytest.param("planning", "ddim", marks=pytest.mark.slow),
        pytest.param("reconstruction", "ddim", marks=pytest.mark.slow),
        pytest.param("prediction", "ddim", marks=pytest.mark.slow),
        pytest.param("planning", "dpm", marks=pytest.mark.slow),
    ],
)
def test_aether_sampler_is_the_librarys(nodes, part, miniature, clip, task, scheduler):
    clip = clip[:, :32, :48]
    conditioned = task_outputs(nodes, miniature, clip, task)
    samples = nodes.AetherSampler(
        model=miniature.model, **vars(conditioned), seed=9, steps=4, scheduler=scheduler
    )[0]["samples"]

    model = part("aether.miniature").build()
    pictures = {
        "reconstruction": {"video": clip.numpy()},
        "prediction": {"image": clip[0].numpy()},
        "planning": {"image": clip[0].numpy(), "goal": clip[-1].numpy()},
    }[task]
    conditions = part("aether.generation.tasks").condition(
        model, task, **pictures, generator=torch.Generator().manual_seed(5)
    )
    model = dataclasses.replace(model, scheduler=part("aether.model.schedulers").make_scheduler(scheduler))
    expected = part("aether.generation.sampling").sample(
        model, conditions, steps=4, generator=torch.Generator().manual_seed(9)
    )
    streams = nodes.AetherSplit(latent={"samples": samples}).args
    decoded = part("aether.generation.latents").decode(model, expected)
    scale = model.vae.config.scaling_factor
    assert (samples[:, :32] * scale - expected.transpose(1, 2)[:, :32]).abs().max() < 1e-4
    assert (samples[:, 32:] - expected.transpose(1, 2)[:, 32:]).abs().max() < 1e-4
    rgb = miniature.vae.decode(streams[0]["samples"])[0]
    assert (rgb - torch.from_numpy(decoded.rgb)).abs().max() < 1e-4
    _, depth, disparity = nodes.AetherDepth(vae=miniature.vae, disparity=streams[1]).args[:3]
    assert (disparity[..., 1] - torch.from_numpy(decoded.disparity)).abs().max() < 1e-4
    wanted = part("aether.geometry.depth").disparity_to_depth(decoded.disparity)
    assert (1 / depth[..., 0] - 1 / torch.from_numpy(wanted)).abs().max() < 1e-4
    assert (streams[2]["raymap"] - torch.from_numpy(decoded.raymap)).abs().max() < 1e-4


def test_aether_sampler_takes_the_tasks_own_settings(nodes, part, miniature, clip, monkeypatch):
    seen = []
    module = part("nodes.sampler")
    monkeypatch.setattr(
        module, "sample", lambda model, conditions, **settings: seen.append(settings) or 1 / 0
    )
    clip = clip[:, :32, :48]
    for task in ("reconstruction", "prediction", "planning"):
        with pytest.raises(ZeroDivisionError):
            nodes.AetherSampler(model=miniature.model, **vars(task_outputs(nodes, miniature, clip, task)))
    assert [settings["steps"] for settings in seen] == [4, 50, 50]
    assert all(settings["guidance"] is None and settings["dynamic_guidance"] is None for settings in seen)


@pytest.mark.slow
def test_aether_sampler_honors_hero_and_its_absence(nodes, hero_left, part, miniature, predicted):
    def run(model, seed=3):
        return nodes.AetherSampler(model=model, **vars(predicted), seed=seed, steps=8)[0]["samples"]

    plain = run(miniature.model)
    full = nodes.HeroPatch(model=miniature.model, **ALL_FULL)[0]
    assert torch.equal(run(full), plain)
    caching = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    fast = run(caching)
    assert counts(report_of(part, caching, fast)) == (4, 4)
    assert counts(report_of(part, caching, run(caching, seed=4))) == (4, 4)
    assert torch.equal(run(caching), fast) and not torch.equal(fast, plain)
    assert torch.equal(run(miniature.model), plain)
    assert not hero_left(miniature.model)


def test_aether_sampler_leaves_the_unconditional_half_out(nodes, part, miniature, predicted, monkeypatch):
    def run(model, **options):
        return nodes.AetherSampler(model=model, **vars(predicted), steps=6, **options)[0]["samples"]

    scales = {5: 1.0, 3: 1.04}
    monkeypatch.setattr(
        part("aether.generation.sampling"),
        "dynamic_guidance",
        lambda scale, t, n: scales.get(round(t * n / 1000) - 1, 3.0),
    )
    calls = record_calls(miniature.model, monkeypatch)
    run(miniature.model)
    run(miniature.model, guidance_skip=0.05)
    assert [batch for _, batch in calls] == [1, 2, 2, 2, 2, 2, 1, 2, 1, 2, 2, 2]
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    report = report_of(part, patched, run(patched, guidance_skip=0.05))
    assert {str(record.branch) for record in report.records} == {"unconditional", "conditional"}
    # Not of the first step, which is full and which cached ones go on from.
    assert report.half_steps == 1 and not report.records[4].reason.full
    assert {batch for _, batch in calls[12:]} == {1} and len(calls) == 12 + 11


def test_aether_sampler_stops_when_asked(nodes, hero_left, miniature, predicted, monkeypatch):
    import comfy.model_management

    interrupt = comfy.model_management.InterruptProcessingException
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    calls = record_calls(miniature.model, monkeypatch)
    last = miniature.model.model.diffusion_model.transformer.proj_out

    def ask(*args):
        if len(calls) == 5:
            comfy.model_management.interrupt_current_processing(True)

    handle = last.register_forward_hook(ask)
    with pytest.raises(interrupt):
        nodes.AetherSampler(model=patched, **vars(predicted), steps=8)
    handle.remove()
    assert len(calls) == 5
    monkeypatch.undo()
    assert not hero_left(miniature.model)


def test_previews_show_rgb_and_disparity_side_by_side(nodes, part, miniature, clip, monkeypatch):
    import comfy.utils
    import latent_preview

    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    conditioned = task_outputs(nodes, miniature, clip, "reconstruction")
    previews = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, **k: previews.append(preview[1])
    )
    nodes.AetherSampler(model=miniature.model, **vars(conditioned), steps=4)
    assert [picture.size for picture in previews] == [(24, 8)] * 4


def test_preview_colors_are_fitted(part, clip):
    """On a VAE whose latents are linear in color, the colors come back."""
    mixing = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))

    def encode(pixels):
        cells = torch.nn.functional.avg_pool2d(pixels[1:].mean(dim=0).permute(2, 0, 1) * 2 - 1, 8)
        frame = (torch.einsum("cd,dhw->chw", mixing, cells) + 0.3) / 0.7
        return torch.stack([torch.zeros_like(frame), frame], dim=1)[None]

    vae = SimpleNamespace(encode=encode, spec=part("aether.spec").AETHER_V1)
    factors, bias = part("nodes.bridge.vae").fit_preview(vae)
    latent = encode(clip[:5])[0, :, 1] * 0.7
    drawn = torch.einsum("chw,cd->dhw", latent, torch.tensor(factors)) + torch.tensor(bias)[:, None, None]
    colors = torch.nn.functional.avg_pool2d(clip[1:5].mean(dim=0).permute(2, 0, 1) * 2 - 1, 8)
    assert (drawn - colors).abs().max() < 1e-4


def test_core_is_told_what_a_pass_takes(miniature, nodes, predicted, ksampler, monkeypatch):
    """About what a run under HERO takes by count, and at Aether's size a quarter less than core's rule."""
    import comfy.model_management as management

    from benchmarks.memory import Peak
    from benchmarks.sizes import SIZES, build_model

    base = miniature.model.model
    shape = [2, *predicted.latent["samples"].shape[1:]]
    monkeypatch.setattr(management, "pytorch_attention_flash_attention", lambda: True)
    told, patched = base.memory_required(shape), nodes.HeroPatch(model=miniature.model, preset="fast")[0]
    with Peak() as peak:
        ksampler(patched, predicted, steps=8)
    # Latents, which are small beside the tokens of a wide model, are not in it.
    assert 0.9 * peak.bytes < told < 1.5 * peak.bytes

    aethers = build_model(SIZES["aether"], torch.device("meta"))
    parts = SimpleNamespace(transformer=aethers, prompt_embeds=torch.empty(1, 226, 4096))
    monkeypatch.setattr(base, "parts", parts)
    monkeypatch.setattr(base, "get_dtype_inference", lambda: torch.bfloat16)
    shape = [2, 56, 11, 60, 90]
    assert 3.0e9 < base.memory_required(shape) < 0.76 * super(type(base), base).memory_required(shape)


@pytest.mark.parametrize("which", ["miniature", "core"])
def test_no_steps_at_all(nodes, miniature, core_model, predicted, which):
    """SplitSigmas at step 0 leaves one sigma, with which core does nothing."""
    import comfy.sample
    import comfy.samplers

    model, task = (core_model.model, core_model.task) if which == "core" else (miniature.model, predicted)
    patched = nodes.HeroPatch(model=model, **CACHING)[0]
    latent = task.latent["samples"]
    sampler = comfy.samplers.sampler_object("euler")
    results = [
        comfy.sample.sample_custom(
            each, torch.zeros_like(latent), 3.0, sampler, torch.ones(1), task.positive, task.negative, latent,
            disable_pbar=True,
        )
        for each in (model, patched)
    ]  # fmt: skip
    assert torch.equal(*results)


def test_samplers_that_go_back_in_time_run_without(nodes, miniature, predicted, ksampler, caplog):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    result = ksampler(patched, predicted, steps=4, sampler="heunpp2")
    assert torch.equal(result, ksampler(miniature.model, predicted, steps=4, sampler="heunpp2"))
    assert "runs without HERO" in caplog.text


@pytest.mark.parametrize("which", ["miniature", "core"])
@pytest.mark.parametrize("hero_first", [True, False])
def test_cores_easycache_and_hero_together(
    nodes, part, miniature, core_model, predicted, ksampler, which, hero_first
):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model, task = (core_model.model, core_model.task) if which == "core" else (miniature.model, predicted)

    def hero(model):
        return nodes.HeroPatch(model=model, **CACHING)[0]

    def easy(model):
        return EasyCacheNode.execute(model, 0.3, 0.15, 0.95, False).args[0]

    both = easy(hero(model)) if hero_first else hero(easy(model))
    samples = ksampler(both, task, steps=16)
    assert torch.isfinite(samples).all()
    report = part("nodes.bridge.hero_reports").box_of(both).find(samples)
    assert 0 < report.steps < 16  # EasyCache has left steps out
    plain = ksampler(model, task, steps=2)
    assert torch.equal(plain, ksampler(model, task, steps=2))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["miniature", "core"])
@pytest.mark.parametrize("keys", [None, "blocks"])
def test_compiled_models_run_uncompiled_under_hero(
    nodes, miniature, core_model, predicted, ksampler, caplog, which, keys
):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, task = (core_model.model, core_model.task) if which == "core" else (miniature.model, predicted)
    expected = ksampler(nodes.HeroPatch(model=model, **CACHING)[0], task)
    compiled = model.clone()
    path = "blocks" if which == "core" else "transformer.transformer_blocks"
    blocks = [f"diffusion_model.{path}.{number}" for number in range(2)] if keys else None
    set_torch_compile_wrapper(model=compiled, backend="eager", keys=blocks)
    patched = nodes.HeroPatch(model=compiled, **CACHING)[0]
    assert torch.equal(ksampler(patched, task), expected)
    assert "under HERO the model runs uncompiled" in caplog.text


def test_the_unified_latent_cannot_be_decoded_as_a_video(miniature, predicted):
    for decode in (miniature.vae.decode, miniature.vae.decode_tiled):
        with pytest.raises(ValueError, match="^samples: have 56 channels.* put Aether Split"):
            decode(predicted.latent["samples"])


def test_the_preset_off_leaves_the_model_alone(nodes, miniature):
    """But not where a whole setting is wired in, which wins over every preset."""
    assert nodes.HeroPatch(model=miniature.model, preset="off")[0] is miniature.model
    assert nodes.HeroPatch(model=miniature.model, preset="off", setting="tau=25%")[0] is not miniature.model
