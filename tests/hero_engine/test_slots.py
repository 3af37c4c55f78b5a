"""Which tokens a recording looks at, and how their variants stand in the place of others."""

import math

import pytest
import torch

from hero_engine.tune.slots import Slots, per_token

CPU = torch.device("cpu")


def counting(*shape):
    """A tensor of different numbers."""
    return torch.arange(math.prod(shape), dtype=torch.float32).view(shape)


def test_a_token_of_one_place_has_its_channels():
    latent = counting(2, 3, 5, 4, 6)  # (batch, frames, channels, rows, columns)
    found = per_token(latent, (3, 4, 6), channel_dim=2)
    assert found.shape == (2, 72, 5)
    frame, row, column = 2, 1, 3
    assert torch.equal(found[1, (frame * 4 + row) * 6 + column], latent[1, frame, :, row, column])


def test_a_token_of_a_patch_has_all_of_its_places():
    latent = counting(1, 5, 2, 4, 6)  # (batch, channels, frames, rows, columns)
    found = per_token(latent, (1, 2, 3), channel_dim=1)
    assert found.shape == (1, 6, 2 * 2 * 2 * 5)
    patch = latent[0, :, 0:2, 2:4, 4:6]
    assert sorted(found[0, 5].tolist()) == sorted(patch.flatten().tolist())


def test_edges_that_tokens_stand_over_are_filled_with_zeros():
    latent = 1 + counting(1, 2, 3, 3)  # a picture
    found = per_token(latent, (1, 2, 2), channel_dim=1)
    assert found.shape == (1, 4, 8)
    assert [int((token == 0).sum()) for token in found[0]] == [0, 4, 4, 6]
    assert sorted(found[found > 0].tolist()) == sorted(latent.flatten().tolist())


def test_what_is_per_token_stays():
    answer = counting(2, 7, 3)
    assert per_token(answer, (1, 1, 7), channel_dim=2) is answer


@pytest.mark.parametrize("tokens, each", [(6, 2), (7, 2), (1, 1), (100, 12)])
def test_as_many_tokens_of_every_frame(tokens, each):
    slots = Slots((3, 3, 4), tokens, 0, CPU)
    frames = slots.index.view(3, -1)
    assert slots.each == each == frames.shape[1]
    for frame, found in enumerate(frames.tolist()):
        assert len(set(found)) == each and all(12 * frame <= one < 12 * (frame + 1) for one in found)
    assert torch.equal(slots.index, Slots((3, 3, 4), tokens, 0, CPU).index)


def test_tokens_are_picked_behind_those_in_front():
    slots = Slots((2, 2, 3), 4, 5, CPU)
    stream = counting(1, 5 + 12 + 2, 1)
    assert slots.pick(stream).flatten().tolist() == (slots.index + 5).tolist()


@pytest.mark.parametrize("variants, streams", [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_variants_come_back_as_they_went_in(variants, streams):
    slots, batch, width = Slots((2, 2, 3), 4, 5, CPU), 2, 3
    stream = counting(batch, 5 + 12 + 2, width)
    given = -1 - counting(variants, batch, 4, width)
    filled = slots.fill(stream, given)
    assert len(filled) == streams
    for one in filled:
        assert torch.equal(one[:, :5], stream[:, :5]) and torch.equal(one[:, 17:], stream[:, 17:])
    head = [10 * one[:, 5:17] for one in filled]  # token by token
    assert torch.equal(slots.read(head, variants), 10 * given)
    assert stream.min() == 0, "the stream itself stays"


def test_variants_stand_in_their_own_frame():
    slots = Slots((2, 2, 3), 4, 0, CPU)
    given = torch.zeros(2, 1, 4, 1)
    given[:, :, :2], given[:, :, 2:] = -1, -2  # of the first frame and of the second
    (filled,) = slots.fill(counting(1, 12, 1), given)
    assert filled.flatten().tolist() == [-1, -1, -1, -1, 4, 5, -2, -2, -2, -2, 10, 11]
