"""Predicted errors of runs of a few steps, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hero_engine import ConfigError, HeroConfig
from hero_engine.tune import Recording
from hero_engine.tune.propagation import extrapolated, lasting_share
from hero_engine.tune.response import Response
from hero_engine.tune.sampled_steps import Steps
from hero_engine.tune.tables import LAGS, SHARES, SKETCH, Tables

from .tuning import recorded, small_model

FEW, ANSWER = 4, 0.3
TIMES = (900.0, 600.0, 400.0, 100.0)
PLAIN = HeroConfig(shallow="forecast", feedback=0.0)


@pytest.fixture(scope="module")
def real():
    return recorded(small_model())


@pytest.fixture
def toy(real, monkeypatch) -> Recording:
    """Of four steps. Clean latents lie on a line over the timesteps, errors are random, and only the last
    step answers errors of its latent."""
    monkeypatch.setattr(Response, "full", lambda self, step, error: ANSWER * error * (step == FEW - 1))
    numbers = np.random.default_rng(0)
    begin, slope = numbers.standard_normal((2, SKETCH)) / SKETCH**0.5
    tables = Tables(
        clean=np.stack([begin + slope * time / 1000 for time in TIMES])[:, None],
        guidance=np.ones((FEW, 1)),
        stale=0.01 * numbers.standard_normal((FEW, max(LAGS), SKETCH)),
        stale_shallow=np.zeros((FEW, len(SHARES), max(LAGS), SKETCH)),
        refreshed=np.zeros((FEW, len(SHARES))),
    )
    sampling = Steps(
        timesteps=TIMES,
        ratios=(1e-7, 1e-6, 1e-6, 3.0),
        weights=(0.2, 0.3, 0.4),
        carries=(0.0, 0.0, 0.0),
        direct=(0.0, 0.0, 0.0, 0.0),
        stochastic=False,
        trust=1.0,
        uncorrected=1,
    )
    return replace(real, tables=tables, sampling=sampling)


def with_tables(recording, **changes):
    return replace(recording, tables=replace(recording.tables, **changes))


def error_of(recording, mask, **settings):
    return recording.predict_error(replace(PLAIN, mask=mask, **settings))


@pytest.mark.parametrize("feedback", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
def test_a_run_of_full_steps_has_no_error(toy, real, feedback, shallow):
    toy = with_tables(toy, refreshed=np.ones((FEW, len(SHARES))))
    assert error_of(toy, "1111", feedback=feedback, shallow=shallow) == 0
    assert error_of(real, "1" * real.steps, feedback=feedback, shallow=shallow) == 0


def test_the_last_step_reused_is_off_by_what_was_recorded(toy):
    """No full step follows. With two full ones before it, it is extrapolated: 2 U_1 - U_2 for neighbours."""
    stale = toy.tables.stale[3]
    assert error_of(toy, "1110") == pytest.approx(np.linalg.norm(2 * stale[0] - stale[1]), rel=1e-6)
    # From steps 0 and 2: k = 1 / 2.
    assert error_of(toy, "1010") > error_of(with_tables(toy, stale=0 * toy.tables.stale), "1010") == 0


def test_with_one_full_step_before_it_is_reused_as_it_is(toy):
    two = replace(
        with_tables(toy, **{name: array[:2] for name, array in vars(toy.tables).items()}),
        sampling=Steps(TIMES[:2], (1e-6, 3.0), (0.2,), (0.0,), (0.0, 0.0), False, 1.0, 1),
    )
    assert error_of(two, "10") == pytest.approx(np.linalg.norm(two.tables.stale[1, 0]), rel=1e-6)


def stale_by(*values: float) -> np.ndarray:
    """By lag, where residuals of one direction had these values in the steps before, the latest first."""
    direction = np.full(SKETCH, SKETCH**-0.5)
    return np.stack([(value - values[0]) * direction for value in values[1:]])


@pytest.mark.parametrize(
    ("values", "share"),
    [((7.5, 8, 10), 0.25), ((6, 8, 10), 1), ((4, 8, 10), 1), ((9, 8, 10), 0), ((8, 8, 8), 0)],
)
def test_the_share_of_a_slope_is_that_of_a_real_forecast(values, share):
    """10, 8 and 7.5: 2 were expected to go, and 0.5 went."""
    assert lasting_share(stale_by(*values), 2, 1, 0) == pytest.approx(share)


def test_a_damped_slope_is_used_by_its_share(toy):
    """The gap of two steps from 10 to 8 and a quarter of its slope: 7.75 for a step that has 7.5."""
    table = stale_by(7.5, 8, 9, 10)
    assert np.linalg.norm(extrapolated(table, 3, 2, 0, 0.25)) == pytest.approx(0.25)
    # Three full steps: the last one measures the share, which the linear forecast does not use.
    linear, damped = (error_of(toy, "1110", trend=trend) for trend in ("linear", "damped"))
    share = lasting_share(toy.tables.stale[2], 2, 1, 0)
    stale = toy.tables.stale[3]
    assert damped == pytest.approx(np.linalg.norm((1 + share) * stale[0] - share * stale[1]), rel=1e-6)
    assert damped != linear


def test_without_a_third_full_step_the_slope_is_whole(toy):
    assert error_of(toy, "1100", trend="damped") == error_of(toy, "1100") != 0


def test_it_grows_with_the_weight_of_its_step(toy):
    weights = toy.sampling.weights
    heavier = replace(toy, sampling=replace(toy.sampling, weights=(weights[0], 2 * weights[1], weights[2])))
    assert error_of(heavier, "1011") == pytest.approx(2 * error_of(toy, "1011"), rel=1e-6) != 0


def test_a_multistep_sampler_goes_beyond_the_change_of_clean_latents(toy):
    """Step 1 is off by u, step 2 by nothing: w_1 (u + c_1 u) + w_2 (0 + c_2 (0 - u))."""
    weights, carries = toy.sampling.weights, (0.0, 0.5, 0.25)
    multistep = replace(toy, sampling=replace(toy.sampling, carries=carries))
    share = weights[1] * (1 + carries[1]) - weights[2] * carries[2]
    wanted = ANSWER * share * np.linalg.norm(toy.tables.stale[1, 0])
    assert error_of(multistep, "1011") == pytest.approx(wanted, rel=1e-6)


def test_an_error_of_the_latent_goes_directly_into_later_cached_steps(toy):
    direct = replace(toy, sampling=replace(toy.sampling, direct=(0.0, 0.0, 0.7, 0.0)))
    first, second = toy.tables.stale[1, 0], toy.tables.stale[2, 1]
    weights = toy.sampling.weights
    left = weights[1] * first + weights[2] * (second + 0.7 * weights[1] * first)
    assert error_of(direct, "1001") == pytest.approx(ANSWER * np.linalg.norm(left), rel=1e-6)


def test_bends_are_guided_as_their_step_is(toy):
    """Of two parts, the second bends. It counts only where the cached step's guidance has it."""
    clean = np.repeat(toy.tables.clean, 2, axis=1)
    clean[1, 1] += 0.002 * np.random.default_rng(1).standard_normal(SKETCH)
    only_first, only_second = np.tile((1.0, 0.0), (FEW, 1)), np.tile((1.0, 0.0), (FEW, 1))
    only_second[1] = 0.0, 1.0
    one, other = (
        error_of(with_tables(toy, clean=clean, guidance=weights), "1011", feedback=1.0)
        for weights in (only_first, only_second)
    )
    assert one == pytest.approx(0, abs=1e-6)
    assert other == pytest.approx(
        ANSWER * toy.sampling.weights[1] * np.linalg.norm(clean[1, 1] - clean[1, 0]), rel=1e-3
    )


