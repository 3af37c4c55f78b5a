"""Which settings a tuning runs."""

from dataclasses import replace

import pytest

from hero_engine import HeroConfig
from hero_engine.schedule import step_ages
from hero_engine.tune import Target
from hero_engine.tune.candidates import Candidates
from hero_engine.tune.search import Search
from hero_engine.tune.trials import Trial

from .tuning import STEPS, recorded, small_model


@pytest.fixture(scope="module", params=["predicts", "predicts nothing"])
def recording(request):
    found = recorded(small_model())
    return found if request.param == "predicts" else replace(found, sampling=None)


def trial_of(config, error=0.1):
    return Trial(config, error, {}, None, 2.0, None, (True,) * STEPS)


def all_of(recording, target):
    """Everything that a search tries, however large the budget."""
    search, trials = Search(recording, target), []
    while (found := search.next(trials)) is not None:
        trials.append(trial_of(found.config))
        assert len(trials) < 100
    return [trial.config for trial in trials]


def what_runs(config, blocks=4):
    """Full steps, and all settings that are not about them."""
    counts = config.resolve(blocks, STEPS)
    strip = tuple(age == 0 for age in step_ages(config.schedule(counts), STEPS))
    return strip, replace(config, mask="", interval=1, warmup=1, cooldown=0)


@pytest.mark.parametrize("speed", [1.2, 1.5, 2.0])
def test_no_two_trials_run_alike(recording, speed):
    configs = all_of(recording, Target(speed=speed))
    assert len(configs) >= 4
    assert len({what_runs(config) for config in configs}) == len(configs)


@pytest.mark.parametrize("speed", [1.2, 1.5, 2.0])
def test_candidates_come_by_their_predicted_error(recording, speed):
    found = Candidates(recording).at_speed(speed)
    assert [one.error for one in found] == sorted(one.error for one in found)
    assert all(one.speedup >= speed for one in found)


def test_a_rhythm_and_its_mask_are_the_same_setting(recording):
    as_mask = Candidates(recording).as_mask
    rhythm = HeroConfig(interval=3, warmup=2, cooldown=1)
    mask = as_mask(rhythm)
    assert mask.mask == "5 of 9: 110010011" and as_mask(mask) == mask
    assert what_runs(mask)[0] == what_runs(rhythm)[0]
    assert as_mask(replace(rhythm, tau="10%")) != mask != as_mask(replace(rhythm, interval=2))
    adaptive = replace(rhythm, threshold=0.1)
    assert as_mask(adaptive) is adaptive


def test_what_ran_as_a_mask_does_not_run_again_as_a_rhythm(recording):
    first, *_ = all_of(recording, Target(speed=1.5))
    mask = Candidates(recording).as_mask(first)
    second = Search(recording, Target(speed=1.5)).next([trial_of(mask)])
    assert what_runs(second.config) != what_runs(first)
