"""HERO in a service: diffusers' pipelines, whose scheduler, steps and guidance it reads by itself."""

from __future__ import annotations

import gc
import logging

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXVideoToVideoPipeline,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import apply_first_block_cache
from diffusers.utils import logging as diffusers_logging

from hero_engine import (
    ConfigError,
    HeroConfig,
    NoiseSchedule,
    apply_hero,
    current_run,
    hero_session,
    remove_hero,
)

from .models import denoise, inputs, noise, relative, scheduler, tiny_transformer

STEPS = 20
FAST = HeroConfig.preset("fast", patch=(1, 2, 3))


class NoVae:
    """What a pipeline asks of a VAE whose latents are neither made nor decoded."""

    class config:
        block_out_channels = (1, 1, 1, 1)
        temporal_compression_ratio = 4
        scaling_factor = 1.0


@pytest.fixture(scope="module")
def transformer():
    return tiny_transformer(4, in_channels=4, out_channels=4)


@pytest.fixture
def pipe(transformer):
    diffusers_logging.disable_progress_bar()
    made = CogVideoXPipeline.__new__(CogVideoXPipeline)
    CogVideoXPipeline.__init__(made, None, None, NoVae(), transformer, scheduler())
    made.set_progress_bar_config(disable=True)
    yield made
    remove_hero(transformer)


def video(pipe, steps=STEPS, guidance=3.0, seed=0, **options):
    text = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(7))
    return pipe(
        prompt_embeds=text,
        negative_prompt_embeds=torch.zeros_like(text),
        height=32,
        width=48,
        num_frames=17,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
        return_dict=False,
        **options,
    )[0]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_pipeline_needs_nothing_else(pipe, caplog):
    plain = video(pipe)
    with hero_session(pipe.transformer, FAST, STEPS, pipe.scheduler) as run:
        with run.branch(None, weights=(-2, 3)):
            expected = video(pipe)
    with hero_session(pipe, FAST) as run:
        assert current_run(pipe) is run
        assert torch.equal(video(pipe), expected)
    assert run.report.counts.planned_steps == STEPS and run.report.cached_steps == 13
    assert 0 < relative(expected, plain) < 0.2
    assert torch.equal(video(pipe), plain) and not warnings_of(caplog)


def test_the_steps_are_those_of_each_pass(pipe):
    run = apply_hero(pipe, FAST)
    for steps in (10, 30, 12):
        video(pipe, steps)
        assert run.report.counts.planned_steps == run.report.steps == steps
        assert run.report.records[-1].reason.value == "cool-down"


def test_video_to_video_begins_later(transformer, pipe):
    later = CogVideoXVideoToVideoPipeline.__new__(CogVideoXVideoToVideoPipeline)
    CogVideoXVideoToVideoPipeline.__init__(later, None, None, NoVae(), transformer, scheduler())
    later.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 5, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    text = torch.zeros(1, 8, 16)
    run = apply_hero(later, FAST)
    later(
        latents=latents, prompt_embeds=text, negative_prompt_embeds=text, height=32, width=48,
        num_inference_steps=STEPS, strength=0.6, output_type="latent", video=None,
    )  # fmt: skip
    assert run.report.steps == run.report.counts.planned_steps == 12
    assert run.report.records[-1].reason.value == "cool-down"


def test_a_preset_is_named(pipe):
    assert apply_hero(pipe, "balanced").config == HeroConfig.preset("balanced")
    with pytest.raises(ConfigError, match="^preset: 'turbo' is not one of"):
        apply_hero(pipe, "turbo")
    assert current_run(pipe).config == HeroConfig.preset("balanced"), "the one there stays"


@pytest.mark.parametrize("before", [True, False])
def test_a_scheduler_that_was_replaced_is_read_anew(pipe, before):
    pipe.scheduler = scheduler(before)
    run = apply_hero(pipe, FAST)
    first = video(pipe)
    pipe.scheduler = scheduler(not before)
    second = video(pipe)
    remove_hero(pipe)
    with hero_session(pipe, FAST):
        assert torch.equal(video(pipe), second)
    pipe.scheduler = scheduler(before)
    with hero_session(pipe, FAST):
        assert torch.equal(video(pipe), first)
    assert len(run.reports) == 2


def test_a_scheduler_that_does_not_run_has_no_feedback(pipe, caplog):
    """Given beside the transformer and replaced in the pipeline: nobody knows how the answers are weighed."""
    run = apply_hero(pipe.transformer, FAST, STEPS, pipe.scheduler)
    pipe.scheduler = scheduler(False)
    found = video(pipe)
    (warning,) = warnings_of(caplog)
    assert "is not the one that runs the model" in warning and "pass the pipeline" in warning
    remove_hero(pipe)
    with hero_session(pipe.transformer, HeroConfig.preset("fast", patch=(1, 2, 3), feedback=0.0), STEPS):
        assert torch.equal(video(pipe), found)
    assert run.report.full_steps == 7


