"""HERO Patch on a MODEL of core's own CogVideoX class, sampled by core."""

from __future__ import annotations

import pytest
import torch


def test_every_step_full_changes_nothing(nodes, core_model, ksampler):
    plain = ksampler(core_model.model, core_model.task)
    assert torch.isfinite(plain).all() and plain.std() > 0
    patched = nodes.HeroPatch(model=core_model.model, preset="custom", interval=1)[0]
    assert torch.equal(ksampler(patched, core_model.task), plain)
    assert torch.equal(ksampler(core_model.model, core_model.task), plain)


@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
def test_it_is_accelerated_and_reported(nodes, core_model, ksampler, shallow):
    settings = {"preset": "custom", "warmup": "30%", "cooldown": "0", "shallow": shallow}
    patched = nodes.HeroPatch(model=core_model.model, **settings)[0]
    first = ksampler(patched, core_model.task, steps=12)
    text, picture = nodes.HeroReport(model=patched, latent={"samples": first}).args
    assert text.startswith("HERO: 8 full / 4 cached steps")
    assert picture.ndim == 4 and picture.shape[-1] == 3 and picture.std() > 0.05
    assert torch.equal(ksampler(patched, core_model.task, steps=12), first)


def test_context_windows_are_refused(nodes, core_model, ksampler):
    patched = nodes.HeroPatch(model=core_model.model, preset="paper")[0]
    patched.model_options["context_handler"] = object()
    with pytest.raises(ValueError, match=r"^model: has context windows on it"):
        ksampler(patched, core_model.task)


def test_aether_sampler_refuses_it(nodes, core_model):
    with pytest.raises(ValueError, match=r"^model: is CogVideoX_T2V, which is not an Aether model"):
        nodes.AetherSampler(
            model=core_model.model, positive=core_model.task.positive, negative=core_model.task.negative,
            latent=core_model.task.latent,
        )  # fmt: skip


def test_reports_of_other_latents(nodes, core_model, ksampler):
    patched = nodes.HeroPatch(model=core_model.model, preset="paper")[0]
    samples = ksampler(patched, core_model.task)
    for model, latent, words in (
        (core_model.model, samples, "No HERO Patch or Cache Method is on this MODEL"),
        (patched, samples + 1, "No report for this latent"),
        (patched, samples, "HERO: "),
    ):
        text, picture = nodes.HeroReport(model=model, latent={"samples": latent}).args
        assert text.startswith(words) and picture.shape[-1] == 3


def test_reports_are_bounded(nodes, part, core_model, ksampler):
    patched = nodes.HeroPatch(model=core_model.model, preset="paper")[0]
    box = part("nodes.bridge.hero_reports").box_of(patched)
    first = ksampler(patched, core_model.task)
    report = box.find(first)
    for number in range(20):
        box.add(report, torch.full((1, 16, 1, 2, 2), float(number)))
    assert box.find(first) is None
    assert len(box._reports) == 16


def test_nothing_reused_is_said(nodes, core_model, ksampler):
    patched = nodes.HeroPatch(model=core_model.model, preset="paper")[0]
    samples = ksampler(patched, core_model.task, steps=3)
    assert "Nothing was reused" in nodes.HeroReport(model=patched, latent={"samples": samples})[0]
