import math

import pytest
import torch

from hero_engine.hero.residuals import LinearForecast, Reuse, relative_change

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


@pytest.mark.parametrize("forecast", [Reuse, LinearForecast])
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


def test_bytes_are_those_of_the_hidden_states_held():
    one = BEFORE.numel() * 4
    for forecast, held in ((Reuse, 1), (LinearForecast, 2)):
        deep = forecast()
        for i in range(5):
            deep.observe(BEFORE, BEFORE + i, 900.0 - i)
        assert deep.bytes == held * one
