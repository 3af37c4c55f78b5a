"""On a GPU: everything stays there, the host does not wait for it, and results are those of the CPU."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from hero_engine import (
    PRESETS,
    DucaConfig,
    ForaConfig,
    HeroConfig,
    LayersConfig,
    TaylorSeerConfig,
    TocaConfig,
    WorldCacheConfig,
    hero_session,
    optimize,
)

from ..pretend import DEVICE, PretendGPU
from .models import inputs, noise, scheduler, tiny_transformer

STEPS = 12
MODEL = tiny_transformer()
FAST = PRESETS["fast"]

SETTINGS = {
    **PRESETS,
    "text refreshed": HeroConfig(),
    "float8": replace(FAST, storage="float8"),
    "host": replace(FAST, storage="host"),
    "FORA": ForaConfig(),
    "TaylorSeer": TaylorSeerConfig(order=2),
    "ToCa": TocaConfig(),
    "ToCa by keys": TocaConfig(score="key"),
    "DuCa": DucaConfig(),
}


@torch.no_grad()
def run(config, gpu=None, *, separate=False, weights=None, attention=None):
    """Answers of a run on the CPU or on a pretended GPU, and what the host waited for in each step."""
    put = gpu.tensor if gpu else lambda tensor: tensor
    call, device = inputs(batch=2), DEVICE if gpu else torch.device("cpu")
    texts, rotary = put(call["encoder_hidden_states"]), tuple(map(put, call["image_rotary_emb"]))
    generator = torch.Generator().manual_seed(1)
    latents = [put(torch.randn(call["hidden_states"].shape, generator=generator)) for _ in range(STEPS)]
    answers, waits = [], []
    with ExitStack() as stack:
        model = gpu.module(MODEL) if gpu else MODEL
        if gpu:
            stack.enter_context(gpu)
        if attention:
            stack.enter_context(optimize(model, attention))
        schedule = scheduler()
        schedule.set_timesteps(STEPS, device=device)
        session = stack.enter_context(hero_session(model, config, STEPS, noise()))
        for timestep, latent in zip(schedule.timesteps, latents, strict=True):
            before = len(gpu.waits) if gpu else 0
            for part in (slice(0, 1), slice(1, 2)) if separate else (slice(None),):
                own = weights and (weights[part] if separate else weights)
                with session.branch(str(part) if separate else None, weights=own):
                    answer = model(
                        latent[part],
                        texts[part],
                        timestep.expand(len(texts[part])),
                        image_rotary_emb=rotary,
                        return_dict=False,
                    )[0]
                answers.append(answer)
            waits.append(gpu.waits[before:] if gpu else [])
    return answers, waits


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.device == DEVICE and torch.equal(one.lies, other)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.slow
def test_the_host_does_not_wait_and_results_are_the_same(name):
    answers, waits = run(SETTINGS[name], PretendGPU())
    assert_same(answers, run(SETTINGS[name])[0])
    assert waits[0], "the schedule is read in the first step"
    assert not any(waits[1:])


@pytest.mark.parametrize("name", ["paper", "balanced", "fast"])
@pytest.mark.slow
def test_branches_one_by_one(name):
    ways = {"separate": True, "weights": (-2.0, 3.0)}
    answers, waits = run(PRESETS[name], PretendGPU(), **ways)
    assert_same(answers, run(PRESETS[name], **ways)[0])
    assert not any(waits[1:])


def test_with_another_attention():
    ways = {"attention": "sdpa", "weights": (-2.0, 3.0)}
    answers, waits = run(FAST, PretendGPU(), **ways)
    assert_same(answers, run(FAST, **ways)[0])
    assert not any(waits[1:])


@pytest.mark.parametrize("config", [HeroConfig(threshold=0.5), WorldCacheConfig()])
@pytest.mark.slow
def test_a_method_that_decides_by_drift_waits_for_that_number_alone(config):
    answers, waits = run(config, PretendGPU())
    assert_same(answers, run(config)[0])
    assert all(step in ([], ["event"]) for step in waits[1:]) and ["event"] in waits


@pytest.mark.slow
def test_layers_are_analyzed_there():
    assert_same(run(LayersConfig(), PretendGPU())[0], run(LayersConfig())[0])


def test_the_pretended_gpu_is_as_strict_as_one():
    with PretendGPU() as gpu:
        there = torch.arange(4.0, device=DEVICE)
        assert there.device == DEVICE and (there + 1).device == DEVICE and (2 * there)[1:].device == DEVICE
        with pytest.raises(RuntimeError, match="cuda:0 and on cpu"):
            there + torch.arange(4.0)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        torch.empty(4).copy_(there, non_blocking=True)
        assert gpu.waits == []
        assert there.sum().item() == 6 and float(there[1]) == 1 and there.tolist() == [0, 1, 2, 3]
        assert bool(there.max() > 2) and len(there[there > 1]) == 2
        torch.empty(4).copy_(there)
        torch.arange(4.0).to(DEVICE)
        assert len(gpu.waits) == 7
        with torch.inference_mode():
            assert float((there + 1)[1]) == 2 and there.sum() > 5
        assert len(gpu.waits) == 9
