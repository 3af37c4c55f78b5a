"""Patch-wise sampling of the tokens that a cached step refreshes. Pure tensors; never sees a model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError


def patch_members(grid: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """Token indices of each patch.

    Args:
        grid: (frames, rows, columns) of video tokens, numbered in that order.
        patch: (frames, rows, columns) of one patch. Where it does not divide the grid, the last patches are
            smaller.

    Returns:
        (patches, tokens of a patch) int64; -1 stands for the absent tokens of smaller patches.

    Raises:
        ConfigError: the patch is larger than the grid.
    """
    if any(p > g for p, g in zip(patch, grid, strict=True)):
        raise ConfigError(
            "patch", f"{'x'.join(map(str, patch))} is larger than the token grid {'x'.join(map(str, grid))}"
        )
    counts = [math.ceil(g / p) for g, p in zip(grid, patch, strict=True)]
    padded = torch.full([c * p for c, p in zip(counts, patch, strict=True)], -1, dtype=torch.int64)
    padded[: grid[0], : grid[1], : grid[2]] = torch.arange(math.prod(grid)).view(grid)
    (a, b, c), (p, q, r) = counts, patch
    return padded.view(a, p, b, q, c, r).permute(0, 2, 4, 1, 3, 5).reshape(-1, math.prod(patch))


class PatchSampler:
    """Draws the tokens to refresh, `tokens_per_patch` from every patch without replacement.

    The probability of a token grows in proportion to the steps since it was last computed, so that no token
    is left behind for long; a full step resets all of them.

    Args:
        grid: (frames, rows, columns) of video tokens.
        patch: (frames, rows, columns) of a patch.
        tokens_per_patch: tokens drawn from each patch (all of a patch that has fewer).
        seed: seed of the sampler's own generator.
        device: where indices are drawn and returned.
        extra: tokens (in front of, behind) the grid's in the stream, which every draw has besides.

    Attributes:
        tokens: tokens drawn at a time.
        steps_since_reset: draws since the last reset.

    Raises:
        ConfigError: the patch is larger than the grid.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        patch: tuple[int, int, int],
        tokens_per_patch: int,
        seed: int,
        device: torch.device | str = "cpu",
        extra: tuple[int, int] = (0, 0),
    ):
        members = patch_members(grid, patch)
        take = min(tokens_per_patch, members.shape[1])
        present = members >= 0
        # Smaller patches give what they have: a fixed pattern, so the count never depends on the draw.
        given = torch.arange(take) < present.sum(1, keepdim=True)
        self.tokens = int(given.sum()) + sum(extra)
        self.steps_since_reset = 0
        self._take = take
        self._present = int(present.sum())
        before, behind = extra
        end = before + math.prod(grid)
        self._members = members.add(before).to(device)  # absent ones are never drawn
        self._extra = torch.cat([torch.arange(before), torch.arange(end, end + behind)]).to(device)
        self._absent = (~present).to(device)
        self._given = given.flatten().nonzero().squeeze(1).to(device)
        self._age = torch.zeros(members.shape, device=device)
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def reset(self) -> None:
        """All tokens were just computed."""
        self._age.zero_()
        self.steps_since_reset = 0

    def mean_age(self) -> Tensor:
        """Mean number of cached steps since the tokens were last computed (scalar tensor on the device)."""
        return self._age.masked_fill(self._absent, 0.0).sum() / self._present

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw for one cached step and count the tokens drawn as computed.

        Returns:
            indices (tokens,) int64, and the mean number of steps since those tokens were last computed
            (scalar tensor on the device, at least 1).
        """
        self.steps_since_reset += 1
        self._age += 1
        # An exponential race with rates `age`: the first to arrive are a weighted draw without replacement.
        arrival = torch.empty_like(self._age).exponential_(generator=self._generator) / self._age
        slots = arrival.masked_fill_(self._absent, torch.inf).topk(self._take, dim=1, largest=False).indices
        mean_age = self._age.gather(1, slots).flatten()[self._given].mean()
        self._age.scatter_(1, slots, 0.0)
        drawn = self._members.gather(1, slots).flatten()[self._given]
        return torch.cat([drawn, self._extra]) if len(self._extra) else drawn, mean_age


class SharedDraws:
    """One draw a step for all branches of a run, also where some of them sit a step out.

    Guidance subtracts one branch from the other; tokens refreshed in one only would show up multiplied by
    its scale.

    Args:
        sampler: draws.
    """

    def __init__(self, sampler: PatchSampler):
        self._sampler = sampler
        self._step = -1
        self._drawn: tuple[Tensor, Tensor]
        self._elapsed: tuple[Tensor, int]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """See :meth:`PatchSampler.draw`; the same for everyone who asks in step number `step`."""
        if step != self._step:
            self._step = step
            self._drawn = self._sampler.draw()
        return self._drawn

    def reset(self, step: int) -> tuple[Tensor, int]:
        """In step number `step` all tokens are computed, by every branch that takes part.

        Returns:
            mean number of steps since the tokens were last computed, and steps since all of them were.
        """
        if step != self._step:
            self._step = step
            self._elapsed = self.elapsed()
            self._sampler.reset()
        return self._elapsed

    def elapsed(self) -> tuple[Tensor, int]:
        """The same, where one branch alone computes all tokens."""
        return self._sampler.mean_age() + 1, self._sampler.steps_since_reset + 1
