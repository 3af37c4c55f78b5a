"""HERO in diffusers' pipelines of other families than CogVideoX: what it reads of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.utils import logging as diffusers_logging

from hero_engine import HeroConfig, apply_hero, hero_session, remove_hero
from hero_engine.hero.feedback import Feedback

STEPS = 12
FAST = HeroConfig.preset("fast", patch=(1, 2, 3), feedback=0.0)


@pytest.fixture(autouse=True)
def quiet() -> None:
    diffusers_logging.disable_progress_bar()


def seeded(*shape: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(kind: Any, *absent: str, **parts: Any) -> Any:
    """A pipeline without some of its parts."""
    pipe = kind.__new__(kind)
    kind.__init__(pipe, **dict.fromkeys(absent), **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wan(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, text_dim=32, freq_dim=32, ffn_dim=96, num_layers=4
    ).eval()


def wan_pipeline(**parts: Any) -> Any:
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    absent = ("tokenizer", "text_encoder", "vae")
    return made(diffusers.WanPipeline, *absent, scheduler=scheduler, transformer=wan(), **parts)


def video(pipe: Any, seed: int = 0, steps: int = STEPS, **options: Any) -> torch.Tensor:
    text = seeded(1, 512, 32)
    return pipe(
        prompt_embeds=text, negative_prompt_embeds=torch.zeros_like(text), height=64, width=96, num_frames=9,
        num_inference_steps=steps, guidance_scale=3.0, generator=torch.Generator().manual_seed(seed),
        output_type="latent", return_dict=False, **options,
    )[0]  # fmt: skip


def test_wan_needs_nothing_else() -> None:
    """Its branches are called apart."""
    pipe = wan_pipeline()
    plain = video(pipe)
    with hero_session(pipe, FAST) as run:
        found = video(pipe)
        assert torch.equal(video(pipe), found)
    report = run.report
    assert report.counts.planned_steps == report.steps == STEPS and report.cached_steps > 4
    assert 0 < float((found - plain).norm() / plain.norm()) < 0.2
    assert torch.equal(video(pipe), plain)


def test_both_transformers_of_wan_2_2(caplog: pytest.LogCaptureFixture) -> None:
    """Each has a run of its own, of the steps that it takes."""
    pipe = wan_pipeline(transformer_2=wan(1), boundary_ratio=0.875)
    plain = video(pipe, steps=20)
    first = apply_hero(pipe, FAST)
    assert "apply_hero(pipeline.transformer_2, config, scheduler=pipeline.scheduler)" in caplog.text
    second = apply_hero(pipe.transformer_2, FAST, scheduler=pipe.scheduler)
    found = video(pipe, steps=20)
    taken = [int((pipe.scheduler.timesteps >= 875).sum()), int((pipe.scheduler.timesteps < 875).sum())]
    for run, steps in zip((first, second), taken, strict=True):
        assert run.report.steps == run.report.counts.planned_steps == steps
        assert run.report.records[-1].reason.value == "cool-down" and run.report.cached_steps > 0
    assert 0 < float((found - plain).norm() / plain.norm()) < 0.2
    remove_hero(pipe)
    remove_hero(pipe.transformer_2)
    assert torch.equal(video(pipe, steps=20), plain)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """Of the guided answer's parts, as error feedback was given them."""
    seen: set[Any] = set()
    full = Feedback.full

    def remember(feedback: Feedback, latent: Any, velocity: Any, call: Any) -> Any:
        seen.add(call.weights)
        return full(feedback, latent, velocity, call)

    monkeypatch.setattr(Feedback, "full", remember)
    return seen


@pytest.mark.parametrize("samples", [1, 2])
def test_wans_branches_are_called_apart_and_correct_each_by_itself(samples: int, weights: set[Any]) -> None:
    pipe = wan_pipeline()
    without, with_it = replace(FAST, feedback=0.0), replace(FAST, feedback=1.0)
    found = []
    for config in (without, with_it, with_it):
        with hero_session(pipe, config):
            found.append(video(pipe, num_videos_per_prompt=samples))
    assert torch.isfinite(found[1]).all() and torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])
    assert weights == {None}


def ltx_pipeline() -> Any:
    torch.manual_seed(0)
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=4, caption_channels=32,
    ).eval()  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    absent = ("vae", "text_encoder", "tokenizer")
    return made(diffusers.LTXPipeline, *absent, scheduler=scheduler, transformer=transformer)


