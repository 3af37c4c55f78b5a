"""HERO's error feedback in ComfyUI: which noise it goes by, and what it does to a run."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

CACHING = {"preset": "custom", "interval": 3, "warmup": "2", "cooldown": "0"}


@pytest.fixture
def told(part, monkeypatch):
    """The noise schedules that sessions were told."""
    schedules = []
    runs = part("nodes.bridge.hero_run")
    begin = runs.hero_session

    def remember(transformer, config, steps, noise):
        schedules.append(noise)
        return begin(transformer, config, steps, noise)

    monkeypatch.setattr(runs, "hero_session", remember)
    return schedules


@pytest.mark.parametrize(
    "sampler, scheduler, multistep",
    [
        ("euler", "normal", False),
        ("ddim", "sgm_uniform", False),
        ("dpmpp_2m", "sgm_uniform", True),
    ],
)
def test_cores_samplers(nodes, miniature, predicted, ksampler, told, sampler, scheduler, multistep):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    result = ksampler(patched, predicted, steps=4, sampler=sampler, scheduler=scheduler)
    assert torch.isfinite(result).all()
    assert [(noise.stochastic, noise.multistep) for noise in told] == [(False, multistep)]
    table, noise = miniature.model.model.parts.scheduler.alphas_cumprod, told[0]
    assert len(noise.timesteps) == 4 and noise.timesteps[0] > 900
    for time in noise.timesteps:
        signal = float(table[round(time)])
        # Core keeps a little signal at the last timestep.
        assert noise.factors(time) == pytest.approx((signal**0.5, -((1 - signal) ** 0.5)), abs=2e-3)
        assert noise.ratio(time) == pytest.approx((signal / (1 - signal)) ** 0.5, abs=5e-3)


@pytest.mark.parametrize(
    "sampler, scheduler, timesteps",
    [
        ("dpmpp_2m", "normal", 4),  # ends in a step of no length
        ("dpm_2", "sgm_uniform", 7),  # asks in the middle of a step
        ("seeds_3", "sgm_uniform", 10),
        ("heun", "sgm_uniform", 4),
        ("euler_cfg_pp", "sgm_uniform", 4),
        ("euler_ancestral", "sgm_uniform", 4),
        ("dpm_2_ancestral", "sgm_uniform", 4),  # its middle is the next step's beginning
    ],
)
@pytest.mark.slow
def test_other_samplers_go_without(
    nodes, part, miniature, predicted, ksampler, told, sampler, scheduler, timesteps
):
    with_it = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    result = ksampler(with_it, predicted, steps=4, sampler=sampler, scheduler=scheduler)
    report = part("nodes.bridge.hero_reports").box_of(with_it).find(result)
    assert report.counts.planned_steps == report.steps == timesteps
    without = nodes.HeroPatch(model=miniature.model, **CACHING, feedback=0.0)[0]
    assert torch.equal(result, ksampler(without, predicted, steps=4, sampler=sampler, scheduler=scheduler))
    # The noise is known, to predict errors by, and marked as one that feedback cannot go by.
    assert not told[0].supports_feedback and told[1] is None


@pytest.mark.parametrize("scheduler, stochastic", [("dpm", True), ("ddim", False)])
def test_aether_sampler(nodes, miniature, predicted, told, scheduler, stochastic):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    nodes.AetherSampler(model=patched, **vars(predicted), steps=3, scheduler=scheduler)
    assert [noise.stochastic for noise in told] == [stochastic]


@pytest.mark.parametrize("which", ["miniature", "core"])
def test_it_changes_cached_runs_only(nodes, miniature, core_model, predicted, ksampler, which):
    cores = core_model.model, core_model.task
    model, task = cores if which == "core" else (miniature.model, predicted)
    plain = ksampler(model, task)

    def run(**settings):
        return ksampler(nodes.HeroPatch(model=model, **CACHING | settings)[0], task)

    assert torch.equal(run(interval=1, feedback=1.0), plain)
    without, half, whole = (run(feedback=share) for share in (0.0, 0.5, 1.0))
    assert not torch.equal(without, half) and not torch.equal(half, whole)
    assert torch.isfinite(whole).all()
    assert torch.equal(run(feedback=1.0), whole)


@pytest.mark.slow
def test_the_miniature_is_truer_with_it(nodes, miniature, clip):
    outputs = nodes.AetherReconstruct(vae=miniature.vae, video=clip, height=64, width=96, seed=5).args
    task = dict(zip(("positive", "negative", "latent"), outputs, strict=True))

    def run(model):
        return nodes.AetherSampler(model=model, **task, steps=20, scheduler="ddim")[0]["samples"]

    plain = run(miniature.model)
    settings = {**CACHING, "interval": 4, "cooldown": 2}
    errors = [
        float((run(nodes.HeroPatch(model=miniature.model, **settings, feedback=share)[0]) - plain).norm())
        for share in (0.0, 1.0)
    ]
    assert errors[1] < 0.5 * errors[0]


@pytest.fixture
def weighed(part, monkeypatch):
    """What sessions were told of every call: weights by the timestep's order."""
    run = part("hero_engine.run").HeroRun
    branch, told = run.branch, []

    def remember(self, name, adapters=None, weights=None, timestep=None):
        told.append(weights)
        return branch(self, name, adapters, weights, timestep)

    monkeypatch.setattr(run, "branch", remember)
    return told


