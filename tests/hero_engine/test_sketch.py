"""Sketches of long vectors."""

import pytest
import torch

from hero_engine.tune.sketch import Sketch

CPU = torch.device("cpu")
LENGTH, SIZE = 20_000, 512


@pytest.fixture(scope="module")
def sketch():
    return Sketch(LENGTH, SIZE, CPU)


def vectors(count, seed=0):
    return torch.randn(count, LENGTH, generator=torch.Generator().manual_seed(seed))


def test_it_is_linear(sketch):
    one, other = vectors(1), vectors(1, seed=1)
    torch.testing.assert_close(sketch(3 * one - other), 3 * sketch(one) - sketch(other), atol=1e-3, rtol=1e-4)
    assert torch.equal(sketch(torch.zeros(2, LENGTH)), torch.zeros(2, SIZE))


def test_lengths_are_kept_in_the_mean(sketch):
    """Within 3 of the mean's own deviations; single ones vary by 1 / sqrt(2 size)."""
    given = vectors(200)
    ratios = sketch(given).norm(dim=1) / given.norm(dim=1)
    spread = (2 * SIZE) ** -0.5
    assert abs(float((ratios**2).mean()) - 1) < 3 * 2 * spread / 200**0.5
    assert float(ratios.std()) == pytest.approx(spread, rel=0.2)


def test_lengths_of_sums_are_kept_too(sketch):
    """Also where the parts nearly cancel, as errors of several steps may."""
    one, other = vectors(1), vectors(1, seed=1)
    rest = one - (one + 0.01 * other)
    difference = sketch(one) - sketch(one + 0.01 * other)
    assert float(difference.norm() / rest.norm()) == pytest.approx(1, abs=0.15)


def test_a_single_number_keeps_its_size(sketch):
    lone = torch.zeros(1, LENGTH)
    lone[0, 1234] = -2.5
    found = sketch(lone)[0]
    assert sorted(found.abs().tolist())[-2:] == [0, 2.5]


def test_equal_vectors_have_equal_sketches(sketch):
    given = vectors(2)
    assert torch.equal(Sketch(LENGTH, SIZE, CPU)(given), sketch(given))
    found = sketch(given.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sketch(given), atol=0.5, rtol=0.1)
