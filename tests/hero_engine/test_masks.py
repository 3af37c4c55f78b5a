"""The search for the best step mask."""

import itertools
import random

import pytest

from hero_engine import HeroConfig
from hero_engine.tune.masks import _exchanged, _mask, _shortest_path, best_mask, even_mask

from .tuning import STEPS, recorded, small_model


def random_costs(steps, seed, longest):
    numbers = random.Random(seed)
    pairs = itertools.combinations(range(steps), 2)
    return {(begin, end): numbers.random() ** 3 for begin, end in pairs if end - begin <= longest}


def cost(path, costs):
    return sum(costs.get(pair, float("inf")) for pair in itertools.pairwise(path))


@pytest.mark.parametrize("full", range(2, 9))
@pytest.mark.parametrize("longest", [7, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_shortest_path_is_that_of_brute_force(full, longest, seed):
    costs = random_costs(8, seed, longest)
    paths = [(0, *middle, 7) for middle in itertools.combinations(range(1, 7), full - 2)]
    best = min(paths, key=lambda path: cost(path, costs))
    found = _shortest_path(costs, full)
    assert len(found) == full and found[0] == 0 and found[-1] == 7
    if cost(best, costs) < float("inf"):
        assert tuple(found) == best
    else:  # no way with so few steps: evenly spaced
        assert found == sorted({round(number * 7 / (full - 1)) for number in range(full)})


def test_even_masks_have_as_many_full_steps_as_asked_for():
    for steps in range(2, 40):
        for full in range(2, steps + 1):
            mask = even_mask(steps, full).full
            assert len(mask) == steps and sum(mask) == full and mask[0] and mask[-1]


def distance(goal):
    """How far a mask's full steps are from others, in all."""

    def error(mask):
        places = [number for number, full in enumerate(mask.full) if full]
        return sum(abs(one - other) for one, other in zip(places, goal, strict=True))

    return error


@pytest.mark.parametrize("begin", [{0, 1, 2, 3}, {0, 9, 10, 11}, {0, 4, 7, 9}])
def test_exchanges_reach_what_single_moves_reach(begin):
    goal = (0, 3, 6, 8)
    assert _exchanged(set(begin), 12, distance(goal)) == _mask(set(goal), 12)


@pytest.mark.parametrize("seed", range(5))
def test_exchanges_never_raise_the_error_and_keep_the_number_of_full_steps(seed):
    numbers = random.Random(seed)
    worth = {}

    def error(mask):
        return worth.setdefault(mask, numbers.random())

    begin = {0, *numbers.sample(range(1, 10), 3)}
    found = _exchanged(set(begin), 10, error)
    assert error(found) <= error(_mask(begin, 10)) and sum(found.full) == 4 and found.full[0]


@pytest.mark.parametrize("full", [2, 4, 7])
def test_the_best_mask_is_predicted_better_than_most(full):
    recording, numbers = recorded(small_model()), random.Random(0)

    def error(mask):
        return recording.predict_error(HeroConfig(feedback=1.0, mask=str(mask)))

    mask = best_mask(recording, full, HeroConfig(feedback=1.0))
    assert len(mask.full) == STEPS and sum(mask.full) == full and mask.full[0]
    others = [_mask({0, *numbers.sample(range(1, STEPS), full - 1)}, STEPS) for _ in range(20)]
    assert sum(error(mask) <= error(other) for other in others) >= 15


def test_all_steps_may_be_full():
    mask = best_mask(recorded(small_model()), STEPS + 3, HeroConfig())
    assert mask.full == (True,) * STEPS
