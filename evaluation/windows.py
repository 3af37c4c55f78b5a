"""The sliding windows of the reference's Sintel evaluation: which frames and which part of the picture.

Only which they are; `aether.long.joining` joins what the model gives for them.
Source: ``process_with_sliding_window`` and ``prepare_input`` in evaluation/video_depth/launch_aether.py, and
their counterparts in evaluation/rel_pose.
"""

from __future__ import annotations

import math

from aether.errors import InputError
from aether.long.joining import window_starts
from aether.spec import FRAMES

LENGTH = 41
DEPTH_STRIDE = 8
POSE_STRIDE = 32
SIZE = (480, 720)
"""Height and width of a window."""
OVERLAP = (60, 90)
"""The least by which neighbouring windows of the depth protocol overlap. For poses, one window in the middle
is taken."""


def temporal_windows(
    frames: int, *, length: int = LENGTH, stride: int = DEPTH_STRIDE
) -> list[tuple[int, int]]:
    """First frame and end of each window; the last ends with the clip.

    Args:
        frames: of the clip. Below ``length``, the longest of Aether's lengths that fits is taken.

    Raises:
        InputError: fewer frames than Aether's shortest clip, or a stride that leaves no overlap.
    """
    lengths = [n for n in FRAMES if n <= min(frames, length)]
    if not lengths:
        raise InputError("frames", f"{frames} are fewer than Aether's shortest clip, {FRAMES[0]}")
    if lengths[-1] < length:
        # Two windows at most, whatever the stride: the next length would fit otherwise.
        length, stride = lengths[-1], min(stride, lengths[-1] - 1)
    return [(start, start + length) for start in window_starts(frames, length, stride)]


def spatial_windows(
    height: int, width: int, *, size: tuple[int, int] = SIZE, overlap: tuple[int, int] = OVERLAP
) -> list[tuple[int, int]]:
    """Top and left of each window over a picture that is larger in one direction, see :func:`covering_size`.

    Raises:
        InputError: a picture that is smaller than a window, or larger in both directions.
    """
    if height < size[0] or width < size[1]:
        raise InputError("size", f"{height} x {width} is smaller than a window, {size[0]} x {size[1]}")
    if height > size[0] and width > size[1]:
        raise InputError("size", f"{height} x {width} is larger than {size[0]} x {size[1]} both ways; resize")
    starts = [_starts(*lengths) for lengths in zip((height, width), size, overlap, strict=True)]
    return [(top, left) for top in starts[0] for left in starts[1]]


def covering_size(height: int, width: int, size: tuple[int, int] = SIZE) -> tuple[int, int]:
    """Height and width to resize a picture to, its shape kept, so that a window just covers it one way."""
    if width / height > size[1] / size[0]:
        return size[0], round(size[0] * width / height)
    return round(size[1] * height / width), size[1]


def _starts(length: int, window: int, overlap: int) -> list[int]:
    if length == window:
        return [0]
    count = math.ceil((length - window) / (window - overlap)) + 1
    step = (length - window) // (count - 1)
    return [index * step for index in range(count)]
