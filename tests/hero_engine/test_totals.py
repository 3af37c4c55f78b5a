"""Several runs' reports as one, and figures that cannot be."""

import json

import pytest

from hero_engine import HeroConfig, report_png
from hero_engine.cost import speedup_bound
from hero_engine.totals import doubts, speed_text, total


def forward(timestep, full, seconds, tokens=10, refreshed=None):
    refreshed = tokens if full else 2 if refreshed is None else refreshed
    return {
        "timestep": timestep, "branch": "", "full": full, "reason": "", "tokens": tokens,
        "tokens_refreshed": refreshed, "drift": None, "forecast_error": 0.1, "seconds": seconds,
    }  # fmt: skip


def report(cached_seconds, predicted=1.5, failures=0):
    forwards = [forward(900, True, 2.0), forward(600, True, 2.0), forward(300, False, cached_seconds)]
    return {
        "method": "HERO", "config": {"threshold": 0.0}, "steps": 3, "full_steps": 2, "cached_steps": 1,
        "half_steps": 0, "memory_failures": failures, "seconds": 4 + cached_seconds, "seconds_full": 4.0,
        "seconds_cached": cached_seconds, "bytes_cached": int(1e6 * cached_seconds),
        "predicted_speedup": predicted, "forwards": forwards, "summary": "HERO: one run.",
    }  # fmt: skip


def test_counts_add_up_and_times_are_medians():
    found = total([report(0.2), report(0.4), report(40.0)])
    assert (found["runs"], found["steps"], found["full_steps"], found["cached_steps"]) == (3, 9, 6, 3)
    assert found["seconds"] == pytest.approx(12 + 40.6) and found["bytes_cached"] == 40_000_000
    assert found["cached_over_full_step"] == pytest.approx(0.2), "the stall of 40 s counts for nothing"
    assert found["measured_speedup"] == pytest.approx(speedup_bound(9, 6, 0.2))
    assert found["predicted_speedup"] == pytest.approx(1.5)
    assert found["tokens_refreshed"] == pytest.approx((6 * 10 + 3 * 2) / 90)
    assert len(found["forwards"]) == 9
    assert found["summary"].splitlines() == [
        "HERO: 6 full / 3 cached steps in 3 runs, 1.36x measured in the model (bound by FLOPs 1.50x), "
        "at most 40.0 MB cached.",
        "A cached step took 0.200 of a full one.",
    ]


def test_the_bound_of_several_runs_is_that_of_their_work_together():
    assert total([report(0.2, 1.0), report(0.2, 3.0)])["predicted_speedup"] == pytest.approx(6 / (3 + 1))


def test_a_single_run_speaks_for_itself_and_totals_can_be_added():
    assert total([report(0.2)])["summary"] == "HERO: one run."
    assert "Memory ran out in 2 forwards" in total([report(0.2, failures=2), report(0.2)])["summary"]
    total([total([report(0.2)]), report(0.2)])


@pytest.mark.parametrize(
    "measured, bound, share, words",
    [
        (1.5, 1.5, 0.1, None),
        (1.56, 1.5, 0.1, None),
        (1.6, 1.5, 0.01, "above its bound"),
        (2.55, 1.7, None, "noise of a busy machine"),
        (0.05, 1.5, 55.0, "compiling"),
        (1.4, 1.5, 1.02, None),
        (None, 1.0, None, None),
    ],
)
def test_figures_that_cannot_be(measured, bound, share, words):
    found = " ".join(doubts(measured, bound, share))
    assert (found == "") if words is None else words in found
    assert f"bound by FLOPs {bound:.2f}x" in speed_text(measured, bound)


def test_totals_are_json_and_have_a_picture():
    found = json.loads(json.dumps(total([report(0.2), report(0.4)]), allow_nan=False))
    assert report_png(found)[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_picture_of_a_thousand_windows_is_quick():
    forwards = [forward(step, step % 2 == 0, 0.1) for step in range(30)] * 1000
    config = HeroConfig()
    found = total([{**report(0.2), "forwards": forwards}])
    found["config"] = {"threshold": config.threshold}
    assert report_png(found)[:4] == b"\x89PNG"
