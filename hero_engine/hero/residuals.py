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

Factor = float | Tensor
"""One number, or (batch, 1, 1) numbers."""


def _add_scaled(total: Tensor, term: Tensor, factor: Factor) -> None:
    """total += term * factor, without a copy of the term."""
    if isinstance(factor, Tensor):
        total.addcmul_(term, factor.to(term.dtype))
    else:
        total.add_(term, alpha=factor)


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

    def _terms(self, time: float) -> list[tuple[Store, Factor]]:
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
            _add_scaled(total, store.read(), factor)
        self._release()
        return total

    def _with_terms(self, value: Tensor, time: float, index: Tensor | None = None) -> Tensor:
        """The forecast from the last value, of all tokens or of the selected ones. Not to be written to."""
        for store, factor in self._terms(time):
            term = store.read() if index is None else store.read().index_select(1, index)
            value = value + term * (factor.to(term.dtype) if isinstance(factor, Tensor) else factor)
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

    def _terms(self, time: float) -> list[tuple[Store, Factor]]:
        return [(self._slope, time - self._time)] if self._slope.filled else []

    def _learn(self, new: Tensor, time: float) -> None:
        self._slope.put(self._slope_to(new, time))


class DampedForecast(LinearForecast):
    """A linear extrapolation whose slope is damped (damped trend: Gardner and McKenzie, Management Science
    31, 1985).

    How much of a slope goes on is measured at every full step: the share of it that minimizes the squared
    error of the forecast made there, 0 to 1, for each sample. Until one was measured it is 1.

    Args:
        store: the kind of store that D and its slope wait in.
    """

    def __init__(self, store: type[Store] = Store) -> None:
        super().__init__(store)
        self._share: Tensor | None = None

    def _terms(self, time: float) -> list[tuple[Store, Factor]]:
        terms = super()._terms(time)
        if self._share is None:
            return terms
        return [(slope, self._share * length) for slope, length in terms]

    def _learn(self, new: Tensor, time: float) -> None:
        if self._slope.filled:
            self._share = share_of_change(new - self._value.read(), self._slope.read() * (time - self._time))
        super()._learn(new, time)


def share_of_change(change: Tensor, expected: Tensor) -> Tensor:
    """The share of an expected change that comes closest to the one that came, 0 to 1.

    Args:
        change, expected: (batch, tokens, width).

    Returns:
        (batch, 1, 1), float32: <change, expected> / <expected, expected>; 0 where nothing was expected.
    """

    def squared(tensor: Tensor) -> Tensor:
        size: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True, dtype=torch.float32)
        return size.square()

    # By norms, as a sum of products would need a copy in float32.
    size = squared(expected)
    share = (squared(change) + size - squared(change - expected)) / (2 * size)
    return share.nan_to_num(nan=0.0).clamp(0.0, 1.0)


class BranchCache:
    """Everything cached for one branch of a run (say the conditional one).

    Args:
        shallow: ``"reuse"`` or ``"forecast"``.
        trend: ``"linear"`` or ``"damped"``.
        storage: ``"model"``, ``"float8"`` or ``"host"``.

    Attributes:
        error_per_step: relative error of the forecast at the last full step, per step of its gap.
    """

    def __init__(self, shallow: str = "reuse", trend: str = "linear", storage: str = "model"):
        store = STORES[storage]
        forecast = LinearForecast if trend == "linear" else DampedForecast
        self.shallow = Reuse(store) if shallow == "reuse" else forecast(store)
        self.deep = forecast(store)
        self.error_per_step: Tensor | float = 0.0

    def prefetch(self) -> None:
        """A cached step begins."""
        self.shallow.prefetch()
        self.deep.prefetch()

    @property
    def bytes(self) -> int:
        """Bytes of the cached features, wherever they are."""
        return self.shallow.bytes + self.deep.bytes
