"""Cached outputs of modules, and their Taylor series. Pure tensors; never sees a model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..storage import held_bytes


class TaylorFeature:
    """One module's output over the steps: its value and finite differences at the last full step.

    With F_0 the output of a full step, F_i = (F_{i-1} - F_{i-1} of the full step before) / gap and
    F(k steps later) = sum over i of F_i k^i / i! (TaylorSeer, arXiv 2503.06923). Order 0 is reuse (FORA).

    Args:
        order: highest i.
    """

    def __init__(self, order: int):
        self._order = order
        self._factors: list[Tensor] = []
        self._step = 0

    def observe(self, value: Tensor, step: int, differences: bool) -> None:
        """A full step's output.

        Args:
            value: of any shape; kept, not copied.
            step: number of the step.
            differences: whether to take them; otherwise the value alone is kept.
        """
        factors, gap = [value], step - self._step
        if differences:
            for old in self._factors[: self._order]:
                factors.append((factors[-1] - old) / gap)
        self._factors, self._step = factors, step

    def forecast(self, step: int) -> Tensor:
        """The output at a later step. Not to be written to."""
        value, *slopes = self._factors
        for i, slope in enumerate(slopes, 1):
            value = torch.add(value, slope, alpha=(step - self._step) ** i / math.factorial(i))
        return value

    def refresh(self, rows: Tensor, part: Tensor) -> None:
        """Write those tokens' (second dimension) output anew, in place."""
        self._factors[0].index_copy_(1, rows, part)

    @property
    def bytes(self) -> int:
        return held_bytes(*self._factors)
