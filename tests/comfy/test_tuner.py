"""HERO Tuner on the miniature and on core's CogVideoX: what it gives, keeps and refuses."""

from __future__ import annotations

import os
import re

import pytest
import torch

STEPS = 8


@pytest.fixture(autouse=True)
def kept(pack, tmp_path):
    """The folder of the tuner's folders."""
    import folder_paths

    before = folder_paths.get_user_directory()
    folder_paths.set_user_directory(str(tmp_path))
    yield tmp_path / "aether_hero/tuner"
    folder_paths.set_user_directory(before)


def core_inputs(core_model, name="euler", steps=STEPS, **settings):
    """Of the node, with a sampler and sigmas of core's."""
    import comfy.samplers

    sampling = core_model.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "sgm_uniform", steps)
    sampler = comfy.samplers.sampler_object(name)
    given = {"model": core_model.model, "seed": 4, "sampler": sampler, "sigmas": sigmas, "budget": 3}
    return {**vars(core_model.task), **given, **settings}


@pytest.fixture
def said(part, monkeypatch):
    """What the node says while it runs."""
    texts = []
    monkeypatch.setattr(part("nodes.bridge.messages"), "show_text", lambda node, text: texts.append(text))
    return texts


class Made(list):
    """(step from 1 over all runs, steps of all runs) for every step that was made.

    Attributes:
        interrupt_after: so many steps, ComfyUI is asked to stop.
    """

    interrupt_after = None

    def report(self, step, total):
        import comfy.model_management

        self.append((step + 1, total))
        if len(self) == self.interrupt_after:
            comfy.model_management.interrupt_current_processing(True)


@pytest.fixture
def made(pack, monkeypatch):
    import latent_preview

    steps = Made()
    monkeypatch.setattr(
        latent_preview, "prepare_callback", lambda *args: lambda step, x0, x, total: steps.report(step, total)
    )
    return steps


@pytest.mark.slow
def test_on_the_miniature(nodes, part, hero_left, miniature, predicted, kept, said, made):
    given = {**vars(predicted), "model": miniature.model, "steps": STEPS, "guidance": 1.0, "speed": 1.4}
    first = nodes.HeroTuner(**given, budget=3)
    setting, picture, text = first.args
    assert not hero_left(miniature.model) and not miniature.model.wrappers
    assert picture.ndim == 4 and picture.shape[-1] == 3 and picture.std() > 0.05
    assert setting in text and first.ui["setting"] == (setting,)
    assert said[0].startswith("run 1 of 3: ") and said[-1] in text
    assert any(line.startswith("run 3 of 3: ") and line.endswith(" left") for line in said)
    assert made == [(step, 3 * STEPS) for step in range(1, 3 * STEPS + 1)]

    (folder,) = kept.iterdir()
    assert first.ui["recording"] == (folder.name,)
    recording = part("hero_engine.tune").Recording.load(folder / "recording.safetensors")
    size = {"width": "48", "height": "32", "frames": "17"}
    assert recording.about == {
        "file": "miniature", "form": "", "patched": "no", "sampler": "dpm", "steps": str(STEPS), **size
    }  # fmt: skip

    made.clear()
    again = nodes.HeroTuner(**given, budget=3)
    assert not made
    assert again.args[0] == setting and torch.equal(again.args[1], picture)
    nodes.HeroTuner(**given, budget=4)
    assert made == [(step, 4 * STEPS) for step in range(3 * STEPS + 1, 4 * STEPS + 1)]


def test_hero_patch_takes_it_by_wire_and_in_its_widgets(nodes, part, core_model, ksampler):
    node = nodes.HeroTuner(**core_inputs(core_model))
    wired = nodes.HeroPatch(model=core_model.model, setting=node[0])[0]
    (widgets,) = node.ui["widgets"]
    assert widgets["preset"] == "custom"
    known = {found.id for found in nodes.get("HeroPatch").define_schema().inputs}
    assert set(widgets) == known - {"model", "storage", "seed", "tau_blocks", "setting"}
    typed = nodes.HeroPatch(model=core_model.model, **widgets)[0]
    samples = [ksampler(model, core_model.task, steps=STEPS, seed=4) for model in (wired, typed)]
    assert torch.equal(*samples)
    report = part("nodes.bridge.hero_reports").box_of(wired).find(samples[0])
    assert 0 < report.cached_steps and str(report.full_steps) in node[2]


def test_an_interrupt_in_the_third_run_keeps_two(nodes, core_model, made):
    import comfy.model_management

    given = core_inputs(core_model, budget=4)
    made.interrupt_after = 2 * STEPS + 3
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        nodes.HeroTuner(**given)
    assert len(made) == 2 * STEPS + 3 and not core_model.model.wrappers
    made.clear()
    assert nodes.HeroTuner(**given)[0]
    assert made[0] == (2 * STEPS + 1, 4 * STEPS) and len(made) == 2 * STEPS


