import math

import pytest
import torch

from hero_engine.hero.residuals import DampedForecast, LinearForecast, Reuse, relative_change

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


@pytest.mark.parametrize("forecast", [Reuse, LinearForecast, DampedForecast])
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


def forecast_of(seen: list[tuple[float, torch.Tensor]], time: float) -> torch.Tensor:
    """A damped forecast of residuals, after full steps at these times."""
    deep = DampedForecast()
    for moment, residual in seen:
        deep.observe(BEFORE, BEFORE + residual, moment)
    return deep.add_to(torch.zeros_like(BEFORE), time)


def level(*values: float) -> torch.Tensor:
    """A residual of one value for each sample."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None].expand(len(values), 6, 4).clone()


def test_a_slope_goes_on_by_the_share_that_went_on_at_the_last_full_step():
    """10, 8 and 7.5 at 900, 880 and 860: 2 were expected to go, and 0.5 went: a quarter. The next slope is
    0.5 in 20, of which a quarter goes on: 0.0625 in 10."""
    seen = [(900.0, level(10)), (880.0, level(8)), (860.0, level(7.5))]
    torch.testing.assert_close(forecast_of(seen[:2], 870.0), level(7))  # nothing measured yet
    torch.testing.assert_close(forecast_of(seen, 850.0), level(7.4375))


@pytest.mark.parametrize(("came", "expected"), [(9.0, 9.0), (4.0, 2.0)], ids=["turned back", "went further"])
def test_the_share_is_between_none_and_all(came, expected):
    seen = [(900.0, level(10)), (880.0, level(8)), (860.0, level(came))]
    torch.testing.assert_close(forecast_of(seen, 850.0), level(expected))


def test_each_sample_has_a_share_of_its_own():
    deep = DampedForecast()
    for moment, residual in ((900.0, (10, 10)), (880.0, (8, 8)), (860.0, (6, 7.5))):
        deep.observe(BEFORE.expand(2, -1, -1), BEFORE + level(*residual), moment)
    torch.testing.assert_close(deep.add_to(torch.zeros(2, 6, 4), 850.0), level(5, 7.4375))


def test_what_does_not_change_has_no_slope():
    torch.testing.assert_close(forecast_of([(900.0 - i, level(3)) for i in range(4)], 890.0), level(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shares_are_measured_in_float32(dtype):
    """Squares of these do not fit into float16."""
    deep, before = DampedForecast(), BEFORE.to(dtype)
    for moment, residual in ((900.0, 3000.0), (880.0, 2000.0), (860.0, 1500.0)):
        deep.observe(before, before + residual, moment)
    found = deep.add_to(torch.zeros_like(before), 850.0)
    torch.testing.assert_close(found.float(), torch.full((1, 6, 4), 1375.0), rtol=0.02, atol=0)


def test_bytes_are_those_of_the_hidden_states_held():
    one = BEFORE.numel() * 4
    for forecast, held in ((Reuse, 1), (LinearForecast, 2), (DampedForecast, 2)):
        deep = forecast()
        for i in range(5):
            deep.observe(BEFORE, BEFORE + i, 900.0 - i)
        assert deep.bytes == held * one
