"""The cached residuals and their forecast. Pure tensors; never sees a model.

With x the tokens that enter the stack of blocks B_1..B_L, the shallow residual is S = x_tau - x_0 and the
deep residual D = x_L - x_tau. Both are what the blocks *add* to the stream, so the residuals of consecutive
blocks sum, and extrapolating the sum is the same as extrapolating every block (HERO, arXiv 2508.17588, with
the caches of all blocks folded into one).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .patches import PatchSampler


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """|new - old| / |old| as a float32 scalar on the device (NaN where both are 0)."""
    change = torch.linalg.vector_norm(new - old, dtype=torch.float32)
    return change / torch.linalg.vector_norm(old, dtype=torch.float32)


def held_bytes(*tensors: Tensor | None) -> int:
    """Bytes of the tensors that are there."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


class ShallowResidual:
    """S, what the first tau blocks add: (batch, tokens, width)."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def replace(self, before: Tensor, after: Tensor) -> Tensor | None:
        """A full step: recompute S of every token. Returns its relative change, None the first time."""
        new = after - before
        change = None if self.value is None else relative_change(new, self.value)
        self.value = new
        return change

    def refresh(self, index: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """A cached step: write S of the selected tokens only.

        Args:
            index: (selected,) token indices.
            before, after: (batch, selected, width), the tokens entering and leaving the shallow blocks.

        Returns:
            the selected tokens' relative change, an unbiased sample of that of all tokens.
        """
        new = after - before
        change = relative_change(new, self.value.index_select(1, index))
        self.value.index_copy_(1, index, new)
        return change

    @property
    def bytes(self) -> int:
        return held_bytes(self.value)


class LinearForecast:
    """The paper's linear extrapolation: D(t) = D + (t - t_1) (D - D_0) / (t_1 - t_0).

    With one full step behind it, D is reused.
    """

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._slope: Tensor | None = None
        self._time = 0.0

    @property
    def ready(self) -> bool:
        """Whether a full step has been observed."""
        return self._value is not None

    def observe(self, before: Tensor, after: Tensor, time: float) -> Tensor | None:
        """A full step at `time`: take D = after - before, each (batch, tokens, width).

        Returns:
            what the forecast missed, relative to D before it (float32 scalar); None the first time.
        """
        value = after - before
        missed = None
        if self.ready:
            gap = time - self._time
            forecast = self._value if self._slope is None else self._value + self._slope * gap
            missed = relative_change(forecast, value)
            self._slope = (value - self._value) / gap
        self._value, self._time = value, time
        return missed

    def add_to(self, stream: Tensor, time: float) -> Tensor:
        """Add the forecast of D at `time` to the stream, in place."""
        stream += self._value
        if self._slope is not None:
            stream.add_(self._slope, alpha=time - self._time)
        return stream

    @property
    def bytes(self) -> int:
        return held_bytes(self._value, self._slope)


class FittedForecast:
    """Extrapolation whose coefficients fit themselves to what was missed.

    D(t) = D + (t - t_1) (a u + b v), with u and v the latest two slopes between full steps. At each full
    step (a, b) are the least-squares solution for the slope that came, from moments averaged with weight
    `memory` over the full steps so far, with a small ridge: near reuse (0, 0) where features jitter,
    near the paper's (1, 0) where they are smooth.
    """

    memory = 0.5
    ridge = 1e-3

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._slope: Tensor | None = None
        self._earlier: Tensor | None = None
        self._time = 0.0
        self._moments: Tensor | None = None
        self._weights: Tensor | None = None

    @property
    def ready(self) -> bool:
        """Whether a full step has been observed."""
        return self._value is not None

    def observe(self, before: Tensor, after: Tensor, time: float) -> Tensor | None:
        """See :meth:`LinearForecast.observe`."""
        value = after - before
        missed = None
        if self.ready:
            missed = relative_change(self.add_to(torch.zeros_like(value), time), value)
            slope = (value - self._value) / (time - self._time)
            if self._slope is not None:
                self._fit(slope)
            self._slope, self._earlier = slope, self._slope
        self._value, self._time = value, time
        return missed

    def _fit(self, target: Tensor) -> None:
        regressors = [self._slope] if self._earlier is None else [self._slope, self._earlier]
        # Row 0 holds products with u, row 1 with v; columns: u, v, target.
        moments = torch.zeros(2, 3, device=target.device)
        for i, left in enumerate(regressors):
            for j, right in enumerate([*regressors, target]):
                column = j if j < len(regressors) else 2
                moments[i, column] = (left * right).sum(dtype=torch.float32)
        kept = moments if self._moments is None else self.memory * self._moments + (1 - self.memory) * moments
        self._moments = kept
        gram = kept[:, :2] + torch.eye(2, device=target.device) * (self.ridge * kept[0, 0] + 1e-30)
        # Cramer's rule: a 2x2 solve without a host synchronisation.
        determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
        a = (kept[0, 2] * gram[1, 1] - gram[0, 1] * kept[1, 2]) / determinant
        b = (gram[0, 0] * kept[1, 2] - gram[1, 0] * kept[0, 2]) / determinant
        self._weights = torch.stack([a, b]).to(target.dtype)

    def add_to(self, stream: Tensor, time: float) -> Tensor:
        """Add the forecast of D at `time` to the stream, in place."""
        stream += self._value
        if self._weights is not None:
            a, b = self._weights * (time - self._time)
            stream.addcmul_(self._slope, a)
            if self._earlier is not None:
                stream.addcmul_(self._earlier, b)
        return stream

    @property
    def bytes(self) -> int:
        return held_bytes(self._value, self._slope, self._earlier)


FORECAST_CLASSES = {"linear": LinearForecast, "fitted": FittedForecast}


def _compact(tensor: Tensor) -> Tensor:
    """A copy where the tensor is part of a larger one (a fused projection) that would stay alive with it."""
    whole = tensor.untyped_storage().nbytes()
    return tensor.clone() if whole > tensor.numel() * tensor.element_size() else tensor


class KeyValues:
    """Keys and values of all tokens of each shallow block, for ``context="cached_kv"``."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def replace(self, block: int, keys: Tensor, values: Tensor) -> None:
        """A full step: keep those of block number `block`, (batch, tokens, ...)."""
        self._held[block] = (_compact(keys), _compact(values))

    def refresh(self, block: int, rows: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """A cached step: write the rows that were computed; returns those of all tokens."""
        held = self._held[block]
        for whole, part in zip(held, (keys, values), strict=True):
            whole.index_copy_(1, rows, part)
        return held

    @property
    def bytes(self) -> int:
        return held_bytes(*(t for pair in self._held.values() for t in pair))


class BranchCache:
    """Everything cached for one branch of a run (say the conditional one).

    Args:
        forecast: ``"linear"`` or ``"fitted"``.
        sampler: the branch's token sampler.

    Attributes:
        missed_per_step: what the forecast missed at the last full step, per step of its gap (relative).
    """

    def __init__(self, forecast: str, sampler: PatchSampler):
        self.sampler = sampler
        self.shallow = ShallowResidual()
        self.deep = FORECAST_CLASSES[forecast]()
        self.keyvalues = KeyValues()
        self.missed_per_step: Tensor | float = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of the cached features (the sampler's few counters are not counted)."""
        return self.shallow.bytes + self.deep.bytes + self.keyvalues.bytes
