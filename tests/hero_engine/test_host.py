import pytest
import torch

from hero_engine.host import AsyncScalar, TimestepReader


@pytest.fixture
def reads(monkeypatch):
    """How often a schedule was read."""
    count, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: count.append(1) or tolist(self))
    return count


def test_a_schedule_is_read_once(reads):
    reader, schedule = TimestepReader(), torch.arange(990, 0, -10)
    with torch.no_grad():
        seen = [reader.read_view(timestep.expand(2)) for timestep in schedule]
        assert [reader.read_view(schedule[i]) for i in (3, 0)] == [960, 990]
    assert len(reads) == 1 and seen == [float(t) for t in range(990, 0, -10)]


def test_a_schedule_that_changed_is_read_again(reads):
    reader, schedule = TimestepReader(), torch.tensor([3.0, 2.0, 1.0])
    assert reader.read_view(schedule[1]) == 2
    schedule += 5
    assert reader.read_view(schedule[1]) == 7
    assert reader.read_view(torch.tensor([4.5])) == 4.5
    assert len(reads) == 3


def test_numbers_tensors_and_views_of_large_tensors():
    reader, large = TimestepReader(), torch.arange(100_000)
    assert [reader.read(7), reader.read(0.5), reader.read(torch.tensor([3, 4]))] == [7, 0.5, 3]
    assert reader.read_view(large[77]) == 77
    with torch.inference_mode():
        assert reader.read(torch.tensor(12)) == 12


def test_a_late_scalar():
    assert AsyncScalar(torch.tensor(1.5)).read() == 1.5
