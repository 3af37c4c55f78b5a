"""Branches that sit steps out: what they come back with."""

import pytest
import torch

from hero_engine import ForaConfig, HeroConfig, hero_session
from hero_engine.cost import AETHER, predict
from hero_engine.errors import ConfigError
from hero_engine.hero import steps as hero_method

from .models import inputs, tiny_transformer

MODEL = tiny_transformer(4)
TIMES = [999, 900, 800, 700, 600, 500, 400, 300]


@torch.no_grad()
def drive(config, **asked):
    """Calls of named branches at chosen steps, in the order given; (outputs by (name, step), report).

    Every call has inputs of its own, which hang on name and step alone.
    """
    outputs = {}
    with hero_session(MODEL, config, len(TIMES)) as run:
        for step, time in enumerate(TIMES):
            for name, steps in asked.items():
                if step in steps:
                    call = inputs(seed=10 * step + len(name))
                    with run.branch(name):
                        outputs[name, step] = MODEL(**call, timestep=torch.tensor([time]))[0]
    return outputs, run.report


def reasons(report, name):
    return [record.reason.value for record in report.records if str(record.branch) == name]


EVERY = range(8)


def test_a_branch_may_sit_cached_steps_out():
    # Steps 0 F 1 F 2 C 3 F 4 C 5 F 6 C 7 F.
    config = HeroConfig(warmup=2)
    whole, _ = drive(config, uncond=EVERY, cond=EVERY)
    some, report = drive(config, uncond=[0, 1, 3, 4, 5, 7], cond=EVERY)
    assert all(torch.equal(output, whole[call]) for call, output in some.items())
    assert reasons(report, "uncond") == ["warm-up", "warm-up", "interval", "cached", "interval", "interval"]


@pytest.mark.parametrize("method", [HeroConfig, ForaConfig])
def test_the_step_in_which_a_branch_comes_back_after_a_full_one_is_full_for_all(method):
    outputs, report = drive(method(warmup=2), uncond=[0, 1, 4, 5], cond=EVERY)
    # It missed 3, so that 4, which would be cached, is full.
    assert reasons(report, "uncond") == ["warm-up", "warm-up", "left out before", "cached"]
    assert reasons(report, "cond")[3:6] == ["interval", "left out before", "cached"]
    plain, _ = drive(HeroConfig(interval=1), uncond=[4], cond=[4])
    assert torch.equal(outputs["uncond", 4], plain["uncond", 4])
    assert torch.equal(outputs["cond", 4], plain["cond", 4])


def asked(config, asking=True, passes=1):
    """What a run says of each step in turn, and what the model then answers."""
    needs, outputs = [], []
    with hero_session(MODEL, config, len(TIMES)) as run:
        for _ in range(passes):
            for step, time in enumerate(TIMES):
                if asking:
                    needs.append(run.needs_all(time))
                    assert run.needs_all(time) == needs[-1]
                outputs.append(MODEL(**inputs(seed=step), timestep=torch.tensor([time]))[0])
    return needs, outputs, run.reports


@torch.no_grad()
def test_full_steps_from_which_cached_ones_go_on_need_all_branches():
    needs, _, _ = asked(HeroConfig(warmup=2, cooldown=2))
    assert needs == [True, True, False, True, False, True, False, False]
    assert not any(asked(HeroConfig(interval=1))[0]), "nothing goes on from anything"


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_asking_changes_nothing(threshold):
    config = HeroConfig(warmup=2, interval=4, threshold=threshold)
    (needs, *one), (_, *other) = asked(config, passes=2), asked(config, asking=False, passes=2)
    assert all(map(torch.equal, one[0], other[0])) and needs[:8] == needs[8:]
    kinds = [
        [[record.reason for record in report.records] for report in reports] for _, reports in (one, other)
    ]
    assert kinds[0] == kinds[1] and len(kinds[0]) == 2


def test_behind_a_branch_that_has_run_already_it_is_full_alone():
    _, report = drive(HeroConfig(warmup=2), cond=EVERY, uncond=[0, 1, 6])
    assert reasons(report, "uncond")[2] == "left out before" and reasons(report, "cond")[6] == "cached"


@pytest.mark.parametrize("missing", [{2}, {3}, {2, 3, 4}])
def test_all_branches_refresh_the_same_tokens(monkeypatch, missing):
    drawn = {}

    class Watched(hero_method.CachedStep):
        def __init__(self, branch, call, moment, index, age):
            super().__init__(branch, call, moment, index, age)
            drawn.setdefault(call.timestep, []).append(index.clone())

    monkeypatch.setattr(hero_method, "CachedStep", Watched)
    drive(HeroConfig(warmup=2, interval=3), uncond=set(EVERY) - missing, cond=EVERY)
    pairs = [pair for pair in drawn.values() if len(pair) == 2]
    assert len(pairs) >= 2
    assert all(torch.equal(*pair) for pair in pairs)
    chosen = list(drawn.values())
    assert not torch.equal(chosen[0][0], chosen[1][0])


def test_predicted_flops_of_half_steps():
    paper = HeroConfig.preset("paper")
    every = predict(HeroConfig(interval=1), AETHER, 50, 2)
    fewer = predict(HeroConfig(interval=1), AETHER, 50, 2, half_steps=range(9))
    assert fewer.flops == pytest.approx(0.91 * every.flops)
    assert fewer.speedup_bound == pytest.approx(1 / 0.91)
    # Steps 4, 6, ... are cached, steps 5, 7, ... full: those have both halves.
    whole = predict(paper, AETHER, 50, 2)
    full, cached = (predict(paper, AETHER, 50, 2, half_steps=[number]) for number in (5, 4))
    assert full == whole
    forward = whole.unaccelerated_flops / 100
    assert whole.flops - cached.flops == pytest.approx(forward * whole.cached_share)
    # But for those of the cool-down, from which nothing goes on.
    cooled = HeroConfig(cooldown=5)
    both, one = (predict(cooled, AETHER, 50, 2, half_steps=steps) for steps in ([], [46]))
    assert both.flops - one.flops == pytest.approx(forward)
    with pytest.raises(ConfigError, match="^half_steps: "):
        predict(paper, AETHER, 50, 1, half_steps=[3])
