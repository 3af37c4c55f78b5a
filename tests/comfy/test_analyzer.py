"""HERO Analyzer on the miniature and on core's CogVideoX, and HERO Patch with the tau that it found."""

from __future__ import annotations

import json
import re

import pytest

from .test_tasks import stable_diffusion


def inputs(task, **settings):
    return {**vars(task), "steps": 8, "guidance": 1.0, **settings}


def test_on_the_miniature(nodes, hero_left, miniature, predicted):
    picture, tau, text, document = nodes.HeroAnalyzer(model=miniature.model, **inputs(predicted)).args
    assert not hero_left(miniature.model) and not miniature.model.wrappers
    assert picture.ndim == 4 and picture.shape[-1] == 3 and picture.std() > 0.05
    numbers = json.loads(document)
    assert numbers["blocks"] == len(numbers["curvature"]) == len(numbers["cached"]) == 12
    assert numbers["steps"] == 8 and numbers["hero"]["interval"] == 2
    assert 1 <= tau == numbers["tau"] <= 12
    assert min(numbers["cached"]) > 0
    assert text == numbers["summary"] and text.startswith(f"Recommended tau: {tau} of 12 blocks.")


def test_it_is_what_the_engine_finds(nodes, part, core_model, ksampler):
    """The node's own run of core's sampler against one of the test's."""
    engine = part("hero_engine")
    hero = engine.HeroConfig(interval=3, warmup=2)
    found = []
    probed = part("nodes.bridge.hero_run").in_session(
        core_model.model, engine.LayersConfig(hero), lambda run, _: found.append(run.method.analysis())
    )
    ksampler(probed, core_model.task, steps=9, seed=4, cfg=6.0, sampler="ddim")
    node = nodes.HeroAnalyzer(
        model=core_model.model, **vars(core_model.task), steps=9, seed=4, interval=3, warmup=2, ratio=1 / 6
    )
    numbers = json.loads(node[3])
    assert numbers["blocks"] == 8 and numbers["tau"] == node[1] == found[0].tau
    assert numbers["cached"] == list(found[0].cached)
    assert numbers["reuse"] == list(found[0].reuse)


def test_hero_patch_takes_tau(nodes, part, core_model, ksampler):
    for preset, tau, expected in (("paper", 3, 3), ("custom", 8, 8), ("paper", None, 4), ("custom", 1, 1)):
        given = {} if tau is None else {"tau_blocks": tau}
        patched = nodes.HeroPatch(model=core_model.model, preset=preset, **given)[0]
        samples = ksampler(patched, core_model.task, steps=6)
        assert part("nodes.bridge.hero_reports").box_of(patched).find(samples).counts.tau == expected
    with pytest.raises(ValueError, match="^tau: 0 is "):
        nodes.HeroPatch(model=core_model.model, tau_blocks=0)
    patched = nodes.HeroPatch(model=core_model.model, tau_blocks=9)[0]
    with pytest.raises(ValueError, match="^tau: 9 is more than the model's 8 blocks"):
        ksampler(patched, core_model.task, steps=6)


def test_a_patched_model_is_analyzed_without_its_patch(nodes, core_model):
    patched = nodes.HeroPatch(model=core_model.model, preset="custom", warmup=1)[0]
    both = [
        nodes.HeroAnalyzer(model=model, **inputs(core_model.task))[3] for model in (patched, core_model.model)
    ]
    assert both[0] == both[1]


def test_an_interrupt_leaves_nothing(nodes, hero_left, miniature, predicted):
    import comfy.model_management

    last = miniature.model.model.diffusion_model.transformer.proj_out
    calls = []

    def ask(*args):
        calls.append(None)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing(True)

    handle = last.register_forward_hook(ask)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        nodes.HeroAnalyzer(model=miniature.model, **inputs(predicted))
    handle.remove()
    assert len(calls) == 3
    assert not hero_left(miniature.model) and not miniature.model.wrappers


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 4}, "steps: 4 is too few to analyze with a warm-up of 4: use at least 5"),
        ({"steps": 1}, "steps: 1 is too few"),
        ({"guidance": 0.5}, "guidance: 0.5 cannot be used"),
        ({"interval": 1}, "interval: 1 makes every step full"),
        ({"ratio": float("nan")}, "ratio: nan"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_is_refused(nodes, hero_left, miniature, predicted, settings, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        nodes.HeroAnalyzer(model=miniature.model, **inputs(predicted, **settings))
    assert not hero_left(miniature.model)


def test_other_models_are_refused_by_name(nodes, predicted):
    with pytest.raises(ValueError, match=r"^model: is SD15: .* is not supported; HERO takes"):
        nodes.HeroAnalyzer(model=stable_diffusion().model, **inputs(predicted))
