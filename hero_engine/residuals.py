"""The cached residuals and their forecast. Pure tensors; never sees a model.

With x the tokens that enter the stack of blocks B_1..B_L, the shallow residual is S = x_tau - x_0 and the
deep residual D = x_L - x_tau. Both are what the blocks *add* to the stream, so the residuals of consecutive
blocks sum, and extrapolating the sum is the same as extrapolating every block (HERO, arXiv 2508.17588, with
the caches of all blocks folded into one).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .storage import STORES, Store


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """|new - old| / |old| as a float32 scalar on the device (NaN where both are 0)."""
    change = torch.linalg.vector_norm(new - old, dtype=torch.float32)
    return change / torch.linalg.vector_norm(old, dtype=torch.float32)


class ShallowResidual:
    """S, what the first tau blocks add: (batch, tokens, width).

    Args:
        store: the kind of store it waits in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        self._value = store()

    @property
    def value(self) -> Tensor:
        """S. Not to be written to."""
        return self._value.read()

    def prefetch(self) -> None:
        """It will be read soon."""
        self._value.prefetch()

    def replace(self, before: Tensor, after: Tensor) -> Tensor | None:
        """A full step: recompute S of every token. Returns its relative change, None the first time."""
        new = after - before
        change = relative_change(new, self.value) if self._value.filled else None
        self._value.put(new)
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
        self._value.write(index, new)
        return change

    def add_to(self, stream: Tensor) -> Tensor:
        """stream + S, a tensor of its own."""
        total = stream + self.value
        self._value.release()
        return total

    @property
    def bytes(self) -> int:
        return self._value.bytes


