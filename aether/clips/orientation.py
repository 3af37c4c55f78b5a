"""Turning and mirroring decoded frames as the file asks for, the way FFmpeg's autorotate does."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The nine fixed-point numbers of a decoded frame's display matrix, by rows; None where it has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return struct.unpack("=9i", bytes(data)) if data is not None and data.buffer_size == 36 else None


def turned(picture: Image, matrix: tuple[int, ...] | None) -> Image:
    """The picture as it is to be shown: all eight orientations, or turned by any angle within its own size.

    As FFmpeg's autorotate: a mirror image is recognized at right angles only, other corners turn black.
    """
    from PIL import Image

    angle = _angle(matrix) if matrix else 0.0
    move = Image.Transpose
    if abs(angle - 90) < 1:
        return picture.transpose(move.TRANSPOSE if matrix[3] > 0 else move.ROTATE_270)
    if abs(angle - 270) < 1:
        return picture.transpose(move.TRANSVERSE if matrix[3] < 0 else move.ROTATE_90)
    if abs(angle - 180) < 1:
        picture = picture.transpose(move.FLIP_LEFT_RIGHT) if matrix[0] < 0 else picture
        return picture.transpose(move.FLIP_TOP_BOTTOM) if matrix[4] < 0 else picture
    if angle > 1:
        return picture.rotate(-angle, Image.Resampling.BILINEAR)
    return picture.transpose(move.FLIP_TOP_BOTTOM) if matrix and matrix[4] < 0 else picture


def turn_notes(matrix: tuple[int, ...] | None) -> list[str]:
    """What is reported of a turn that is no quarter turn."""
    angle = _angle(matrix) if matrix else 0.0
    off = abs(angle - 90 * round(angle / 90))
    return [f"turned by {angle:.0f} degrees as the file asks for: its corners are black"] if off >= 1 else []


def _angle(matrix: tuple[int, ...]) -> float:
    """Degrees clockwise in [0, 360), whole; 0 for a matrix that flattens the picture."""
    across, down = math.hypot(matrix[0], matrix[3]), math.hypot(matrix[1], matrix[4])
    if not across or not down:
        return 0.0
    return round(math.degrees(math.atan2(matrix[1] / down, matrix[0] / across))) % 360
