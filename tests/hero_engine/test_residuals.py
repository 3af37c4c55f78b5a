import math

import pytest
import torch

from hero_engine.hero.residuals import (
    FittedForecast,
    KeyValues,
    LinearForecast,
    QuadraticForecast,
    Reuse,
    relative_change,
)

BEFORE = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0))


def test_relative_change():
    assert float(relative_change(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))) == pytest.approx(0.2)
    assert math.isnan(float(relative_change(torch.zeros(2), torch.zeros(2))))
    big = torch.full((70000,), 3.0, dtype=torch.float16)
    assert float(relative_change(2 * big, big)) == pytest.approx(1.0, rel=1e-3)


def test_shallow_refresh_writes_the_selected_tokens_only():
    shallow = Reuse()
    assert shallow.observe(BEFORE, BEFORE + 1, 900.0) is None
    index = torch.tensor([1, 4])
    error = shallow.refresh(index, BEFORE[:, index], BEFORE[:, index] + 1.5, 880.0)
    assert float(error) == pytest.approx(0.5 / 1.5, rel=1e-5)
    expected = torch.ones_like(BEFORE)
    expected[:, index] = 1.5
    torch.testing.assert_close(shallow.add_to(torch.zeros_like(BEFORE), 860.0), expected)
    assert float(shallow.observe(BEFORE, BEFORE + expected, 860.0)) == pytest.approx(0, abs=1e-6)


def test_a_forecast_goes_through_what_a_refresh_found_and_on_by_its_slope():
    """Falls by 0.1 a unit of time: 10 at 900, 8 at 880; 7 was forecast for 870, the refresh finds 7.5."""
    shallow = LinearForecast()
    shallow.observe(BEFORE, BEFORE + 10, 900.0)
    shallow.observe(BEFORE, BEFORE + 8, 880.0)
    index = torch.tensor([0, 2])
    error = shallow.refresh(index, BEFORE[:, index], BEFORE[:, index] + 7.5, 870.0)
    assert float(error) == pytest.approx(0.5 / 7.5, rel=1e-5)
    now, later = (shallow.add_to(torch.zeros_like(BEFORE), time) for time in (870.0, 860.0))
    for found, refreshed, other in ((now, 7.5, 7.0), (later, 6.5, 6.0)):
        expected = torch.full_like(BEFORE, other)
        expected[:, index] = refreshed
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("forecast", [Reuse, LinearForecast, FittedForecast])
def test_one_full_step_is_reused(forecast):
    deep = forecast()
    assert not deep.ready
    assert deep.observe(BEFORE, BEFORE + 2, 900.0) is None and deep.ready
    torch.testing.assert_close(deep.add_to(torch.zeros_like(BEFORE), 800.0), torch.full_like(BEFORE, 2.0))


def test_linear_forecast_is_exact_on_a_line_and_reports_its_error():
    deep = LinearForecast()
    deep.observe(BEFORE, BEFORE + 10, 900.0)
    assert float(deep.observe(BEFORE, BEFORE + 8, 880.0)) == pytest.approx(2 / 8, rel=1e-5)
    assert float(deep.observe(BEFORE, BEFORE + 5, 850.0)) == pytest.approx(0.0, abs=1e-5)
    torch.testing.assert_close(deep.add_to(torch.zeros_like(BEFORE), 830.0), torch.full_like(BEFORE, 3.0))


def test_quadratic_forecast_follows_a_parabola_through_uneven_steps():
    def value(time: float) -> torch.Tensor:
        return BEFORE * (2 + 0.3 * (time / 100) ** 2) + time / 50

    deep = QuadraticForecast()
    zero = torch.zeros_like(BEFORE)
    assert deep.observe(zero, value(900.0), 900.0) is None
    errors = [float(deep.observe(zero, value(time), time)) for time in (880.0, 850.0, 790.0)]
    assert errors[0] > 1e-2 and errors[1] > 1e-3, "one value is kept, two are a line"
    assert errors[2] == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(deep.add_to(zero.clone(), 700.0), value(700.0), rtol=1e-4, atol=1e-3)


def features(kind: str, times: list[float]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b, c = torch.randn(3, 1, 40, 16, generator=generator)
    if kind == "smooth":
        return [a + b * t / 100 + c * (t / 1000) ** 2 for t in times]
    return [a + 0.3 * torch.randn(1, 40, 16, generator=generator) for t in times]


@pytest.mark.parametrize("kind, better_than", [("smooth", "reuse"), ("jitter", "linear")])
def test_the_fitted_forecast_adapts(kind, better_than):
    times = [1000.0 - 50 * i for i in range(10)]
    values = features(kind, times)
    zero = torch.zeros_like(values[0])
    fitted, linear = FittedForecast(), LinearForecast()
    for time, value in zip(times[:-1], values[:-1], strict=True):
        fitted.observe(zero, value, time)
        linear.observe(zero, value, time)
    errors = {
        "fitted": relative_change(fitted.add_to(zero.clone(), times[-1]), values[-1]),
        "linear": relative_change(linear.add_to(zero.clone(), times[-1]), values[-1]),
        "reuse": relative_change(values[-2], values[-1]),
    }
    assert errors["fitted"] < 0.75 * errors[better_than]
    # Never much worse than the better of the two.
    assert errors["fitted"] < 1.1 * min(errors["linear"], errors["reuse"]) + 1e-3


def test_bytes_are_those_of_the_hidden_states_held():
    one = BEFORE.numel() * 4
    for forecast, held in ((Reuse, 1), (LinearForecast, 2), (QuadraticForecast, 3), (FittedForecast, 3)):
        deep = forecast()
        for i in range(5):
            deep.observe(BEFORE, BEFORE + i, 900.0 - i)
        assert deep.bytes == held * one


def test_keys_and_values_are_refreshed_in_their_rows():
    store = KeyValues()
    keys, values = torch.zeros(2, 1, 5, 2, 3)
    store.replace(0, keys, values)
    rows = torch.tensor([0, 3])
    fresh = torch.ones(1, 2, 2, 3)
    all_keys, all_values = store.refresh(0, rows, fresh, 2 * fresh)
    assert all_keys[:, rows].eq(1).all() and all_values[:, rows].eq(2).all()
    assert all_keys.sum() == fresh.sum() and all_values.sum() == 2 * fresh.sum()


def test_parts_of_a_fused_projection_do_not_keep_the_whole_alive():
    fused = torch.randn(1, 5, 2, 9)
    store = KeyValues()
    store.replace(0, fused[..., 3:6], fused[..., 6:])
    held = store.refresh(0, torch.empty(0, dtype=torch.int64), *torch.empty(2, 1, 0, 2, 3))
    assert all(tensor.untyped_storage().nbytes() == tensor.numel() * 4 for tensor in held)
    assert store.bytes == 2 * 30 * 4


@pytest.mark.parametrize(
    "dtype, slope",
    [(torch.float32, 0.0), (torch.float16, 0.0), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_a_fitted_forecast_of_little_change_is_a_number(dtype, slope):
    fitted, still = FittedForecast(), torch.zeros(1, 64, 32, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    base, change = torch.randn(2, 1, 64, 32, generator=generator)
    for number, time in enumerate((900, 800, 700, 600)):
        fitted.observe(still, (0.1 * base + slope * number * change).to(dtype), time)
    found = fitted.add_to(still.clone(), 500).float()
    expected = 0.1 * base + 4 * slope * change
    assert (found - expected).norm() < 0.1 * expected.norm()
