"""Cache Method: the methods that HERO is compared with, as a node."""

from __future__ import annotations

import re

import pytest
import torch

METHODS = {
    "fora": ("FORA", {}),
    "taylorseer": ("TaylorSeer", {"order": 2}),
    "toca": ("ToCa", {"ratio": 0.5}),
    "duca": ("DuCa", {}),
    "worldcache": ("WorldCache", {"warmup": 3}),
}


def widgets(node, name):
    """The defaults of a method's widgets, as ComfyUI hands them over."""
    (combo,) = (i for i in node.define_schema().inputs if i.id == "method")
    (option,) = (option for option in combo.options if option.key == name)
    return {"method": name, **{i.id: i.default for i in option.inputs}}


def test_widgets_are_the_settings_and_their_defaults(nodes, part):
    """Every setting has a widget but the streams, which are the model's."""
    import dataclasses

    engine, node = part("hero_engine"), nodes.get("HeroMethod")
    assert set(METHODS) == set(engine.METHODS) - {"hero"}
    for name in METHODS:
        values = widgets(node, name)
        config = part("nodes.hero_methods").make_method(values)
        assert config == engine.METHODS[name]()
        names = {field.name for field in dataclasses.fields(config) if field.init}
        assert set(values) - {"method"} == names - {"streams"}
        assert all(i.tooltip for i in node.define_schema().inputs)


@pytest.mark.parametrize("name", METHODS)
def test_widgets_that_saved_prompts_lack_have_their_defaults(nodes, part, name):
    """ComfyUI hands over None for those that are optional."""
    (combo,) = (i for i in nodes.get("HeroMethod").define_schema().inputs if i.id == "method")
    (option,) = (option for option in combo.options if option.key == name)
    values = {i.id: None if i.optional else i.default for i in option.inputs}
    config = part("nodes.hero_methods").make_method({"method": name, **values})
    assert config == part("hero_engine").METHODS[name]()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_a_run_and_its_report(nodes, core_model, ksampler, name):
    plain = ksampler(core_model.model, core_model.task, steps=10)
    title, settings = METHODS[name]
    values = widgets(nodes.get("HeroMethod"), name) | settings
    patched = nodes.HeroMethod(model=core_model.model, method=values)[0]
    samples = ksampler(patched, core_model.task, steps=10)
    text, picture = nodes.HeroReport(model=patched, latent={"samples": samples}).args
    assert re.match(rf"{title}: \d+ full / [1-9]\d* cached steps", text)
    assert picture.shape[-1] == 3 and picture.std() > 0.05
    assert not torch.equal(samples, plain)
    assert torch.equal(ksampler(core_model.model, core_model.task, steps=10), plain)
    every = nodes.HeroMethod(model=core_model.model, method=values | {"interval": 1})[0]
    assert torch.equal(ksampler(every, core_model.task, steps=10), plain)


def test_streams_are_the_models(part, miniature, core_model):
    streams = part("nodes.bridge.hero_run").output_streams
    assert streams(miniature.model) == (16, 16, 24)
    assert streams(core_model.model) == (16,)


def test_worldcache_on_the_miniature(nodes, hero_left, miniature, predicted):
    values = widgets(nodes.get("HeroMethod"), "worldcache") | {"warmup": 3, "threshold": 10.0}
    patched = nodes.HeroMethod(model=miniature.model, method=values)[0]
    latent = nodes.AetherSampler(model=patched, **vars(predicted), steps=6, guidance=1.0)[0]
    text = nodes.HeroReport(model=patched, latent=latent)[0]
    assert text.startswith("WorldCache: 4 full / 2 cached steps")
    assert not hero_left(miniature.model)


def test_the_last_patch_counts(nodes, core_model, ksampler):
    method = widgets(nodes.get("HeroMethod"), "fora")
    first = nodes.HeroPatch(model=core_model.model)[0]
    patched = nodes.HeroMethod(model=first, method=method)[0]
    samples = ksampler(patched, core_model.task, steps=6)
    assert nodes.HeroReport(model=patched, latent={"samples": samples})[0].startswith("FORA: ")
    again = nodes.HeroPatch(model=patched)[0]
    samples = ksampler(again, core_model.task, steps=6)
    assert nodes.HeroReport(model=again, latent={"samples": samples})[0].startswith("HERO: ")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"method": "fora", "interval": 0}, "interval: 0 "),
        ({"method": "worldcache", "warmup": 2}, "warmup: 2 is too few"),
        ({"method": "worldcache", "stable": 0.7, "chaotic": 0.7}, "chaotic: 0.7 and stable 0.7"),
        ({"method": "toca", "ratio": float("nan")}, "ratio: nan"),
        ({"method": "hero"}, "method: 'hero' is not one of fora, "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(nodes, values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        nodes.get("HeroMethod").check_lazy_status(method=as_comfyui_asks(values))


def as_comfyui_asks(values):
    return {name: (value, f"method.{name}") for name, value in values.items()}


def test_the_model_is_asked_for_once_the_settings_are_right(nodes):
    method = as_comfyui_asks({"method": "fora", "interval": 2, "warmup": 4})
    assert nodes.get("HeroMethod").check_lazy_status(model=None, method=method) == ["model"]
