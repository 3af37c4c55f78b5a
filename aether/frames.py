"""Pictures that are made when they are asked for, so that a clip of any length takes the memory of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


class Frames:
    """As much of an array (F, ...) as writers need.

    Args:
        shape: (F, ...).
        read: from a frame's number to its picture.
    """

    def __init__(self, shape: Sequence[int], read: Callable[[int], np.ndarray]) -> None:
        self.shape = tuple(shape)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: Any) -> np.ndarray:
        """One picture, or (N, ...) for an array of numbers."""
        if np.ndim(frames) == 0:
            return self._read(int(frames))
        return np.stack([self._read(int(frame)) for frame in frames])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._read, range(len(self)))

    def map(self, change: Callable[[np.ndarray], np.ndarray], shape: Sequence[int] | None = None) -> Frames:
        """Every picture changed.

        Args:
            shape: of a changed picture; by default as before.
        """
        pictures = self.shape[1:] if shape is None else shape
        return Frames((len(self), *pictures), lambda frame: change(self._read(frame)))