@pytest.mark.parametrize("mask", ["1110", "1011", "1001", "1000"])
def test_errors_are_in_proportion_to_what_was_recorded(toy, mask):
    twice = with_tables(toy, stale=2 * toy.tables.stale)
    assert error_of(twice, mask) == pytest.approx(2 * error_of(toy, mask), rel=1e-6) != 0
    assert error_of(replace(toy, scale=3.0), mask) == pytest.approx(3 * error_of(toy, mask))


@pytest.mark.parametrize("mask", ["1011", "1000"])
def test_tokens_that_are_refreshed_without_the_others_add_to_the_error(toy, mask):
    still = with_tables(toy, stale=0 * toy.tables.stale)
    refreshed = np.full((FEW, len(SHARES)), 0.01)
    once, twice = (error_of(with_tables(still, refreshed=size * refreshed), mask) for size in (1, 2))
    assert error_of(still, mask) == 0
    if mask == "1000":
        assert twice == pytest.approx(2 * once, rel=1e-6) != 0
    else:
        assert twice >= once >= 0


@pytest.mark.parametrize("feedback", [1.0, 0.5, 0.25])
def test_feedback_is_exact_where_the_clean_latents_lie_on_a_line(toy, feedback):
    plain = error_of(toy, "1011")
    assert error_of(toy, "1011", feedback=feedback) == pytest.approx((1 - feedback) * plain, abs=1e-4 * plain)


def test_feedback_leaves_what_the_clean_latents_bend(toy):
    """Full feedback takes the cached step's answer for one on the line between its full neighbours."""
    clean, bend = toy.tables.clean.copy(), 0.002 * np.random.default_rng(1).standard_normal(SKETCH)
    clean[1] += bend
    bent = with_tables(toy, clean=clean)
    plain, corrected = error_of(bent, "1011"), error_of(bent, "1011", feedback=1.0)
    wanted = np.linalg.norm(bend) / np.linalg.norm(toy.tables.stale[1, 0])
    assert corrected / plain == pytest.approx(wanted, rel=1e-3)


def test_the_last_steps_are_not_corrected(toy):
    all_steps = replace(toy, sampling=replace(toy.sampling, uncorrected=2))
    for mask in ("1011", "1110", "1101"):
        assert error_of(all_steps, mask, feedback=1.0) == error_of(all_steps, mask)
    distrusted = replace(toy, sampling=replace(toy.sampling, trust=0.0))
    assert error_of(distrusted, "1011", feedback=1.0) == error_of(distrusted, "1011")


def test_both_ways_of_the_shallow_blocks_have_an_error(real):
    mask = "110" * (real.steps // 3)
    reused, forecast = (error_of(real, mask, shallow=shallow) for shallow in ("reuse", "forecast"))
    assert 0 < forecast and 0 < reused and 0.1 < reused / forecast < 10


def test_what_cannot_be_predicted_and_what_cannot_run(toy):
    assert error_of(toy, "1010", threshold=0.1) is None
    assert error_of(replace(toy, sampling=None), "1010") is None
    with pytest.raises(ConfigError, match="^tau: 9 is more than the model's 4 blocks"):
        error_of(toy, "1010", tau=9)
