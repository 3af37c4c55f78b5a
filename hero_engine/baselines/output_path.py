"""Prediction of the model's output from the path that it took over the last full steps (WorldCache,
arXiv 2603.06331). Pure tensors; never sees a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..optional import require
from ..storage import held_bytes


def curvature(slope: Tensor, change: Tensor, streams: Sequence[int]) -> Tensor:
    """|acceleration| / |slope|^2 of each stream at each latent position.

    Args:
        slope, change: (batch, frames, channels, rows, columns); per step, and its change per step.
        streams: channels of each stream.

    Returns:
        (batch, frames, streams, rows, columns) float32.
    """
    return stream_norms(change, streams) / (stream_norms(slope, streams).square() + 1e-8)


def stream_norms(latent: Tensor, streams: Sequence[int]) -> Tensor:
    """Norm of each stream's channels: (batch, frames, streams, rows, columns) float32."""
    parts = latent.split(list(streams), dim=2)
    return torch.stack([torch.linalg.vector_norm(p, dim=2, dtype=torch.float32) for p in parts], dim=2)


def damping(steps: int, most: int) -> float:
    """Hermite weight 3 x^2 - 2 x^3 of the earlier slope, x = steps / most: 0 at a full step, 1 at the end."""
    x = min(steps / most, 1.0)
    return 3 * x * x - 2 * x**3


class OutputPath:
    """The output at the last full step and its last two slopes.

    Args:
        streams: channels of each stream.
        stable, chaotic: shares of the positions, least and most bent.
        most: steps that are predicted at most after a full one.
    """

    def __init__(self, streams: Sequence[int], stable: float, chaotic: float, most: int):
        self._streams = streams
        self._shares = (stable, 1 - chaotic)
        self._most = most
        self._value: Tensor | None = None
        self._slope: Tensor | None = None
        self._earlier: Tensor | None = None
        self._step = 0
        self._curvature: Tensor | None = None

    @property
    def ready(self) -> bool:
        """Whether three full steps have been observed."""
        return self._curvature is not None

    def observe(self, output: Tensor, step: int) -> None:
        """The output of a full step, (batch, frames, channels, rows, columns); copied."""
        value, gap = output.clone(), step - self._step
        slope = None if self._value is None else (value - self._value) / gap
        if slope is not None and self._slope is not None:
            self._curvature = curvature(slope, (slope - self._slope) / gap, self._streams)
        self._value, self._slope, self._earlier, self._step = value, slope, self._slope, step

    def predict(self, step: int) -> tuple[Tensor, Tensor]:
        """The output at a later step, and the error that this step is estimated to make.

        The error is the curvature times the distance moved since the step before, of the chaotic positions,
        as a mean over all (float32 scalar).
        """
        steps = step - self._step
        value, slope, bent = require(self._value), require(self._slope), require(self._curvature)
        # Filled, not made from a list, which would be sent to the device and waited for.
        shares = torch.stack([bent.new_full((), share) for share in self._shares])
        low, high = torch.quantile(bent.flatten(), shares)
        stable, chaotic = bent < low, bent >= high
        move = self._moved(steps)
        error = torch.where(
            chaotic, bent * stream_norms(move - self._moved(steps - 1), self._streams), 0.0
        ).mean()
        moved = torch.where(self._widen(chaotic), move, steps * slope)
        moved = torch.where(self._widen(stable), 0.0, moved)
        return value + moved, error

    def _moved(self, steps: int) -> Tensor:
        """How far a chaotic position goes in so many steps."""
        return steps * torch.lerp(require(self._slope), require(self._earlier), damping(steps, self._most))

    def _widen(self, mask: Tensor) -> Tensor:
        """A mask of streams as one of channels."""
        parts = zip(mask.unbind(2), self._streams, strict=True)
        return torch.stack([part for part, channels in parts for _ in range(channels)], dim=2)

    @property
    def bytes(self) -> int:
        """Of the output and its slopes; the curvature, a number per stream and position, is not counted."""
        return held_bytes(self._value, self._slope, self._earlier)
