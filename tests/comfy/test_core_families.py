"""HERO Patch on MODELs that core's own loader makes of a checkpoint, through core's own samplers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .core_models import CORE_MODELS

SETTINGS = {
    "preset": "custom", "interval": 3, "warmup": "2", "cooldown": "1", "patch_columns": 2, "tau": 0.5,
    "ratio": 0.5,
}  # fmt: skip
STEPS = 8
QUICK = ("wan_t2v", "hunyuan_t2v", "ltx_t2v", "cogvideox_i2v")
"""Those of a quick test run: streams of one and of two kinds of blocks, text apart and beside the video."""
PARAMS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CORE_MODELS]


@pytest.fixture(scope="module", params=PARAMS)
def core(request: pytest.FixtureRequest, pack: Any) -> SimpleNamespace:
    """A MODEL of core's and a task for it."""
    return made_core(request.param)


def made_core(name: str) -> SimpleNamespace:
    """See the fixture `core`."""
    made = CORE_MODELS[name]
    task = SimpleNamespace(
        positive=made.conditioning(1),
        negative=made.conditioning(2),
        latent={"samples": torch.zeros(1, *made.latent)},
    )
    return SimpleNamespace(model=made.load(), task=task, measured=made.measured)


@pytest.fixture(scope="module")
def plain(ksampler, core) -> torch.Tensor:
    """The run without HERO."""
    return ksampler(core.model, core.task, steps=STEPS)


@pytest.mark.slow
def test_every_step_full_is_bit_identical(nodes, ksampler, core, plain):
    patched = nodes.HeroPatch(model=core.model, **SETTINGS | {"interval": 1})[0]
    assert torch.equal(ksampler(patched, core.task, steps=STEPS), plain)
    assert torch.equal(ksampler(core.model, core.task, steps=STEPS), plain)


@pytest.mark.parametrize("feedback", [0.0, 1.0])
@pytest.mark.slow
def test_it_is_accelerated_and_the_second_run_like_the_first(nodes, part, ksampler, core, plain, feedback):
    patched = nodes.HeroPatch(model=core.model, **SETTINGS, feedback=feedback)[0]
    first, second = (ksampler(patched, core.task, steps=STEPS) for _ in range(2))
    other = ksampler(patched, core.task, steps=STEPS, seed=2)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert 0 < float((first - plain).norm() / plain.norm()) < 0.3
    for result in (first, other):
        report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
        assert (report.full_steps, report.cached_steps) == (4, 4)
        assert report.steps == STEPS


@pytest.mark.slow
def test_transitions_are_as_in_runs_of_their_own(nodes, ksampler, core):
    """Another size, batch, prompt's length and seed one after the other, on one patched MODEL."""
    text, conditions = core.task.positive[0]
    if (mask := conditions.get("attention_mask")) is not None:
        conditions = conditions | {"attention_mask": torch.cat([mask, mask], dim=1)}
    longer = [[torch.cat([text, text], dim=1), conditions]]
    tasks = [
        core.task,
        SimpleNamespace(**vars(core.task) | {"positive": longer}),
        SimpleNamespace(
            **vars(core.task) | {"latent": {"samples": core.task.latent["samples"].repeat(2, 1, 1, 1, 1)}}
        ),
    ]
    patched = nodes.HeroPatch(model=core.model, **SETTINGS)[0]
    together = [ksampler(patched, task, steps=STEPS) for task in [*tasks, core.task]]
    alone = [ksampler(nodes.HeroPatch(model=core.model, **SETTINGS)[0], task, steps=STEPS) for task in tasks]
    assert all(torch.equal(one, other) for one, other in zip(together, [*alone, alone[0]], strict=True))


def test_two_samplers_in_a_row_are_two_runs(nodes, part, ksampler, core):
    """As Wan 2.2's two experts: the first half of the steps, and the second, each with its own schedule."""
    import comfy.sample

    latent = comfy.sample.fix_empty_latent_channels(core.model, core.task.latent["samples"])
    noise = comfy.sample.prepare_noise(latent, 1)
    reports = []
    for first, last in ((0, 6), (6, 12)):
        patched = nodes.HeroPatch(model=core.model, **SETTINGS)[0]
        with torch.inference_mode():
            latent = comfy.sample.sample(
                patched, noise, 12, 3.0, "euler", "simple", core.task.positive, core.task.negative, latent,
                start_step=first, last_step=last, force_full_denoise=last == 12, disable_noise=first > 0,
                disable_pbar=True,
            )  # fmt: skip
        noise = torch.zeros_like(noise)
        reports.append(part("nodes.bridge.hero_reports").box_of(patched).find(latent))
    assert torch.isfinite(latent).all()
    assert [(report.steps, report.full_steps) for report in reports] == [(6, 4), (6, 4)]


