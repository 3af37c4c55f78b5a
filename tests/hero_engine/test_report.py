import io
import json

import pytest
import torch
from PIL import Image

from hero_engine import HeroConfig, hero_session, report_png
from hero_engine.drawing import headline

from .models import denoise, inputs, tiny_transformer


@pytest.fixture(scope="module")
def model():
    return tiny_transformer(4)


def run(model, config, steps=12, **options):
    with hero_session(model, config, steps) as run:
        denoise(model, steps=steps, **options)
    return run.report


def took(report, full, cached):
    """The report, had its forwards taken so many seconds: a machine's own would say nothing certain."""
    for record in report.records:
        record.watch._start, record.watch._stop = 0.0, full if record.reason.full else cached
    return report


def test_counts_tokens_and_times(model):
    report = run(model, HeroConfig())
    assert all(record.watch.seconds > 0 for record in report.records)
    assert (report.steps, report.full_steps, report.cached_steps) == (12, 8, 4)
    assert report.tokens_refreshed == pytest.approx((8 * 120 + 4 * 20) / (12 * 120))
    took(report, full=2, cached=0.5)
    assert (report.seconds(), report.seconds(full=True), report.seconds(full=False)) == (18, 16, 2)
    assert report.measured_cached_share == 0.25
    assert report.measured_speedup == pytest.approx(12 / (8 + 4 * 0.25))
    assert 1 < report.predicted_speedup < 1.5
    assert "8 full / 4 cached" in report.summary() and "1.33x measured" in report.summary()


def test_a_stall_does_not_spoil_the_measured_speedup(model):
    report = took(run(model, HeroConfig()), full=2, cached=0.5)
    for number in (0, 4):
        report.records[number].watch._stop += 10
    assert report.seconds() == 38
    assert report.measured_speedup == pytest.approx(12 / (8 + 4 * 0.25))


def test_drift_and_misses(model):
    records = run(model, HeroConfig()).records
    assert records[0].drift is None and records[0].forecast_error is None
    assert all(isinstance(record.drift, float) and record.drift > 0 for record in records[1:])
    assert [isinstance(record.forecast_error, float) for record in records[1:]] == [
        r.reason.full for r in records[1:]
    ]


def test_json(model):
    report = run(model, HeroConfig.preset("paper"))
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["full_steps"] == 8 and len(read["forwards"]) == 12
    assert read["forwards"][4]["tokens_refreshed"] == 20 and read["config"]["text"] == "omit"


def test_json_has_no_nan(model):
    report = run(model, HeroConfig())
    report.records[3].drift, report.records[4].drift = float("nan"), float("inf")
    forwards = json.loads(json.dumps(report.to_dict(), allow_nan=False))["forwards"]
    assert forwards[3]["drift"] is None and forwards[4]["drift"] is None and forwards[5]["drift"] > 0
    assert report_png(report)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "config, steps, words",
    [
        (HeroConfig(interval=1), 6, "interval is 1"),
        (HeroConfig(), 4, "all 4 steps were warm-up or cool-down"),
        (HeroConfig(cooldown=3), 6, "all 6 steps were warm-up or cool-down"),
        (HeroConfig(threshold=1e-6, warmup=1), 6, "never stayed below threshold"),
    ],
)
def test_it_says_so_when_nothing_was_reused(model, config, steps, words):
    report = run(model, config, steps)
    assert report.nothing_reused and "Nothing was reused" in report.summary() and words in report.summary()
    assert report.to_dict()["nothing_reused"] is True
    assert report_png(report)[:4] == b"\x89PNG"


def test_nothing_reused_because_shapes_kept_changing(model):
    with hero_session(model, HeroConfig(warmup=1, interval=9)) as session, torch.no_grad():
        for batch, time in ((1, 900), (2, 800), (1, 700)):
            model(**inputs(batch=batch), timestep=torch.full((batch,), time))
    assert "changed shape" in session.report.summary()


def test_a_session_without_a_step_has_no_report(model):
    with hero_session(model, HeroConfig()) as session:
        pass
    with pytest.raises(RuntimeError, match="nothing has run under HERO yet"):
        _ = session.report


def test_the_picture(model):
    picture = Image.open(io.BytesIO(report_png(run(model, HeroConfig(threshold=0.9, interval=4)))))
    assert picture.size == (975, 780)
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_the_pictures_headline(model):
    report = run(model, HeroConfig(interval=4)).to_dict()
    shown = report | {"measured_speedup": 1.6, "full_steps": 6, "cached_steps": 4, "bytes_cached": 2_900_000}
    assert headline(shown) == "1.60x faster: 6 steps computed, 4 reused, 2.9 MB"
    unmeasured = shown | {"measured_speedup": None, "predicted_speedup": 1.7}
    assert headline(unmeasured).startswith("up to 1.70x faster: ")
    nothing = shown | {"cached_steps": 0, "full_steps": 10}
    assert headline(nothing) == "No speed-up: all 10 steps computed, none reused"
