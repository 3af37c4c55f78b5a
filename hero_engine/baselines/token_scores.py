"""Which tokens are worth computing (ToCa). Pure tensors; never sees a model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..hero.token_sampling import patch_members


def value_score(values: Tensor) -> Tensor:
    """Scores from values: the smaller its norm, the more a token tends to be attended to.

    Args:
        values: (batch, tokens, heads, head width).

    Returns:
        (tokens,) float32, the mean over the batch, so that all of it chooses the same tokens.
    """
    norms = torch.linalg.vector_norm(values, dim=-1, dtype=torch.float32)
    return F.normalize((1 - norms).sum(-1), dim=1).mean(0)


def key_score(keys: Tensor) -> Tensor:
    """Scores from keys, the larger the norm the higher; shapes as in :func:`value_score`."""
    norms = torch.linalg.vector_norm(keys, dim=-1, dtype=torch.float32)
    return F.normalize(norms.mean(-1), dim=1).mean(0)


def squares(grid: tuple[int, int, int], device: torch.device | str = "cpu", side: int = 2) -> Tensor:
    """Tokens of every `side` x `side` square of a frame, as
    :func:`~hero_engine.hero.token_sampling.patch_members`.

    Args:
        grid: (frames, rows, columns); tokens are numbered frame by frame, row by row.
    """
    return patch_members(grid, (1, min(side, grid[1]), min(side, grid[2]))).to(device)


def best_of_patches(score: Tensor, members: Tensor) -> Tensor:
    """Indices of the best token of every patch.

    Args:
        score: (tokens,).
        members: of :func:`squares`.
    """
    # Absent tokens have the index -1, which is the one appended.
    padded = F.pad(score, (0, 1), value=-torch.inf)
    return members.gather(1, padded[members].argmax(1, keepdim=True)).squeeze(1)


class TokenQueue:
    """The tokens of one block and one kind (video or text), waiting to be computed; all were just now.

    Args:
        tokens: how many.
        device: where they are.

    Attributes:
        score: (tokens,) float32; every token's worth.
    """

    def __init__(self, tokens: int, device: torch.device | str = "cpu"):
        self.score = torch.zeros(tokens, device=device)
        self._age = torch.zeros(tokens, device=device)

    def choose(
        self, count: int, staleness: float, bonus: float = 0.0, members: Tensor | None = None
    ) -> Tensor:
        """The `count` tokens most worth computing; counts them as computed.

        Args:
            staleness: weight of the number of times that a token was not chosen since it last was.
            bonus: share of its score that the best token of each patch gets on top.
            members: the patches, of :func:`squares`; without, there is no bonus.

        Returns:
            (count,) int64.
        """
        score = self.score + staleness * self._age
        if members is not None and bonus > 0:
            best = best_of_patches(score, members)
            # By its size, so that a bonus on a negative score is one too.
            score = score.index_add(0, best, bonus * score[best].abs())
        chosen = score.topk(count).indices
        self._age += 1
        self._age[chosen] = 0
        return chosen
