"""Branches that sit steps out: what they come back with."""

import pytest
import torch

from hero_engine import ForaConfig, HeroConfig, hero_session
from hero_engine.cost import AETHER, predict
from hero_engine.errors import ConfigError
from hero_engine.methods import hero as hero_method

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
    return [record.reason.value for record in report.records if record.branch == name]


EVERY = range(8)


def test_one_branch_does_not_notice_that_another_sits_out():
    config = HeroConfig(warmup=2)
    whole, _ = drive(config, uncond=EVERY, cond=EVERY)
    some, _ = drive(config, uncond=[0, 1, 4, 5], cond=EVERY)
    assert all(torch.equal(some["cond", step], whole["cond", step]) for step in EVERY)


def test_a_branch_that_missed_one_full_step_goes_on_from_what_it_has():
    # Steps 0 F 1 F 2 C 3 F 4 C; alone and with a longer interval, it sees the same full steps.
    config = {"warmup": 2, "ratio": 1.0}
    together, report = drive(HeroConfig(interval=2, **config), uncond=[0, 1, 2, 4], cond=range(5))
    alone, _ = drive(HeroConfig(interval=4, **config), uncond=[0, 1, 2, 4])
    assert reasons(report, "uncond") == ["warm-up", "warm-up", "cached", "cached"]
    assert torch.equal(together["uncond", 4], alone["uncond", 4])


def test_the_step_in_which_a_branch_comes_back_after_two_is_full_for_all():
    outputs, report = drive(HeroConfig(warmup=2), uncond=[0, 1, 6, 7], cond=EVERY)
    # Full steps are 0, 1, 3, 5; it missed 3 and 5, so that 6, which would be cached, is full.
    assert reasons(report, "uncond") == ["warm-up", "warm-up", "left out before", "cached"]
    assert reasons(report, "cond")[5:] == ["interval", "left out before", "cached"]
    plain, _ = drive(HeroConfig(interval=1), uncond=[6], cond=[6])
    assert torch.equal(outputs["uncond", 6], plain["uncond", 6])
    assert torch.equal(outputs["cond", 6], plain["cond", 6])


def test_behind_a_branch_that_has_run_already_it_is_full_alone():
    _, report = drive(HeroConfig(warmup=2), cond=EVERY, uncond=[0, 1, 6])
    assert reasons(report, "uncond")[2] == "left out before" and reasons(report, "cond")[6] == "cached"


def test_methods_that_count_steps_do_not_reach_over_a_full_one():
    _, report = drive(ForaConfig(warmup=2), uncond=[0, 1, 4], cond=EVERY)
    assert reasons(report, "uncond") == ["warm-up", "warm-up", "left out before"]


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
    # Steps 4, 6, ... are cached, steps 5, 7, ... full.
    whole = predict(paper, AETHER, 50, 2)
    full, cached = (predict(paper, AETHER, 50, 2, half_steps=[number]) for number in (5, 4))
    assert (whole.flops - full.flops) * whole.cached_share == pytest.approx(whole.flops - cached.flops)
    with pytest.raises(ConfigError, match="^half_steps: "):
        predict(paper, AETHER, 50, 1, half_steps=[3])
