"""Whether a window's cameras went the way that was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..geometry.cameras import Cameras
from .parts import angles

MIN_CORRELATION, MAX_TURN = 0.9, 10.0
"""A way that correlates less, or ends turned by more degrees, is not the one that was asked for."""
_STILL = 0.02  # of the nearest depth: noise of what is read off a raymap


@dataclass(frozen=True)
class Following:
    """A window's cameras against those asked for, both in its own unit and relative to their first.

    Attributes:
        correlation: of all coordinates of the positions together, each axis about its mean; 1 where the
            camera was to stand still and does.
        scale: how far it went over how far it was to go.
        turn: largest difference of the orientations, in degrees.
    """

    correlation: float
    scale: float
    turn: float

    @property
    def followed(self) -> bool:
        return self.correlation >= MIN_CORRELATION and self.turn <= MAX_TURN

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "followed": self.followed}


def following(obtained: Cameras, asked: Cameras) -> Following:
    """Compare a window's cameras with those it was asked for."""
    obtained, asked = obtained.relative_to_first(), asked.relative_to_first()
    ways = [cameras.poses[:, :3, 3] - cameras.poses[:, :3, 3].mean(axis=0) for cameras in (obtained, asked)]
    sizes = [float(np.linalg.norm(way)) for way in ways]
    still = _STILL * np.sqrt(len(asked))
    if sizes[1] <= still:  # to stand still
        correlation, scale = float(sizes[0] <= 2 * still), 1.0
    else:
        correlation = float(np.sum(ways[0] * ways[1]) / max(sizes[0] * sizes[1], 1e-12))
        scale = sizes[0] / sizes[1]
    turn = float(np.degrees(angles(obtained.poses, asked.poses)).max())
    return Following(correlation, scale, turn)