def test_easy_cache_beside_it(nodes, part, ksampler, core):
    """Core's own cache leaves whole steps out: what HERO sees are the others."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    patched = nodes.HeroPatch(model=core.model, **SETTINGS)[0]
    both = EasyCacheNode.execute(patched, 5.0, 0.3, 0.9, False).args[0]
    result = ksampler(both, core.task, steps=12)
    report = part("nodes.bridge.hero_reports").box_of(both).find(result)
    assert torch.isfinite(result).all() and 0 < report.steps < 12


@pytest.mark.parametrize(
    ("sampler", "steps"), [("exp_heun_2_x0", 8), ("dpmpp_2s_ancestral", 15), ("dpmpp_sde", 15)]
)
def test_samplers_of_second_order_are_one_run(nodes, part, ksampler, sampler, steps):
    """Of a flow, at whose times they ask: in one pass with its cool-down at the end, at 8 times or at 15."""
    one = made_core("wan_t2v")
    patched = nodes.HeroPatch(model=one.model, **SETTINGS)[0]
    result = ksampler(patched, one.task, steps=STEPS, sampler=sampler)
    report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
    reasons = {record.timestep: record.reason.value for record in report.records}
    assert report.steps == len(reasons) == steps
    assert list(reasons.values())[-1] == "cool-down" and "cool-down" not in list(reasons.values())[:-1]


def test_an_inpaint_mask_leaves_the_steps_times(nodes, part, ksampler):
    """With one, the 5B is given each frame's timestep times the share of it that is to be made."""
    one = made_core("wan_5b")
    patched = nodes.HeroPatch(model=one.model, **SETTINGS)[0]
    times = []
    for share in (1.0, 0.5, 0.0):
        mask = torch.full((1, 1, *one.task.latent["samples"].shape[2:]), share)
        result = ksampler(patched, one.task, steps=STEPS, mask=mask)
        report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
        times.append([record.timestep for record in report.records])
    assert len(times[0]) == STEPS and times[0] == times[1] == times[2]


@pytest.mark.slow
def test_a_region_with_a_prompt_of_its_own(nodes, ksampler, core):
    """Each region is a branch with a cache of its own size."""
    rows, columns = core.task.latent["samples"].shape[-2:]
    text, conditions = core.task.positive[0]
    if "concat_mask" in conditions:
        pytest.skip("core does not cut a start image to a region")
    region = [text.flip(1), conditions | {"area": (3, rows, columns // 2, 0, 0, 0)}]
    task = SimpleNamespace(**vars(core.task) | {"positive": [*core.task.positive, region]})
    plain = ksampler(core.model, task, steps=STEPS)
    exact = ksampler(nodes.HeroPatch(model=core.model, **SETTINGS | {"interval": 1})[0], task, steps=STEPS)
    assert torch.equal(exact, plain)
    result = ksampler(nodes.HeroPatch(model=core.model, **SETTINGS)[0], task, steps=STEPS)
    assert 0 < float((result - plain).norm() / plain.norm()) < 0.3


def test_world_cache_takes_it(nodes, ksampler, core):
    method = {
        "method": "worldcache",
        "interval": 3,
        "warmup": "3",
        "threshold": 10.0,
        "stable": 0.3,
        "chaotic": 0.4,
    }
    result = ksampler(nodes.HeroMethod(model=core.model, method=method)[0], core.task, steps=STEPS)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", ["fora", "taylorseer", "toca", "duca"])
def test_the_other_methods_take_it_or_say_why_not(nodes, part, ksampler, core, name):
    if not core.measured:
        with pytest.raises(ValueError, match="^config: .* does not know those of .*; use HERO or WorldCache"):
            nodes.HeroMethod(model=core.model, method={"method": name})
        return
    patched = nodes.HeroMethod(model=core.model, method={"method": name, "interval": 3})[0]
    result = ksampler(patched, core.task, steps=STEPS)
    report = part("nodes.bridge.hero_reports").box_of(patched).find(result)
    assert torch.isfinite(result).all() and report.cached_steps > 0


@pytest.mark.slow
def test_the_analyzer_takes_it(nodes, core):
    outputs = nodes.HeroAnalyzer(
        model=core.model, **vars(core.task), seed=1, steps=8, guidance=3.0, warmup="2"
    ).args
    assert 1 <= outputs[1] <= 4 and "tau" in outputs[2]


def test_what_stands_between_the_blocks_is_refused(nodes, ksampler, core):
    """Skip Layer Guidance and its like replace blocks, which cached steps would not notice."""
    model = core.model.clone()
    model.set_model_patch_replace(
        lambda arguments, extra: extra["original_block"](arguments), "dit", "double_block", 1
    )
    with pytest.raises(ValueError, match="^model: another node replaces its blocks"):
        ksampler(nodes.HeroPatch(model=model, **SETTINGS)[0], core.task, steps=STEPS)


def test_the_report_says_where_quality_was_not_measured(nodes, ksampler, core):
    patched = nodes.HeroPatch(model=core.model, **SETTINGS)[0]
    result = ksampler(patched, core.task, steps=STEPS)
    text = nodes.HeroReport(model=patched, latent={"samples": result})[0]
    assert ("not measured on this kind of model" in text) != core.measured
