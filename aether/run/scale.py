"""A metric scale as text: how many meters something in the clip measures.

    distance:2.5:120,300:480,310      two pixels (column,row) of the first frame, or of frame 7: ...:7
    height:1.6                        the first camera above the ground, or that of frame 7: height:1.6:7
    baseline:0.8:0:40                 between the cameras of two frames; without them the first and the last
    depth:FOLDER                      depth in meters: a folder with depth.json, or a .npy (frames, h, w)

Pixels are those of the result. Frames count from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import read_npy
from ..errors import InputError
from ..formats.depth_files import read_depth
from ..geometry.cameras import METERS, Cameras
from ..geometry.metric_scale import (
    MetricScale,
    scale_by_baseline,
    scale_by_depth,
    scale_by_distance,
    scale_by_height,
)

Measure = Callable[[Any, Cameras], MetricScale]
"""From depth (F, H, W) and cameras in the clip's unit to its scale."""

_FORMS = "distance:METERS:X,Y:X,Y[:FRAME], height:METERS[:FRAME], baseline:METERS[:FRAME:FRAME] or depth:FILE"


def parse_scale(text: str) -> Measure:
    """What the text says, to be measured once there is a result.

    Raises:
        InputError: another form, or depth that cannot be read or is not in meters; the field is "meters".
    """
    kind, _, rest = text.partition(":")
    if kind == "depth" and rest:
        return partial(_by_depth, metric=_read(Path(rest)))
    try:
        return _PARSERS[kind](*rest.split(":"))
    except (KeyError, TypeError, ValueError):
        raise InputError("meters", f"{text!r} is not understood; give {_FORMS}") from None


def _distance(meters: str, first: str, second: str, frame: str = "0") -> Measure:
    ends = [tuple(map(int, pixel.split(","))) for pixel in (first, second)]
    if any(len(end) != 2 for end in ends):
        raise ValueError("a pixel is two numbers")
    return partial(_by_distance, meters=float(meters), ends=ends, frame=int(frame))


def _height(meters: str, frame: str = "0") -> Measure:
    return partial(scale_by_height, meters=float(meters), frame=int(frame))


def _baseline(meters: str, *frames: str) -> Measure:
    first, second = map(int, frames or ("0", "-1"))
    return partial(_by_baseline, meters=float(meters), first=first, second=second)


def _by_distance(depth: Any, cameras: Cameras, meters: float, ends: Any, frame: int) -> MetricScale:
    return scale_by_distance(depth, cameras, meters, *ends, frame=frame)


def _by_baseline(depth: Any, cameras: Cameras, meters: float, first: int, second: int) -> MetricScale:
    return scale_by_baseline(cameras, meters, first, second)


def _by_depth(depth: Any, cameras: Cameras, metric: np.ndarray) -> MetricScale:
    return scale_by_depth(depth, metric)


def _read(path: Path) -> np.ndarray:
    """(N, h, w) in meters."""
    if path.suffix.lower() == ".npy":
        depth = read_npy(path, "meters")
        if depth.ndim != 3 or depth.dtype.kind not in "fiu":
            found = f"{path} holds {depth.dtype} {depth.shape}"
            raise InputError("meters", f"{found}; it must be (frames, height, width)")
        return depth.astype(np.float32)
    if not path.is_dir():
        raise InputError("meters", f"{path} is neither a folder with depth.json nor a .npy file")
    found = read_depth(path)
    if found.unit != METERS:
        raise InputError("meters", f"the depth in {path} is in units of its clip's {found.unit}, not meters")
    return found.depth


_PARSERS: dict[str, Callable[..., Measure]] = {
    "distance": _distance,
    "height": _height,
    "baseline": _baseline,
}
