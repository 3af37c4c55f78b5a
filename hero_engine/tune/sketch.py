"""Long vectors in few numbers, so that sums and lengths of them can be known later."""

from __future__ import annotations

import torch
from torch import Tensor


class Sketch:
    """A random linear map of vectors to ``size`` numbers that keeps lengths in the mean (a count sketch:
    Charikar, Chen, Farach-Colton 2002): each number is added to one of `size` sums, with a random sign.

    The spread of a length is about 1 / sqrt(2 size): 3 % with 512.

    Args:
        length: of the vectors.
        size: numbers to keep.
        device: of the vectors.
    """

    def __init__(self, length: int, size: int, device: torch.device):
        generator = torch.Generator().manual_seed(0)
        self._size = size
        self._place = torch.randint(size, (length,), generator=generator).to(device)
        self._sign = (2 * torch.randint(2, (length,), generator=generator) - 1).to(device)

    def __call__(self, vectors: Tensor) -> Tensor:
        """
        Args:
            vectors: (count, length).

        Returns:
            (count, size) float32.
        """
        sums = vectors.new_zeros(len(vectors), self._size, dtype=torch.float32)
        return sums.index_add_(1, self._place, vectors.float() * self._sign)
