"""Every node with the models on a GPU, which is pretended: nothing mixes devices, results are the CPU's."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch

from ..pretend import DEVICE, PretendGPU, PretendTensor
from .conftest import make_core_model
from .test_lora import beside_them, make_lora, on_the_weights
from .test_methods import METHODS, widgets

SIZE = {"width": 48, "height": 32}
MUCH, HARDLY_ANY = 1 << 40, 1
"""Bytes of free memory. With hardly any, core keeps the transformer's layers on the host and brings them over
one by one, the two halves of its samplers' steps come apart, and the VAE has to be loaded all the same."""


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def room_of(count):
    """How core asks for a device's memory, of which there are so many bytes."""
    return lambda device=None, torch_free_too=False: (count, count) if torch_free_too else count


@pytest.fixture
def gpu(pack, monkeypatch):
    """A GPU that ComfyUI takes for its own, with room enough."""
    import comfy.model_management as management

    for name, value in {
        "get_torch_device": lambda: DEVICE,
        "vram_state": management.VRAMState.NORMAL_VRAM,
        "get_free_memory": room_of(MUCH),
        "get_total_memory": lambda device=None: MUCH,
        "soft_empty_cache": lambda *_: None,
        "cuda_device_context": lambda _: contextlib.nullcontext(),
        "vae_dtype": lambda *_: torch.float32,
    }.items():
        monkeypatch.setattr(management, name, value)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield PretendGPU()
    management.unload_all_models()
    torch.__future__.set_overwrite_module_params_on_conversion(False)


def miniature_of(nodes):
    """A model and its VAE: the miniature with a third of its blocks, which are all alike."""
    model, vae = nodes.AetherMiniature().args
    del model.model.diffusion_model.transformer.transformer_blocks[4:]
    return model, vae


@pytest.fixture
def alike(gpu, nodes, monkeypatch):
    """``alike(work, room)`` checks that ``work(model, vae)`` gives the same on the CPU and on the GPU."""
    import comfy.model_management as management

    def check(work, room=MUCH):
        monkeypatch.setattr(management, "get_free_memory", room_of(room))
        with monkeypatch.context() as cpu:
            cpu.setattr(management, "get_torch_device", lambda: torch.device("cpu"))
            expected = work(*miniature_of(nodes))
        with gpu:
            model, vae = miniature_of(nodes)
            found = work(model, vae)
            weight = model.model.diffusion_model.transformer.proj_out.weight
            assert isinstance(weight, PretendTensor) is (room == MUCH)
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert not isinstance(one, PretendTensor), "outputs belong to ComfyUI's intermediate device"
            torch.testing.assert_close(one, other)

    return check


def task(nodes, vae, name, clip):
    given = {
        "AetherReconstruct": {"video": clip},
        "AetherPredict": {"image": clip[:1], "frames": "17"},
        "AetherPlan": {"start": clip[:1], "goal": clip[-1:], "frames": "17"},
    }[name]
    outputs = getattr(nodes, name)(vae=vae, **given, **SIZE).args[:3]
    return SimpleNamespace(**dict(zip(("positive", "negative", "latent"), outputs, strict=True)))


@pytest.mark.parametrize(
    "name, room",
    [
        ("AetherPlan", MUCH),
        ("AetherPlan", HARDLY_ANY),
        slow("AetherReconstruct", MUCH),
        slow("AetherPredict", MUCH),
    ],
)
@pytest.mark.slow
def test_a_graph_with_aether_sampler(alike, nodes, clip, name, room):
    def work(model, vae):
        patched = nodes.HeroPatch(model=model)[0]
        latent = nodes.AetherSampler(model=patched, steps=8, **vars(task(nodes, vae, name, clip)))[0]
        rgb, disparity, raymap = nodes.AetherSplit(latent=latent).args[:3]
        depth = nodes.AetherDepth(vae=vae, disparity=disparity)
        return latent["samples"], vae.decode(rgb["samples"]), depth[0], depth[1], raymap["raymap"]

    alike(work, room)


@pytest.mark.parametrize(
    "sampler, room", [("euler", MUCH), slow("ddim", MUCH), slow("heun", MUCH), slow("ddim", HARDLY_ANY)]
)
def test_a_graph_with_cores_sampler(alike, nodes, clip, ksampler, sampler, room):
    def work(model, vae):
        patched = nodes.HeroPatch(model=model)[0]
        return [ksampler(patched, task(nodes, vae, "AetherPredict", clip), sampler=sampler)]

    alike(work, room)


@pytest.mark.slow
def test_the_host_waits_for_none_of_aether_samplers_steps(gpu, nodes, clip):
    """Beyond what a run of any length takes."""
    with gpu:
        model, vae = miniature_of(nodes)
        plan, waits = vars(task(nodes, vae, "AetherPlan", clip)), []
        for steps in (2, 6, 14):
            before = len(gpu.waits)
            nodes.AetherSampler(model=model, steps=steps, **plan)
            waits.append(gpu.waits[before:])
    assert waits[1] == waits[2]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_cache_method(alike, nodes, clip, ksampler, method):
    settings = widgets(nodes.get("HeroMethod"), method)

    def work(model, vae):
        patched = nodes.HeroMethod(model=model, method=settings)[0]
        return [ksampler(patched, task(nodes, vae, "AetherPredict", clip), steps=14, sampler="ddim")]

    alike(work)


@pytest.mark.slow
@pytest.mark.parametrize("room", [MUCH, HARDLY_ANY])
@pytest.mark.parametrize("route", [on_the_weights, beside_them])
def test_a_lora(alike, nodes, clip, ksampler, route, room):
    def work(model, vae):
        patched = nodes.HeroPatch(model=route(model, make_lora(model)))[0]
        return [ksampler(patched, task(nodes, vae, "AetherPredict", clip), sampler="ddim")]

    alike(work, room)


@pytest.mark.slow
def test_a_long_clip_and_its_points(alike, nodes, clip, part):
    world = part("aether.miniature")
    film = torch.from_numpy(world.render(world.random_scene(5), 27, 32, 48, 12).rgb)

    def work(model, vae):
        made = nodes.AetherLongClip(model=model, vae=vae, video=film, frames="17", steps=2, **SIZE).args
        return made[0], made[1], made[2], made[4]

    alike(work)


@pytest.mark.slow
def test_the_analyzer(alike, nodes, clip):
    def work(model, vae):
        plan = vars(task(nodes, vae, "AetherPredict", clip))
        picture, _, _, document = nodes.HeroAnalyzer(model=model, steps=8, guidance=1.0, **plan).args
        numbers = json.loads(document)
        return picture, torch.tensor(numbers["curvature"]), torch.tensor(numbers["cached"])

    alike(work)


@pytest.mark.slow
def test_cores_cogvideox(gpu, nodes, ksampler):
    import comfy.model_patcher

    core_model = make_core_model()
    expected = ksampler(nodes.HeroPatch(model=core_model.model)[0], core_model.task)
    base = core_model.model.model
    with gpu:
        model = comfy.model_patcher.ModelPatcher(base, DEVICE, torch.device("cpu"))
        found = ksampler(nodes.HeroPatch(model=model)[0], core_model.task)
        assert all(isinstance(weight, PretendTensor) for weight in base.diffusion_model.parameters())
    torch.testing.assert_close(found, expected)