def test_ltx_needs_nothing_else(weights: set[Any]) -> None:
    pipe = ltx_pipeline()
    text, mask = seeded(1, 7, 32), torch.ones(1, 7)

    def clip() -> torch.Tensor:
        return pipe(
            prompt_embeds=text, negative_prompt_embeds=torch.zeros_like(text), prompt_attention_mask=mask,
            negative_prompt_attention_mask=mask, height=128, width=192, num_frames=17,
            num_inference_steps=STEPS, guidance_scale=3.0, generator=torch.Generator().manual_seed(0),
            output_type="latent", return_dict=False,
        )[0]  # fmt: skip

    plain = clip()
    with hero_session(pipe, FAST) as run:
        found = clip()
    assert run.report.shape.grid == (3, 4, 6)
    assert run.report.counts.planned_steps == run.report.steps == STEPS and run.report.cached_steps > 4
    assert 0 < float((found - plain).norm() / plain.norm()) < 0.2
    # Both halves of guidance are one batch, whose weights are known.
    with hero_session(pipe, replace(FAST, feedback=1.0)):
        assert not torch.equal(clip(), found)
    assert weights == {(-2.0, 3.0)}


class HunyuanVae:
    """What a pipeline asks of a VAE whose latents are not decoded."""

    temporal_compression_ratio, spatial_compression_ratio = 4, 16

    class config:
        latent_channels = 4


def test_timesteps_that_the_model_gets_rounded_are_still_steps() -> None:
    """HunyuanVideo 1.5 in bfloat16: some of a shifted schedule's first timesteps are one to the model."""
    torch.manual_seed(0)
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, text_embed_dim=32,
        num_layers=4, num_refiner_layers=1, text_embed_2_dim=24, image_embed_dim=20, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    transformer = transformer.eval().to(torch.bfloat16)
    guider = diffusers.ClassifierFreeGuidance(guidance_scale=3.0)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=9.0)
    absent = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    parts = {"scheduler": scheduler, "transformer": transformer, "guider": guider, "vae": HunyuanVae()}
    pipe = made(diffusers.HunyuanVideo15Pipeline, *absent, **parts)
    pipe.vision_num_semantic_tokens = 6
    text, second, mask = seeded(1, 7, 32), seeded(1, 5, 24), torch.ones(1, 7)
    prompt = {
        "prompt_embeds": text, "prompt_embeds_mask": mask, "prompt_embeds_2": second,
        "prompt_embeds_mask_2": torch.ones(1, 5),
    }  # fmt: skip
    prompt |= {f"negative_{name}": value for name, value in prompt.items()}
    with hero_session(pipe, FAST) as run:
        pipe(
            **prompt, height=64, width=96, num_frames=9, num_inference_steps=50,
            generator=torch.Generator().manual_seed(0), output_type="latent",
        )  # fmt: skip
    given = {float(t.to(torch.bfloat16)) for t in pipe.scheduler.timesteps}
    assert len(given) < 50
    assert run.report.counts.planned_steps == run.report.steps == 50 and run.report.cached_steps > 25


class Permissive:
    """Stands for Cosmos's guard of prompts and pictures."""

    def to(self, *_: Any) -> None:
        pass


def test_a_model_that_is_given_another_measure_of_the_noise_than_the_scheduler() -> None:
    """Cosmos Predict 2; a picture, which is one frame."""
    torch.manual_seed(0)
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=24, text_embed_dim=32,
        num_layers=4, adaln_lora_dim=16, max_size=(16, 24, 24), extra_pos_embed_type=None,
    ).eval()  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.register_to_config(
        sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min"
    )
    absent = ("text_encoder", "tokenizer", "vae")
    parts = {"scheduler": scheduler, "transformer": transformer, "safety_checker": Permissive()}
    pipe = made(diffusers.Cosmos2TextToImagePipeline, *absent, **parts)
    text = seeded(1, 7, 32)

    def picture() -> torch.Tensor:
        return pipe(
            prompt_embeds=text, negative_prompt_embeds=torch.zeros_like(text), height=64, width=96,
            num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), output_type="latent",
            return_dict=False,
        )[0]  # fmt: skip

    plain = picture()
    with hero_session(pipe, FAST) as run:
        found = picture()
        assert torch.equal(picture(), found)
    assert run.report.shape.grid == (1, 4, 6)
    assert run.report.counts.planned_steps == run.report.steps == STEPS and run.report.cached_steps > 4
    assert 0 < float((found - plain).norm() / plain.norm()) < 0.2
    with hero_session(pipe, replace(FAST, feedback=1.0)) as run:
        picture()
        sigma, timestep = 80.0, float(pipe.scheduler.timesteps[0])
        assert run._sampling.noise.ratio(timestep) == pytest.approx(1 / sigma)
        assert run._sampling.noise.factors(timestep) == pytest.approx((1.0, -sigma / (1 + sigma)))