@pytest.mark.parametrize("name", ["euler", "euler_ancestral"])
@pytest.mark.slow
def test_it_samples_as_samplercustom_does(nodes, core_model, kept, name):
    import comfy.sample
    from safetensors.torch import load_file

    given = core_inputs(core_model, name, guidance=2.5)
    nodes.HeroTuner(**given)
    latent = given["latent"]["samples"]
    with torch.inference_mode():
        expected = comfy.sample.sample_custom(
            core_model.model, comfy.sample.prepare_noise(latent, 4), 2.5, given["sampler"], given["sigmas"],
            given["positive"], given["negative"], latent, seed=4,
        )  # fmt: skip
    (folder,) = kept.iterdir()
    assert torch.equal(load_file(folder / "reference.safetensors")["latent"], expected)


@pytest.mark.slow
def test_another_model_is_measured_anew(nodes, core_model, kept, made):
    given = core_inputs(core_model, budget=2)
    nodes.HeroTuner(**given)
    name = "diffusion_model.proj_out.weight"
    other = core_model.model.clone()
    weight = other.model.state_dict()[name]
    other.add_patches({name: ("diff", (torch.ones_like(weight),))}, 0.5)
    nodes.HeroTuner(**given | {"model": other})
    assert len(made) == 4 * STEPS and len(list(kept.iterdir())) == 2
    nodes.HeroTuner(**given)
    nodes.HeroTuner(**given | {"model": nodes.HeroPatch(model=other)[0]})
    assert len(made) == 4 * STEPS


def test_what_a_run_hangs_on_makes_its_name(part, core_model):
    digest = part("nodes.bridge.content").digest
    model = core_model.model

    def scaled(by):
        return lambda found: found * by

    guided = model.clone()
    guided.set_model_sampler_cfg_function(scaled(2))
    other = model.clone()
    other.set_model_sampler_cfg_function(scaled(3))
    circle: list[object] = [1]
    circle.append(circle)
    names = [
        digest(model),
        digest(model, torch.zeros(3)),
        digest(model, torch.zeros(3, dtype=torch.bfloat16)),
        digest(model, torch.zeros(1, 3)),
        digest(model, {"a": torch.zeros(3)}),
        digest(model, circle),
        digest(guided),
        digest(other),
    ]
    assert len(set(names)) == len(names) and all(re.fullmatch("[0-9a-f]{64}", name) for name in names)
    assert digest(model.clone(), {"a": torch.zeros(3)}) == names[4]


def test_the_oldest_measurements_go(part, kept, monkeypatch):
    measurements = part("nodes.bridge.measurements")
    monkeypatch.setattr(measurements, "_MOST_FOLDERS", 3)
    monkeypatch.setattr(measurements, "_MOST_BYTES", 250)
    for age, name in enumerate("abcde"):
        (kept / name).mkdir(parents=True)
        (kept / name / "file").write_bytes(bytes(100))
        os.utime(kept / name, (1000 - age, 1000 - age))
    (kept / "d/file").write_bytes(b"")
    assert measurements.folder_of("e") == kept / "e"  # in use: the newest now
    assert {path.name for path in kept.iterdir()} == {"e", "a"}
    assert measurements.folder_of("new") == kept / "new"
    assert {path.name for path in kept.iterdir()} == {"e", "a"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"budget": 1}, "budget: 1 "),
        ({"steps": 4}, "steps: 4 "),
        ({"guidance": 0.5}, "guidance: 0.5 cannot be used"),
        ({"speed": 30.0}, "speed: 30"),
        ({"target": "error", "error": float("nan")}, "error: nan"),
    ],
)
def test_what_cannot_be_is_refused(nodes, hero_left, miniature, predicted, settings, message):
    given = {**vars(predicted), "model": miniature.model, "steps": STEPS, "guidance": 1.0}
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        nodes.HeroTuner(**given | settings)
    assert not hero_left(miniature.model)


def test_core_samplers_that_cannot_be_are_refused(nodes, core_model):
    given = core_inputs(core_model)
    for changed, message in (
        ({"sigmas": None}, "sigmas: is missing: connect both sampler and sigmas"),
        ({"sampler": None}, "sampler: is missing: connect both sigmas and sampler"),
        ({"sigmas": given["sigmas"][:1]}, "sigmas: have no step"),
        ({"sampler": None, "sigmas": None}, "steps: 0 is the task's own number, which only Aether has"),
        (core_inputs(core_model, "heunpp2"), "sampler: goes back and forth in time"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            nodes.HeroTuner(**given | changed)
