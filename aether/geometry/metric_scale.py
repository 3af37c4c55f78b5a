"""Meters: how many one unit of a clip is, from something in it whose size is known.

Aether's unit is the nearest depth of the clip. One factor brings depth, cameras and points to meters alike:

    depth * scale.factor
    cameras.scaled(scale.factor, METERS)

Every way gives several estimates of the factor: their middle is taken, and how far they lie apart is
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError
from .cameras import METERS, NEAREST, Cameras
from .depth import depth_edges, plane_rays
from .ground import camera_height
from .surfaces import FAR

_STILL = 1e-3
"""Baselines shorter than this much of the nearest depth are rounding."""
_MIN_AGREEMENT = 0.3
"""Logarithms of depths that correlate less than this are not of one clip."""
_SAMPLES = 200_000
_ASPECT = 0.01


@dataclass(frozen=True)
class MetricScale:
    """One factor for a clip.

    Attributes:
        factor: meters in one unit of the clip.
        spread: half of the range that the middle 68 % of the estimates cover, as a share of the factor.
        source: what was known, in words.
        estimates: how many there were, and of what.
    """

    factor: float
    spread: float
    source: str
    estimates: str

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"scale: 1 unit is {self.factor:.4g} m, spread {100 * self.spread:.1f} % over {self.estimates}, "
            f"by {self.source}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "unit": METERS,
            "meters_per_unit": self.factor,
            "spread": self.spread,
            "source": self.source,
            "estimates": self.estimates,
            "summary": self.summary,
        }


def scale_by_distance(
    depth: Any,
    cameras: Cameras,
    meters: float,
    first: tuple[int, int],
    second: tuple[int, int],
    frame: int = 0,
) -> MetricScale:
    """By the distance between what two pixels of a frame show.

    Args:
        depth: (F, H, W), in the clip's unit.
        cameras: F cameras of H x W pictures; their lens counts.
        meters: the known distance.
        first, second: (column, row), counted from 0.
        frame: counted from 0; -1 is the last.

    Raises:
        InputError: a frame or pixel that is not there, or shows the sky; two pixels that are one; a distance
            that is not positive.
    """
    frame = _checked(depth, cameras, meters, frame)
    if tuple(first) == tuple(second):
        raise InputError("pixels", "are one and the same; give two that lie apart")
    near = _as_floats(depth[frame], cameras)
    ends = []
    for column, row in (first, second):
        if not (0 <= column < cameras.width and 0 <= row < cameras.height):
            size = f"0 to {cameras.width - 1} and 0 to {cameras.height - 1}"
            raise InputError("pixels", f"{column}, {row} is outside of the picture ({size})")
        around = near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].ravel()
        if not 0 < near[row, column] < FAR:
            raise InputError(
                "pixels", f"{column}, {row} of frame {frame} has no depth (sky, or too far); choose another"
            )
        depths = np.concatenate([[near[row, column]], around[(around > 0) & (around < FAR)]])
        ends.append(_ray(cameras, frame, column, row) * depths[:, None])
    distances = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=-1)
    if not distances[0, 0] > 0:
        raise InputError("pixels", "show one and the same point; give two that lie apart")
    factors = meters / np.maximum(distances.ravel(), 1e-9)
    return MetricScale(
        float(factors[0]), _spread(factors), f"a distance of {meters:g} m", f"{len(factors)} pairs of pixels"
    )


def scale_by_height(depth: Any, cameras: Cameras, meters: float, frame: int = 0) -> MetricScale:
    """By the height of a frame's camera above the ground, which is looked for in the whole clip.

    Args:
        depth, cameras: as for :func:`scale_by_distance`.
        meters: the known height, across the ground: of a slope, not along the plumb line.
        frame: the one whose camera is this high.

    Raises:
        InputError: no ground is found; no such frame; a height that is not positive.
    """
    frame = _checked(depth, cameras, meters, frame)
    heights, errors = camera_height(depth, cameras, frame)
    factors = meters / heights
    spread = max(_spread(factors), float(np.median(errors)))
    return MetricScale(
        float(np.median(factors)), spread, f"a camera {meters:g} m above the ground", f"{len(heights)} frames"
    )


def scale_by_baseline(cameras: Cameras, meters: float, first: int = 0, second: int = -1) -> MetricScale:
    """By the distance between the cameras of two frames.

    Its spread is what the path's jitter does to it.

    Args:
        meters: the known distance.
        first, second: frames counted from 0; -1 is the last.

    Raises:
        InputError: no such frame; cameras in one place; a distance that is not positive.
    """
    _check_meters(cameras, meters)
    ends = [_frame_of(cameras, frame) for frame in (first, second)]
    places = cameras.poses[:, :3, 3]
    distance = float(np.linalg.norm(places[ends[1]] - places[ends[0]]))
    if distance < _STILL:
        raise InputError(
            "baseline",
            f"the cameras of frames {ends[0]} and {ends[1]} stand in one place; give two that moved",
        )
    bends = np.linalg.norm(np.diff(places, 2, axis=0), axis=1)
    # Noise of size s on every position bends the path by sqrt(6) s, and moves two of them by sqrt(2) s.
    jitter = float(np.median(bends)) * np.sqrt(2 / 6) if len(bends) else 0.0
    return MetricScale(
        meters / distance,
        jitter / distance,
        f"a baseline of {meters:g} m between frames {ends[0]} and {ends[1]}",
        f"the jitter of {len(cameras)} cameras",
    )


def scale_by_depth(
    depth: Any, metric: Any, *, frames: Sequence[int] | None = None, mask: Any = None
) -> MetricScale:
    """By depth in meters of the same frames, such as a metric depth model's.

    Args:
        depth: (F, H, W), in the clip's unit.
        metric: (N, h, w) in meters along the camera's z axis, of any size of the same view; what is NaN,
            infinite or not above 0 does not count.
        frames: N frames that it is of; by default all, or the first where N is 1.
        mask: (F, H, W) or (1, H, W); pixels above 0.5 do not count.

    Raises:
        InputError: another number of frames or another shape; nothing left to compare; depth that does not
            agree with the clip's at all, such as a picture of depth or disparity.
    """
    metric = np.asarray(metric, dtype=np.float32)
    if metric.ndim != 3 or 0 in metric.shape:
        raise InputError("metric_depth", f"has shape {metric.shape}; it must be (frames, height, width)")
    frames = _frames_of(len(depth), len(metric), frames)
    units, meters, per_frame = [], [], []
    for number, frame in enumerate(frames):
        left_out = None if mask is None else np.asarray(mask[min(frame, len(mask) - 1)]) > 0.5
        pair = _pairs(_as_floats(depth[frame]), metric[number], left_out, max(1, len(frames)))
        units.append(pair[0])
        meters.append(pair[1])
        if len(pair[0]):
            per_frame.append(float(np.median(pair[1] / pair[0])))
    unit, meter = np.concatenate(units), np.concatenate(meters)
    if len(unit) < 10:
        raise InputError(
            "metric_depth",
            "has no depth where the clip has one: all is sky, masked, an edge, or not a number",
        )
    _check_agreement(unit, meter)
    factors = meter / unit
    over = f"{len(unit):,} pixels of {len(per_frame)} frames"
    if len(per_frame) > 1:
        over += f" (over the frames' medians {100 * _spread(np.array(per_frame)):.1f} %)"
    return MetricScale(float(np.median(factors)), _spread(factors), "metric depth", over)


def _checked(depth: Any, cameras: Cameras, meters: float, frame: int) -> int:
    """The frame's number."""
    _check_meters(cameras, meters)
    shape = len(cameras), cameras.height, cameras.width
    if tuple(depth.shape) != shape:
        raise InputError("depth", f"has shape {tuple(depth.shape)}; these cameras take {shape}")
    return _frame_of(cameras, frame)


