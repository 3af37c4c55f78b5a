"""What files say of their units and lenses: seconds, lengths with and without a scale, a lens's origin."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..geometry.cameras import ASSUMED, FOUND, GIVEN, METERS, NEAREST

SCALE_NOTES = {
    NEAREST: "lengths have no metric scale: a depth of 1 is the nearest that the model saw in the clip; "
    "depth, poses and points share this unit",
    METERS: "lengths are in meters: depth, poses and points share this unit",
}
"""By unit."""
SQUARES = {NEAREST: "of the nearest depth", METERS: "m"}
"""How a number of a unit is written."""
LENS_NOTES = {
    FOUND: "intrinsics were found by the model",
    GIVEN: "intrinsics were given",
    ASSUMED: "nothing was known of the lens: its angle of view was assumed",
}
"""By where a lens is from."""


def check_rate(fps: float) -> None:
    """
    Raises:
        InputError: not a positive, finite number.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InputError("fps", f"{fps} must be a positive number")


def known_label(value: object, known: tuple[str, ...], other: str) -> str:
    """A label read from a file, or ``other`` where it is missing or unknown."""
    return value if isinstance(value, str) and value in known else other
