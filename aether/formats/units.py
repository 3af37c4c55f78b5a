"""What files say of their units: seconds, and lengths without a scale."""

from __future__ import annotations

import numpy as np

from ..errors import InputError

SCALE_NOTE = (
    "lengths have no metric scale: a depth of 1 is the nearest that the model saw in the clip; "
    "depth, poses and points share this unit"
)


def check_rate(fps: float) -> None:
    """
    Raises:
        InputError: not a positive, finite number.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InputError("fps", f"{fps} must be a positive number")