@pytest.mark.parametrize("cfg, parts", [(3.0, {-2.0, 3.0}), (1.0, {1.0})])
def test_core_samplers_tell_what_each_half_weighs(nodes, miniature, predicted, ksampler, weighed, cfg, parts):
    ksampler(nodes.HeroPatch(model=miniature.model, **CACHING)[0], predicted, steps=4, cfg=cfg)
    assert len(weighed) == 4 and all(set(weights) == parts for weights in weighed)


def test_halves_that_do_not_fit_together_weigh_what_they_do_in_one_batch(
    nodes, miniature, predicted, ksampler, weighed, monkeypatch
):
    import comfy.model_management

    model = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    together = ksampler(model, predicted, steps=8)
    weighed.clear()
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **kwargs: 0)
    apart = ksampler(model, predicted, steps=8)
    assert sorted(weighed) == [(-2.0,)] * 8 + [(3.0,)] * 8
    assert float((apart - together).norm() / together.norm()) < 1e-4


@pytest.mark.parametrize(
    "put",
    [
        lambda model: model.set_model_sampler_cfg_function(lambda args: args["cond"]),
        lambda model: model.set_model_sampler_post_cfg_function(lambda args: args["denoised"]),
        lambda model: model.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"]),
    ],
)
def test_where_a_function_guides_nothing_is_told(nodes, miniature, predicted, ksampler, weighed, put):
    model = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    put(model)
    ksampler(model, predicted, steps=4)
    assert weighed == [None] * 4


def test_aether_sampler_tells_the_scale_of_every_step(nodes, miniature, predicted, weighed):
    from aether.generation.sampling import dynamic_guidance

    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    nodes.AetherSampler(model=patched, **vars(predicted), steps=6)
    scales = [dynamic_guidance(3, round(1000 - 1000 / 6 * step) - 1, 6) for step in range(6)]
    assert weighed == [pytest.approx((1 - scale, scale)) for scale in scales]


def test_another_model_sampling_is_read_too(nodes, miniature, predicted, ksampler, told):
    import comfy.model_sampling

    class Sampling(comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.V_PREDICTION):
        pass

    model = miniature.model.clone()
    model.add_object_patch("model_sampling", Sampling(model.model.model_config))
    patched = nodes.HeroPatch(model=model, **CACHING)[0]
    assert torch.isfinite(ksampler(patched, predicted)).all()
    for time, ratio in zip(told[0].timesteps, told[0].ratios, strict=True):
        sigma = 1 / ratio
        assert time == pytest.approx(0.25 * math.log(sigma), abs=1e-5)
        root = (1 + sigma**2) ** 0.5
        assert told[0].factors(time) == pytest.approx((1 / root, -sigma / root), rel=1e-5)


@pytest.mark.parametrize("kind", ["CONST", "COSMOS_RFLOW", "EDM", "V_PREDICTION"])
def test_clean_latents_are_cores(part, kind):
    """For every kind of ModelSampling that video models of core have: flows, Cosmos's two, v."""
    import comfy.model_sampling as sampling

    bases = {
        "CONST": sampling.ModelSamplingDiscreteFlow,
        "COSMOS_RFLOW": sampling.ModelSamplingCosmosRFlow,
        "EDM": sampling.ModelSamplingContinuousEDM,
        "V_PREDICTION": sampling.ModelSamplingDiscrete,
    }
    model_sampling = type("Sampling", (bases[kind], getattr(sampling, kind)), {})()
    if kind == "EDM":
        model_sampling.set_parameters(0.002, 80.0, 0.5)
    sigmas = torch.tensor([0.9, 0.7, 0.4, 0.1, 0.0])
    model = SimpleNamespace(get_model_object=lambda name: model_sampling)
    sampler = SimpleNamespace(sampler_function=SimpleNamespace(__name__="sample_euler"))
    noise = part("nodes.bridge.core_samplers").noise_of(model, sampler, sigmas)
    latent, answer = torch.randn(2, 4, 3, 5, 6), torch.randn(2, 4, 3, 5, 6)
    for sigma in sigmas[:-1]:
        given = model_sampling.calculate_input(sigma[None], latent)
        wanted = model_sampling.calculate_denoised(sigma[None], answer, latent)
        time = float(model_sampling.timestep(sigma))
        torch.testing.assert_close(noise.clean(given, answer, time), wanted, rtol=1e-4, atol=1e-4)
        # Euler's step in core, written in the clean latent.
        later = 0.5 * sigma
        step = latent + (latent - wanted) / sigma * (later - sigma)
        torch.testing.assert_close(step / later, latent / sigma + (1 / later - 1 / sigma) * wanted)
