import pytest
import torch

from hero_engine import ConfigError
from hero_engine.hero.token_sampling import PatchSampler, patch_members


def test_members_of_a_divisible_grid():
    members = patch_members((1, 2, 6), (1, 2, 3))
    assert members.tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]


@pytest.mark.parametrize(
    "grid, patch", [((5, 8, 12), (1, 2, 3)), ((3, 5, 7), (2, 2, 3)), ((2, 3, 3), (1, 3, 3))]
)
def test_every_token_is_in_exactly_one_patch(grid, patch):
    members = patch_members(grid, patch)
    present = members[members >= 0].sort().values
    assert present.tolist() == list(range(grid[0] * grid[1] * grid[2]))


@pytest.mark.parametrize("patch", [(4, 1, 1), (1, 6, 1), (1, 1, 8)])
def test_a_patch_larger_than_the_grid_is_refused(patch):
    with pytest.raises(ConfigError, match=r"^patch: .* larger than the token grid 3x5x7"):
        PatchSampler((3, 5, 7), patch, 1, 0)


@pytest.mark.parametrize("take", [1, 2, 5, 6])
def test_each_patch_gives_its_share_without_repetition(take):
    sampler = PatchSampler((5, 8, 12), (1, 2, 3), take, 0)
    members = patch_members((5, 8, 12), (1, 2, 3))
    for _ in range(5):
        drawn, _ = sampler.draw()
        chosen = torch.zeros(480, dtype=torch.bool)
        chosen[drawn] = True
        assert len(drawn) == sampler.tokens == 80 * take
        assert (chosen[members].sum(1) == take).all()


def test_smaller_patches_at_the_edge_give_what_they_have():
    sampler = PatchSampler((1, 3, 4), (1, 2, 3), 4, 0)
    # Patches of 6, 2, 3 and 1 tokens.
    assert sampler.tokens == 4 + 2 + 3 + 1
    for _ in range(4):
        drawn = sampler.draw()[0]
        assert len(drawn) == len(set(drawn.tolist())) == 10 and drawn.min() >= 0


def test_a_ratio_of_one_draws_everything():
    assert PatchSampler((2, 4, 6), (1, 2, 3), 6, 0).draw()[0].sort().values.tolist() == list(range(48))


def test_the_seed_decides_and_the_global_state_is_untouched():
    state = torch.get_rng_state()
    first, again, other = (
        [PatchSampler((5, 8, 12), (1, 2, 3), 1, seed).draw()[0] for _ in range(1)][0] for seed in (7, 7, 8)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_reset_forgets_ages():
    sampler = PatchSampler((5, 8, 12), (1, 2, 3), 1, 0)
    for _ in range(3):
        sampler.draw()
    assert sampler.steps_since_reset == 3 and float(sampler.mean_age()) > 1
    sampler.reset()
    assert sampler.steps_since_reset == 0 and float(sampler.mean_age()) == 0
    assert float(sampler.draw()[1]) == 1.0


def test_probability_grows_in_proportion_to_staleness():
    # After the first draw, of a patch of two tokens one has age 1 and the other 2: odds 1 to 2.
    sampler = PatchSampler((1, 200, 200), (1, 1, 2), 1, 0)
    first = sampler.draw()[0]
    second, mean_age = sampler.draw()
    again = torch.isin(second, first).float().mean()
    assert abs(float(again) - 1 / 3) < 0.02
    assert abs(float(mean_age) - 5 / 3) < 0.02
