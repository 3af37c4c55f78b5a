"""The cached residuals and their forecast. Pure tensors; never sees a model.

With x the tokens that enter the stack of blocks B_1..B_L, the shallow residual is S = x_tau - x_0 and the
deep residual D = x_L - x_tau. Both are what the blocks *add* to the stream, so the residuals of consecutive
blocks sum, and extrapolating the sum is the same as extrapolating every block (HERO, arXiv 2508.17588, with
the caches of all blocks folded into one).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..storage import STORES, Store


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """|new - old| / |old| as a float32 scalar on the device (NaN where both are 0)."""
    change: Tensor = torch.linalg.vector_norm(new - old, dtype=torch.float32)
    size: Tensor = torch.linalg.vector_norm(old, dtype=torch.float32)
    return change / size


class Forecast(ABC):
    """A residual (batch, tokens, width), computed at full steps and forecast between them.

    Args:
        store: the kind of store that what is kept waits in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        self._value = store()
        self._time = 0.0

    @property
    def ready(self) -> bool:
        """Whether a full step has been observed."""
        return self._value.filled

    @property
    def _stores(self) -> list[Store]:
        """All that is kept."""
        return [self._value]

    def _terms(self, time: float) -> list[tuple[Store, float | Tensor]]:
        """What the forecast adds to the last value: tensors kept, and their factors at `time`."""
        return []

    @abstractmethod
    def _learn(self, new: Tensor, time: float) -> None:
        """A value came at `time`; the last one is still kept."""

    def _slope_to(self, new: Tensor, time: float) -> Tensor:
        """First divided difference from the last value to one that came at `time`."""
        return (new - self._value.read()) / (time - self._time)

    def prefetch(self) -> None:
        """It will be read soon."""
        for store in self._stores:
            store.prefetch()

    def observe(self, before: Tensor, after: Tensor, time: float) -> Tensor | None:
        """A full step at `time`: take the residual after - before of every token.

        Returns:
            error of the forecast, relative to the residual (float32 scalar); None the first time.
        """
        new = after - before
        error = None
        if self.ready:
            error = relative_change(self._with_terms(self._value.read(), time), new)
            self._learn(new, time)
        self._value.put(new)
        self._time = time
        self._release()
        return error

    def refresh(self, index: Tensor, before: Tensor, after: Tensor, time: float) -> Tensor:
        """A cached step at `time`: the residual of the selected tokens is known.

        Their last value becomes that from which the forecast arrives at the known one.

        Args:
            index: (selected,) token indices.
            before, after: (batch, selected, width), the tokens entering and leaving the blocks.

        Returns:
            error of the forecast there, relative to the values found; an unbiased sample of all tokens.
        """
        new = after - before
        old = self._value.read().index_select(1, index)
        forecast = self._with_terms(old, time, index)
        error = relative_change(forecast, new)
        self._value.write(index, new if forecast is old else old + (new - forecast))
        return error

    def add_to(self, stream: Tensor, time: float, in_place: bool = False) -> Tensor:
        """stream + the forecast at `time`: a tensor of its own, or the stream itself."""
        total = stream.add_(self._value.read()) if in_place else stream + self._value.read()
        for store, factor in self._terms(time):
            if isinstance(factor, Tensor):
                total.addcmul_(store.read(), factor)
            else:
                total.add_(store.read(), alpha=factor)
        self._release()
        return total

    def _with_terms(self, value: Tensor, time: float, index: Tensor | None = None) -> Tensor:
        """The forecast from the last value, of all tokens or of the selected ones. Not to be written to."""
        for store, factor in self._terms(time):
            term = store.read() if index is None else store.read().index_select(1, index)
            value = value + term * factor
        return value

    def _release(self) -> None:
        for store in self._stores:
            store.release()

    @property
    def bytes(self) -> int:
        return sum(store.bytes for store in self._stores)


class Reuse(Forecast):
    """The last value, whatever the time."""

    def _learn(self, new: Tensor, time: float) -> None:
        pass