def _check_meters(cameras: Cameras, meters: float) -> None:
    if not (np.isfinite(meters) and meters > 0):
        raise InputError("meters", f"{meters:g} must be a positive number of meters")
    if cameras.unit != NEAREST:
        raise InputError("cameras", f"are in {cameras.unit} already")


def _frame_of(cameras: Cameras, frame: int) -> int:
    if not -1 <= frame < len(cameras):
        raise InputError("frame", f"{frame} is not within 0 to {len(cameras) - 1}, nor -1 for the last")
    return frame % len(cameras)


def _frames_of(clip: int, metric: int, frames: Sequence[int] | None) -> Sequence[int]:
    if frames is None and metric in (1, clip):
        return range(metric)
    if frames is None or len(frames) != metric:
        raise InputError(
            "metric_depth",
            f"is of {metric} frames, the clip has {clip}; give all of them, or the first alone",
        )
    if not all(0 <= frame < clip for frame in frames):
        raise InputError("frame", f"must be within 0 to {clip - 1}")
    return frames


def _ray(cameras: Cameras, frame: int, column: int, row: int) -> np.ndarray:
    """(3,) in the camera's own axes, 1 long along z."""
    k = cameras.intrinsics[frame]
    x, y = (column + 0.5 - k[0, 2]) / k[0, 0], (row + 0.5 - k[1, 2]) / k[1, 1]
    return plane_rays(np.array([x]), np.array([y]), np.eye(3))[0, 0]


def _as_floats(picture: Any, cameras: Cameras | None = None) -> np.ndarray:
    size = (None, None) if cameras is None else (cameras.height, cameras.width)
    return finite_array(picture, "depth", size).astype(np.float64)


def _pairs(
    depth: np.ndarray, metric: np.ndarray, left_out: np.ndarray | None, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Depths of pixels that count, and the same in meters."""
    height, width = depth.shape
    aspect = (width / height) / (metric.shape[1] / metric.shape[0])
    if abs(aspect - 1) > _ASPECT:
        raise InputError(
            "metric_depth",
            f"is {metric.shape[1]} x {metric.shape[0]}, the clip {width} x {height}: one of them was "
            "cropped; make it from the clip's own frames",
        )
    rows = (np.arange(height) + 0.5) * metric.shape[0] // height
    columns = (np.arange(width) + 0.5) * metric.shape[1] // width
    meters = metric[rows.astype(int)][:, columns.astype(int)]
    counts = (depth > 0) & (depth < FAR) & np.isfinite(meters) & (meters > 0)
    counts &= ~depth_edges(np.maximum(depth, 1e-9)[None])[0]
    if left_out is not None:
        counts &= ~left_out
    step = max(1, int(counts.sum()) * frames // _SAMPLES)
    return depth[counts][::step], meters[counts][::step].astype(np.float64)


def _check_agreement(depth: np.ndarray, meters: np.ndarray) -> None:
    """Meters grow with depth, unless one of them is the same everywhere."""
    logs = np.log(depth), np.log(meters)
    if min(np.ptp(values) for values in logs) < 1e-6:
        return
    agreement = float(np.corrcoef(*logs)[0, 1])
    if agreement < _MIN_AGREEMENT:
        raise InputError(
            "metric_depth",
            f"does not agree with the clip's depth (correlation {agreement:.2f}): it is a picture of depth, "
            "a disparity, or of another clip",
        )


def _spread(values: np.ndarray) -> float:
    """Half of the range of the middle 68 %, as a share of the median; of a normal distribution its sigma."""
    low, middle, high = np.percentile(values, (16, 50, 84))
    return float((high - low) / 2 / middle)