class LinearForecast:
    """The paper's linear extrapolation: D(t) = D + (t - t_1) (D - D_0) / (t_1 - t_0).

    With one full step behind it, D is reused.

    Args:
        store: the kind of store that D and its slope wait in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        self._value = store()
        self._slope = store()
        self._time = 0.0

    @property
    def ready(self) -> bool:
        """Whether a full step has been observed."""
        return self._value.filled

    def prefetch(self) -> None:
        """It will be added soon."""
        self._value.prefetch()
        self._slope.prefetch()

    def observe(self, before: Tensor, after: Tensor, time: float) -> Tensor | None:
        """A full step at `time`: take D = after - before, each (batch, tokens, width).

        Returns:
            what the forecast missed, relative to D before it (float32 scalar); None the first time.
        """
        value = after - before
        missed = None
        if self.ready:
            gap = time - self._time
            old = self._value.read()
            forecast = old + self._slope.read() * gap if self._slope.filled else old
            missed = relative_change(forecast, value)
            self._slope.put((value - old) / gap)
        self._value.put(value)
        self._time = time
        return missed

    def add_to(self, stream: Tensor, time: float) -> Tensor:
        """Add the forecast of D at `time` to the stream, in place."""
        stream += self._value.read()
        self._value.release()
        if self._slope.filled:
            stream.add_(self._slope.read(), alpha=time - self._time)
            self._slope.release()
        return stream

    @property
    def bytes(self) -> int:
        return self._value.bytes + self._slope.bytes


class FittedForecast:
    """Extrapolation whose coefficients fit themselves to what was missed.

    D(t) = D + (t - t_1) (a u + b v), with u and v the latest two slopes between full steps. At each full
    step (a, b) are the least-squares solution for the slope that came, from moments averaged with weight
    `memory` over the full steps so far, with a small ridge: near reuse (0, 0) where features jitter,
    near the paper's (1, 0) where they are smooth.

    Args:
        store: the kind of store that D and the slopes wait in.
    """

    memory = 0.5
    ridge = 1e-3

    def __init__(self, store: type[Store] = Store) -> None:
        self._value = store()
        self._slope = store()
        self._earlier = store()
        self._time = 0.0
        self._moments: Tensor | None = None
        self._weights: Tensor | None = None

    @property
    def ready(self) -> bool:
        """Whether a full step has been observed."""
        return self._value.filled

    def prefetch(self) -> None:
        """It will be added soon."""
        for store in (self._value, self._slope, self._earlier):
            store.prefetch()

    def observe(self, before: Tensor, after: Tensor, time: float) -> Tensor | None:
        """See :meth:`LinearForecast.observe`."""
        value = after - before
        missed = None
        if self.ready:
            missed = relative_change(self._forecast(torch.zeros_like(value), time), value)
            slope = (value - self._value.read()) / (time - self._time)
            if self._slope.filled:
                self._fit(slope)
            # The store that held v is the one for the new u.
            self._slope, self._earlier = self._earlier, self._slope
            self._slope.put(slope)
        self._value.put(value)
        self._time = time
        self._release()
        return missed

    def _fit(self, target: Tensor) -> None:
        regressors = [store.read() for store in (self._slope, self._earlier) if store.filled]
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
        self._forecast(stream, time)
        self._release()
        return stream

    def _forecast(self, stream: Tensor, time: float) -> Tensor:
        stream += self._value.read()
        if self._weights is not None:
            a, b = self._weights * (time - self._time)
            stream.addcmul_(self._slope.read(), a)
            if self._earlier.filled:
                stream.addcmul_(self._earlier.read(), b)
        return stream

    def _release(self) -> None:
        for store in (self._value, self._slope, self._earlier):
            store.release()

    @property
    def bytes(self) -> int:
        return self._value.bytes + self._slope.bytes + self._earlier.bytes


FORECAST_CLASSES = {"linear": LinearForecast, "fitted": FittedForecast}


def _compact(tensor: Tensor) -> Tensor:
    """A copy where the tensor is part of a larger one (a fused projection) that would stay alive with it."""
    whole = tensor.untyped_storage().nbytes()
    return tensor.clone() if whole > tensor.numel() * tensor.element_size() else tensor


class KeyValues:
    """Keys and values of all tokens of each shallow block, for ``context="cached_kv"``.

    Args:
        store: the kind of store they wait in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        self._store = store
        self._held: dict[int, tuple[Store, Store]] = {}

    def replace(self, block: int, keys: Tensor, values: Tensor) -> None:
        """A full step: keep those of block number `block`, (batch, tokens, ...)."""
        held = self._held.setdefault(block, (self._store(), self._store()))
        for store, tensor in zip(held, (keys, values), strict=True):
            store.put(_compact(tensor))

    def refresh(self, block: int, rows: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """A cached step: write the rows that were computed; returns those of all tokens."""
        for store in self._held.get(block + 1, ()):
            store.prefetch()
        whole = []
        for store, part in zip(self._held[block], (keys, values), strict=True):
            store.write(rows, part)
            whole.append(store.read())
            store.release()
        return whole[0], whole[1]

    @property
    def bytes(self) -> int:
        return sum(store.bytes for pair in self._held.values() for store in pair)


class BranchCache:
    """Everything cached for one branch of a run (say the conditional one).

    Args:
        forecast: ``"linear"`` or ``"fitted"``.
        storage: ``"model"``, ``"float8"`` or ``"host"``.

    Attributes:
        missed_per_step: what the forecast missed at the last full step, per step of its gap (relative).
    """

    def __init__(self, forecast: str, storage: str = "model"):
        store = STORES[storage]
        self.shallow = ShallowResidual(store)
        self.deep = FORECAST_CLASSES[forecast](store)
        self.keyvalues = KeyValues(store)
        self.missed_per_step: Tensor | float = 0.0

    def prefetch(self) -> None:
        """A cached step begins."""
        self.shallow.prefetch()
        self.deep.prefetch()

    @property
    def bytes(self) -> int:
        """Bytes of the cached features, wherever they are."""
        return self.shallow.bytes + self.deep.bytes + self.keyvalues.bytes