class LinearForecast(Forecast):
    """The paper's linear extrapolation: D(t) = D + (t - t_1) (D - D_0) / (t_1 - t_0).

    With one full step behind it, D is reused.

    Args:
        store: the kind of store that D and its slope wait in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        super().__init__(store)
        self._slope = store()

    @property
    def _stores(self) -> list[Store]:
        return [self._value, self._slope]

    def _terms(self, time: float) -> list[tuple[Store, float | Tensor]]:
        return [(self._slope, time - self._time)] if self._slope.filled else []

    def _learn(self, new: Tensor, time: float) -> None:
        self._slope.put(self._slope_to(new, time))


class QuadraticForecast(LinearForecast):
    """The parabola through the last three values, in Newton's form: the line of the last two, and
    (t - t_1) (t - t_0) times the second divided difference. A line until there are three.

    TaylorSeer's second order (arXiv 2503.06923), for residuals.

    Args:
        store: the kind of store that D and its two differences wait in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        super().__init__(store)
        self._bend = store()
        self._earlier_time = 0.0

    @property
    def _stores(self) -> list[Store]:
        return [*super()._stores, self._bend]

    def _terms(self, time: float) -> list[tuple[Store, float | Tensor]]:
        terms = super()._terms(time)
        if self._bend.filled:
            terms.append((self._bend, (time - self._time) * (time - self._earlier_time)))
        return terms

    def _learn(self, new: Tensor, time: float) -> None:
        slope = self._slope_to(new, time)
        if self._slope.filled:
            self._bend.put((slope - self._slope.read()) / (time - self._earlier_time))
        self._slope.put(slope)
        self._earlier_time = self._time


class FittedForecast(Forecast):
    """Extrapolation whose coefficients are fitted to the forecast's own error.

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
        super().__init__(store)
        self._slope = store()
        self._earlier = store()
        self._moments: Tensor | None = None
        self._weights: Tensor | None = None

    @property
    def _stores(self) -> list[Store]:
        return [self._value, self._slope, self._earlier]

    def _terms(self, time: float) -> list[tuple[Store, float | Tensor]]:
        if self._weights is None:
            return []
        factors = self._weights * (time - self._time)
        stores = (self._slope, self._earlier)
        return [(store, factor) for store, factor in zip(stores, factors, strict=True) if store.filled]

    def _learn(self, new: Tensor, time: float) -> None:
        slope = self._slope_to(new, time)
        if self._slope.filled:
            self._fit(slope)
        # The store that held v is the one for the new u.
        self._slope, self._earlier = self._earlier, self._slope
        self._slope.put(slope)

    def _fit(self, target: Tensor) -> None:
        # In float32, where squares of small slopes are not lost.
        dtype, target = target.dtype, target.float()
        regressors = [store.read().float() for store in (self._slope, self._earlier) if store.filled]
        # Row 0 holds products with u, row 1 with v; columns: u, v, target.
        moments = torch.zeros(2, 3, device=target.device)
        for i, left in enumerate(regressors):
            for j, right in enumerate([*regressors, target]):
                column = j if j < len(regressors) else 2
                moments[i, column] = (left * right).sum()
        kept = moments if self._moments is None else self.memory * self._moments + (1 - self.memory) * moments
        self._moments = kept
        gram = kept[:, :2] + torch.eye(2, device=target.device) * (self.ridge * kept[0, 0])
        # Cramer's rule: a 2x2 solve without a host synchronisation.
        determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
        a = (kept[0, 2] * gram[1, 1] - gram[0, 1] * kept[1, 2]) / determinant
        b = (gram[0, 0] * kept[1, 2] - gram[1, 0] * kept[0, 2]) / determinant
        # Without change there is nothing to fit, and nothing to forecast.
        fitted = torch.stack([a, b])
        self._weights = torch.where(determinant > 0, fitted, 0.0).to(dtype)


FORECASTS: dict[str, type[Forecast]] = {
    "linear": LinearForecast,
    "quadratic": QuadraticForecast,
    "fitted": FittedForecast,
}


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
        forecast: ``"linear"``, ``"quadratic"`` or ``"fitted"``.
        shallow: ``"reuse"`` or ``"forecast"``.
        storage: ``"model"``, ``"float8"`` or ``"host"``.

    Attributes:
        error_per_step: relative error of the forecast at the last full step, per step of its gap.
    """

    def __init__(self, forecast: str, shallow: str = "reuse", storage: str = "model"):
        store = STORES[storage]
        self.shallow = Reuse(store) if shallow == "reuse" else FORECASTS[forecast](store)
        self.deep = FORECASTS[forecast](store)
        self.keyvalues = KeyValues(store)
        self.error_per_step: Tensor | float = 0.0

    def prefetch(self) -> None:
        """A cached step begins."""
        self.shallow.prefetch()
        self.deep.prefetch()

    @property
    def bytes(self) -> int:
        """Bytes of the cached features, wherever they are."""
        return self.shallow.bytes + self.deep.bytes + self.keyvalues.bytes