def test_a_scheduler_of_another_kind_is_refused_when_it_comes(pipe):
    apply_hero(pipe, FAST)
    pipe.scheduler = CogVideoXDDIMScheduler(prediction_type="epsilon")
    with pytest.raises(ConfigError, match="^scheduler: CogVideoXDDIMScheduler neither predicts v"):
        video(pipe)
    with pytest.raises(ConfigError, match="^scheduler: the pipeline has its own"):
        hero_session(pipe, FAST, scheduler=scheduler()).__enter__()


def test_other_steps_than_were_passed_are_reported_and_right(pipe, caplog):
    right = video_under(pipe, None)
    assert not warnings_of(caplog)
    for told in (10, 50):
        caplog.clear()
        assert torch.equal(video_under(pipe, told), right)
        assert warnings_of(caplog) == [
            f"HERO: steps={told} was passed, and the scheduler runs {STEPS}, which counts"
        ]


def video_under(pipe, steps):
    with hero_session(pipe, FAST, steps):
        return video(pipe)


def test_other_weights_than_the_guidance_are_reported(pipe, caplog):
    with hero_session(pipe, FAST) as run, run.branch(None, weights=(-5.0, 6.0)):
        video(pipe)
    (warning,) = warnings_of(caplog)
    assert "weights (-5.0, 6.0) were passed for a guidance of scale 3" in warning


def test_a_guidance_that_changes_is_not_taken_for_constant(pipe):
    """The pipeline sets the scale of a step after it has called the model."""
    with hero_session(pipe, FAST):
        found = video(pipe, use_dynamic_cfg=True)
    with hero_session(pipe.transformer, FAST, STEPS, pipe.scheduler):
        unweighted = video(pipe, use_dynamic_cfg=True)
    assert relative(found, unweighted) < 1e-4


@pytest.mark.slow
def test_a_service_does_not_grow(pipe):
    def alive():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    run = apply_hero(pipe, FAST)
    counts = []
    for request in range(24):
        video(pipe, 6)
        if request in (19, 23):
            counts.append(alive())
    assert counts[0] == counts[1]
    assert len(run.reports) == 16
    settled = [record for report in run.reports[:-1] for record in report.records]
    assert not any(isinstance(value, torch.Tensor) for r in settled for value in (r.drift, r.forecast_error))


def test_a_run_that_was_stopped_is_not_gone_on_with(pipe):
    """Its first step and the next run's are at one timestep; the scheduler has set its timesteps anew."""

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with hero_session(pipe, FAST) as run:
        expected = video(pipe, seed=1)
    with hero_session(pipe, FAST) as run:
        with pytest.raises(Stopped):
            video(pipe, callback_on_step_end=stop)
        assert torch.equal(video(pipe, seed=1), expected)
    assert [report.steps for report in run.reports] == [1, STEPS]


CACHES = {
    "first block": FirstBlockCacheConfig(threshold=0.05),
    "pyramid": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "taylorseer": TaylorSeerCacheConfig(cache_identifiers=[r"transformer_blocks\.\d+\.(attn1|ff)"]),
    "magcache": MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS),
}


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_caches_of_diffusers_are_refused_in_either_order(pipe, cache):
    plain = video(pipe)
    with hero_session(pipe, FAST):
        pipe.transformer.enable_cache(cache)
        with pytest.raises(ConfigError, match="^transformer: diffusers' own cache is on it"):
            video(pipe)
    with pytest.raises(ConfigError, match="^transformer: diffusers' own cache is on it"):
        apply_hero(pipe, FAST)
    pipe.transformer.disable_cache()
    assert torch.equal(video(pipe), plain)


def test_caches_put_on_without_the_models_method_are_refused_too():
    model = tiny_transformer(2)
    with hero_session(model, HeroConfig(), STEPS):
        apply_first_block_cache(model, CACHES["first block"])
        with pytest.raises(ConfigError, match="fbc_"), torch.no_grad():
            model(**inputs(), timestep=torch.tensor([900]))


def test_a_loop_of_ones_own_tells_what_it_runs_by():
    model = tiny_transformer(4)
    with hero_session(model, FAST, STEPS, noise()):
        expected = denoise(model, steps=STEPS)
    other = CogVideoXDDIMScheduler(prediction_type="v_prediction")
    with hero_session(model, FAST, 99, other) as run:
        run.begin_pass(noise(), STEPS)
        assert torch.equal(denoise(model, steps=STEPS), expected)
        assert run.report.counts.planned_steps == STEPS


def test_steps_that_nobody_knows_are_asked_for():
    model, given = tiny_transformer(2), scheduler()
    with hero_session(model, FAST, scheduler=given):
        with pytest.raises(ConfigError, match="^steps: needed"):
            denoise(model, steps=8)
    with hero_session(model, HeroConfig(warmup=2)):
        denoise(model, steps=8)


def test_a_run_says_what_it_is(pipe):
    run = apply_hero(pipe, FAST)
    assert repr(run) == "<HeroRun: HERO on CogVideoXTransformer3DModel of 4 blocks, nothing has run>"
    video(pipe)
    assert "last 7 full and 13 cached steps" in repr(run) and "MB cached now>" in repr(run)


def test_a_noise_schedule_is_taken_as_it_is(pipe, caplog):
    with hero_session(pipe.transformer, FAST, STEPS, NoiseSchedule.of(scheduler())):
        video(pipe)
    assert not warnings_of(caplog)
