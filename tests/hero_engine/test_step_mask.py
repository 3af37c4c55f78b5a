"""Masks: their text, how they scale, and the steps of a run that has one."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_engine import ConfigError, HeroConfig, LayersConfig, StepMask, hero_session, report_png
from hero_engine.cost import AETHER, predict
from hero_engine.schedule import MaskSchedule, Reason, step_ages

from .models import denoise, noise, tiny_transformer

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)
masks = st.lists(st.booleans(), max_size=59).map(lambda rest: StepMask((True, *rest)))


def bits(mask: StepMask) -> str:
    return str(mask).partition(": ")[2]


# --- Text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["1110100", "4 of 7: 1110100", " 111 01\n00 ", "4 OF 7:1110100", "4  of 7 : 1 1 1 0 1 0 0"]
)
def test_a_mask_has_one_form(text):
    assert str(StepMask.read(text)) == HeroConfig(mask=text).mask == "4 of 7: 1110100"
    assert HeroConfig(mask=text) == HeroConfig(mask="1110100")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_mask_is_none(text):
    assert HeroConfig(mask=text) == HeroConfig()


BAD = {
    "0": "begins with 0",
    "0111": "begins with 0",
    "11021": "'2' at place 4",
    "5 of 7: 111010x": "'x' at place 15",
    "4 of 7 1110100": "'4' at place 1",
    "28 of 50: 1110100": r"says 28 of 50, .* is 4 of 7: part of it may be lost",
    "4 of 7: 111010": r"says 4 of 7, .* is 4 of 6",
    "0 of 0:": "has no steps",
    "1" * 1001: "has 1001 steps",
    "1" * 5000: "5000 characters",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_a_bad_mask_names_its_fault(text):
    with pytest.raises(ConfigError, match=f"^mask: .*{BAD[text]}") as caught:
        HeroConfig(mask=text)
    assert caught.value.field == "mask"


@pytest.mark.parametrize("value", [None, 1110100, True, ["1"]])
def test_a_mask_is_text(value):
    with pytest.raises(ConfigError, match="^mask: .* is not text"):
        HeroConfig(mask=value)


def test_a_thousand_steps_are_taken():
    assert HeroConfig(mask="1" + "0" * 999).mask == f"1 of 1000: 1{'0' * 999}"


# --- Scaling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask, steps, scaled",
    [
        # C at the steps' ends: 0, 1, 2, 2, 2
        ("10", 4, "1100"),
        # 0, 1, 1
        ("1100", 2, "10"),
        # 0, 1, 5/4, 3/2; the least whole numbers: 0, 1, 2, 2
        ("1010", 3, "110"),
        # 0, 1, 3/2, 2, 5/2: 0, 1, 2, 2, 3
        ("11101001", 4, "1101"),
        ("1000", 1, "1"),
        ("1000", 2, "10"),
        # 0, 1/2, 1 ... 4, 5, 6: every other pair, and all at the end
        ("10" * 8 + "1111", 10, "1010101011"),
    ],
)
def test_scaled_by_hand(mask, steps, scaled):
    assert bits(StepMask.read(mask).scaled(steps)) == scaled


@EXAMPLES
@given(masks, st.integers(1, 200))
def test_every_part_of_a_scaled_mask_has_its_share(mask, steps):
    n, scaled = len(mask.full), mask.scaled(steps).full
    assert len(scaled) == steps and scaled[0]
    for j in range(steps + 1):
        whole, rest = divmod(Fraction(j * n, steps), 1)
        full = sum(mask.full[: int(whole)]) + (rest and rest * mask.full[int(whole)])
        assert sum(scaled[:j]) == math.ceil(full * Fraction(steps, n))


@EXAMPLES
@given(masks, st.integers(1, 5))
def test_a_multiple_repeats_each_step_and_back_again(mask, times):
    many = mask.scaled(times * len(mask.full))
    assert many.full == tuple(step for step in mask.full for _ in range(times))
    assert many.scaled(len(mask.full)) == mask


@EXAMPLES
@given(masks)
def test_what_a_mask_says_of_itself(mask):
    text = bits(mask)
    assert StepMask.read(str(mask)) == mask
    assert mask.leading == len(text) - len(text.lstrip("1"))
    assert mask.trailing == (0 if "0" not in text else len(text) - len(text.rstrip("1")))
    assert mask.longest_cached == max(map(len, text.split("1")))


# --- Schedule ---------------------------------------------------------------------------------------------


def reasons(schedule, rates):
    return [schedule.next(rate) for rate in rates]


def test_the_mask_decides_and_steps_beyond_it_are_full():
    found = reasons(MaskSchedule(StepMask.read("11001")), [0.0] * 7)
    assert found == [Reason.MASK] * 2 + [Reason.CACHED] * 2 + [Reason.MASK] * 3


def test_a_threshold_makes_more_steps_full_and_none_fewer():
    schedule = MaskSchedule(StepMask.read("1100000110"), 0.35)
    found = reasons(schedule, [0.1] * 10)
    assert [reason.full for reason in found] == [
        True,
        True,
        False,
        False,
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    assert found[5] is Reason.THRESHOLD and found[7] is Reason.MASK


@EXAMPLES
@given(masks, st.lists(st.floats(0, 1), min_size=60, max_size=60), st.floats(0.01, 2), st.floats(1, 5))
def test_a_smaller_threshold_never_gives_fewer_full_steps(mask, rates, threshold, more):
    counts = [
        sum(reason.full for reason in reasons(MaskSchedule(mask, bound), rates))
        for bound in (threshold, threshold * more, 0.0)
    ]
    assert counts[0] >= counts[1] >= counts[2]


def test_from_where_on_nothing_is_reused():
    assert MaskSchedule(StepMask.read("1101001")).reused_until == 5
    assert MaskSchedule(StepMask.read("111")).reused_until == 0


# --- Settings ---------------------------------------------------------------------------------------------


def test_counts_are_the_masks_full_steps_at_its_ends():
    config = HeroConfig(mask="1110100111", warmup="50%", cooldown=9, interval=1)
    counts = config.resolve(6, 20)
    assert (counts.warmup, counts.cooldown, counts.planned_steps) == (6, 6, 20)
    assert step_ages(config.schedule(counts), 20) == [0] * 6 + [1, 2, 0, 0, 1, 2, 3, 4] + [0] * 6


def test_steps_are_needed():
    with pytest.raises(ConfigError, match="^steps: needed because mask is scaled to them; give the number"):
        HeroConfig(mask="10").resolve(6)


def test_the_analyzer_takes_a_mask_that_caches():
    with pytest.raises(ConfigError, match="^mask: makes every step full, so that nothing is forecast"):
        LayersConfig(HeroConfig(mask="111"))
    model, hero = tiny_transformer(3), HeroConfig(mask="1101001101", warmup=9, interval=1)
    with hero_session(model, LayersConfig(hero), 10) as run:
        denoise(model, steps=10)
        analysis = run.method.analysis()
    assert "with its mask in 10 steps" in analysis.summary()
    even = HeroConfig(interval=2, warmup=2)
    alike = StepMask(tuple(age == 0 for age in step_ages(even.schedule(even.resolve(3, 10)), 10)))
    errors = []
    for config in (even, HeroConfig(mask=str(alike))):
        with hero_session(model, LayersConfig(config), 10) as run:
            denoise(model, steps=10)
            errors.append(run.method.analysis().cached)
    assert errors[0] == errors[1] != analysis.cached


# --- On a model -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return tiny_transformer(4)


def run(model, config, steps=12, **options):
    with hero_session(model, config, steps, noise() if config.feedback else None) as run:
        latent = denoise(model, steps=steps, **options)
    return latent, run.report


UNEVEN = "7 of 12: 110001011011"


def test_the_steps_of_a_run_are_the_masks(model):
    _, report = run(model, HeroConfig(mask=UNEVEN))
    assert "".join("01"[record.reason.full] for record in report.records) == UNEVEN[-12:]
    assert {record.reason for record in report.records} == {Reason.MASK, Reason.CACHED}
    _, double = run(model, HeroConfig(mask=UNEVEN), steps=24)
    assert "".join("01"[record.reason.full] for record in double.records[::2]) == UNEVEN[-12:]
    assert report.to_dict()["config"]["mask"] == UNEVEN
    assert report_png(report)[:4] == b"\x89PNG"


@pytest.mark.parametrize("shallow, feedback", [("reuse", 0.0), ("forecast", 1.0)])
@pytest.mark.parametrize("interval", [2, 3])
def test_a_mask_of_an_even_rhythm_is_that_rhythm(model, interval, shallow, feedback):
    even = HeroConfig(
        interval=interval, warmup="20%", cooldown="10%", shallow=shallow, feedback=feedback, text="omit"
    )
    latent, report = run(model, even)
    mask = StepMask(tuple(record.reason.full for record in report.records))
    masked = HeroConfig(mask=str(mask), shallow=shallow, feedback=feedback, text="omit")
    again, other = run(model, masked)
    assert torch.equal(latent, again)
    assert (report.full_steps, report.predicted_speedup) == (other.full_steps, other.predicted_speedup)


def test_a_mask_of_ones_is_the_model(model):
    latent, report = run(model, HeroConfig(mask="1", interval=9, warmup=1), steps=6)
    assert torch.equal(latent, denoise(model, steps=6))
    assert "the mask makes all 6 steps full; use more steps" in report.summary()


def test_a_threshold_that_makes_all_full_is_named(model):
    _, report = run(model, HeroConfig(mask="10", interval=1, threshold=1e-6), steps=4)
    assert report.nothing_reused and "never stayed below threshold" in report.summary()


def test_other_steps_than_planned_are_reported(model):
    with hero_session(model, HeroConfig(mask="1100"), 12) as session:
        denoise(model, steps=8)
    assert "8 of 12 planned steps ran: the mask is that of 12." in session.report.summary()


@pytest.mark.parametrize("batch, feedback", [(1, 0.0), (1, 1.0), (2, 1.0)])
@pytest.mark.parametrize("mask", [UNEVEN, "110000", "1", "110101101111"])
def test_predicted_bytes_and_counts_are_those_of_a_run(model, mask, batch, feedback):
    config = HeroConfig(mask=mask, text="omit", feedback=feedback)
    _, report = run(model, config, batch=batch)
    ours = predict(config, report.shape, 12, batch, 4)
    assert (ours.full_steps, ours.speedup_bound) == (
        report.full_steps,
        pytest.approx(report.predicted_speedup),
    )
    assert list(ours.strip) == [record.reason.full for record in report.records]
    assert ours.cached_bytes == report.bytes_cached


def test_half_steps_are_counted_as_they_run():
    """A full step is halved only where no cached one goes on from it."""
    config = HeroConfig(mask="1101011")
    halved = [predict(config, AETHER, 7, 2, half_steps=[step]).flops for step in range(7)]
    whole = predict(config, AETHER, 7, 2)
    full = whole.unaccelerated_flops / 14
    cached = full * whole.cached_share
    saved = [whole.flops - flops for flops in halved]
    assert saved == pytest.approx([0, 0, cached, 0, cached, full, full])


def test_no_branch_sits_out_a_full_step_that_is_gone_on_from(model):
    with hero_session(model, HeroConfig(mask="1101011"), 7) as session:
        found = [session.needs_all(timestep) for timestep in range(700, 0, -100)]
    assert found == [True, True, False, True, False, False, False]
