"""ComfyUI's LoRAs under HERO: put on the weights, beside them, and by hooks whose strength changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

ALL_FULL = {"preset": "custom", "interval": 1}
CACHING = {"preset": "custom", "interval": 3, "warmup": 2, "warmup_unit": "steps", "cooldown": 0}


def make_lora(model, seed=0):
    """A LoRA on every matrix of the blocks, named as core names them."""
    generator = torch.Generator().manual_seed(seed)
    lora = {}
    for key, weight in model.model.state_dict().items():
        if "blocks." in key and key.endswith(".weight") and weight.ndim == 2:
            name = key.removesuffix(".weight")
            lora[f"{name}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.3
            lora[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.3
    return lora


def on_the_weights(model, lora):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def beside_them(model, lora):
    import comfy.sd

    return comfy.sd.load_bypass_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(params=["aether", "core"])
def case(request, miniature, predicted, core_model):
    """A MODEL, of the pack or of core, and a task for it."""
    if request.param == "aether":
        return SimpleNamespace(model=miniature.model, task=predicted)
    return core_model


@pytest.mark.parametrize("route", [on_the_weights, beside_them])
def test_a_lora_counts_in_full_and_on_cached_steps(nodes, case, ksampler, route):
    plain = ksampler(case.model, case.task)
    lora = make_lora(case.model)
    tuned = route(case.model, lora)
    expected = ksampler(tuned, case.task)
    assert torch.isfinite(expected).all() and relative(expected, plain) > 1e-3
    # Whichever of the two was put on first.
    for patched in (nodes.HeroPatch(model=tuned, **ALL_FULL)[0],
                    route(nodes.HeroPatch(model=case.model, **ALL_FULL)[0], lora)):  # fmt: skip
        assert torch.equal(ksampler(patched, case.task), expected)
    cached = [
        ksampler(nodes.HeroPatch(model=way(case.model, lora), **CACHING)[0], case.task)
        for way in (on_the_weights, route)
    ]
    assert relative(cached[1], cached[0]) < 1e-4
    assert relative(cached[1], ksampler(nodes.HeroPatch(model=case.model, **CACHING)[0], case.task)) > 1e-3
    assert torch.equal(ksampler(case.model, case.task), plain)


def hooked(model, task, strengths):
    """The MODEL and the task, with a LoRA on the positive conditioning: (share of the run, strength) each."""
    import comfy.hooks

    model, _, hooks = comfy.hooks.load_hook_lora_for_models(model, None, make_lora(model), 1.0, 0.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for start, strength in strengths:
        keyframes.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
    hooks.set_keyframes_on_hooks(keyframes)
    positive = comfy.hooks.set_hooks_for_conditioning(task.positive, hooks)
    return model, SimpleNamespace(positive=positive, negative=task.negative, latent=task.latent)


def test_a_lora_whose_strength_changes_drops_what_was_cached(nodes, part, case, ksampler):
    plain = ksampler(case.model, case.task)
    counts = []
    for strengths in ([(0.0, 1.0)], [(0.0, 1.0), (0.65, 0.0)]):
        model, task = hooked(case.model, case.task, strengths)
        expected = ksampler(model, task)
        assert relative(expected, plain) > 1e-3
        assert torch.equal(ksampler(nodes.HeroPatch(model=model, **ALL_FULL)[0], task), expected)
        patched = nodes.HeroPatch(model=model, **CACHING)[0]
        report = part("nodes.hero_reports").box_of(patched).find(ksampler(patched, task))
        counts.append([record.reason.value for record in report.records].count("nothing cached"))
    assert counts == [0, 1]
    assert torch.equal(ksampler(case.model, case.task), plain)


def test_a_model_split_over_devices_is_refused(nodes, miniature, predicted, ksampler):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    patched.set_additional_models("multigpu", [miniature.model.clone()])
    with pytest.raises(ValueError, match=r"^model: is split over several devices"):
        ksampler(patched, predicted)
