"""Camera paths made, joined and brought to a clip's length and size.

A path is :class:`aether.geometry.cameras.Cameras`: one camera per frame, camera to world, OpenCV axes (x
right, y down, z forward), the first camera at the identity.

Aether knows no meters. Its unit of length is the nearest depth of the clip: everything that is seen is at
least 1 away. So a dolly of 0.3 goes 0.3 of that distance forward.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..defaults import BASE_FPS
from ..errors import InputError
from .cameras import Cameras, cameras_from_fov, from_quaternions, to_quaternions
from .raymap import from_cameras

PRESETS = (
    "static", "dolly in", "dolly out", "truck left", "truck right", "pedestal up", "pedestal down",
    "pan left", "pan right", "tilt up", "tilt down", "roll left", "roll right", "orbit left", "orbit right",
    "crane up", "crane down", "handheld",
)  # fmt: skip
"""The moves of a film set. Left, right, up and down are where the camera goes or looks; rolling right is
clockwise."""
EASINGS = ("linear", "ease in", "ease out", "ease in out")
TURN = 90.0
"""Degrees that an amount of 1 stands for where a move turns."""
SWAY = 0.1
"""Units that a handheld camera of amount 1 sways on each axis at most; it turns by up to TURN times this."""
MOST_FRAMES, MOST_PIXELS = 10_000, 16_384
_FOV_LIMITS = (1.0, 170.0)
_HAND_RATES = np.array([0.31, 0.73, 1.37, 2.11])
"""Cycles per second of a hand's shake, from slow and large to fast and small."""


def preset(
    name: str,
    amount: float = 0.3,
    *,
    frames: int = 41,
    fps: float = BASE_FPS,
    easing: str = "ease in out",
    fov: float = 60.0,
    start_fov: float | None = None,
    distance: float = 2.0,
    seed: int = 0,
    height: int = 480,
    width: int = 720,
) -> Cameras:
    """One move of the camera, from the identity.

    Args:
        name: one of :data:`PRESETS`.
        amount: how far. Dolly, truck, pedestal and crane: units of the nearest depth. Pan, tilt, roll and
            orbit: quarter turns. Handheld: 1 sways up to 0.1 units and 9 degrees each way. Negative goes the
            other way.
        frames: of the move, its first and last pose included.
        fps: for the pace of the handheld camera.
        easing: one of :data:`EASINGS`. A handheld camera has none.
        fov: full horizontal angle of view in degrees, 1 to 170.
        start_fov: the angle at the first frame, for a zoom to ``fov``; by default ``fov`` all along.
        distance: units from the first camera to the point that orbit and crane keep in the middle.
        seed: of the handheld camera's shake.
        height, width: of the pictures in pixels.

    Raises:
        InputError: a value out of range.
    """
    steps = _progress(easing, _whole("frames", frames, 2, MOST_FRAMES))
    for side, pixels in (("height", height), ("width", width)):
        _whole(side, pixels, 1, MOST_PIXELS)
    _number("amount", amount, -1000, 1000)
    _number("distance", distance, 1e-3, 1000)
    if name == "handheld":
        times = np.arange(frames) / _number("fps", fps, 1e-3, 1000)
        poses = _handheld(amount, times, _whole("seed", seed, 0, 2**63 - 1))
    else:
        poses = _moved(name, amount * steps, distance)
    low, high = _FOV_LIMITS
    ends = [
        _number("fov", fov if start_fov is None else start_fov, low, high),
        _number("fov", fov, low, high),
    ]
    half_width = np.interp(steps, [0, 1], np.tan(np.radians(ends) / 2))  # on the z = 1 plane
    fov_y = 2 * np.arctan(half_width * height / width)
    return cameras_from_fov(poses, 2 * np.arctan(half_width), fov_y, height, width)


def chain(before: Cameras, after: Cameras, overlap: int = 0) -> Cameras:
    """``after`` goes on from where ``before`` is.

    The poses are multiplied, so that the path has no jump; focal lengths go on in the same way.

    Args:
        overlap: intervals in which ``after`` already moves while ``before`` still does. The two moves add up
            there, which rounds off the corner; all of the shorter one's make both happen at once.

    Returns:
        len(before) + len(after) - 1 - overlap cameras, relative to the first, of ``after``'s picture size.

    Raises:
        InputError: overlap negative, or more than the shorter path has intervals.
    """
    most = min(len(before), len(after)) - 1
    _whole("overlap", overlap, 0, most, f"the shorter path has {most} intervals between frames")
    before, after = (path.relative_to_first() for path in (before, after))
    before = fitted(before, after.height, after.width)
    frames = np.arange(len(before) + len(after) - 1 - overlap)
    first = np.minimum(frames, len(before) - 1)
    second = np.maximum(frames - (len(before) - 1 - overlap), 0)
    intrinsics = before.intrinsics[first].copy()
    focals = after.intrinsics[:, [0, 1], [0, 1]]
    intrinsics[:, [0, 1], [0, 1]] *= focals[second] / focals[0]
    return replace(after, poses=before.poses[first] @ after.poses[second], intrinsics=intrinsics)


def resampled(path: Cameras, frames: int) -> Cameras:
    """The same way in another number of frames, the first and last pose kept.

    Rotations are interpolated by Slerp, positions and intrinsics by monotone cubics (PCHIP), which do not
    overshoot.

    Raises:
        InputError: too few poses.
    """
    from scipy.interpolate import PchipInterpolator
    from scipy.spatial.transform import Rotation, Slerp

    _whole("frames", frames, 1, MOST_FRAMES)
    if frames == len(path):
        return path
    if len(path) < 2:
        raise InputError("poses", "one pose is no path; give at least 2")
    at = np.linspace(0, len(path) - 1, frames)
    known = np.arange(len(path))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Slerp(known, Rotation.from_matrix(path.poses[:, :3, :3]))(at).as_matrix()
    poses[:, :3, 3] = PchipInterpolator(known, path.poses[:, :3, 3])(at)
    return replace(path, poses=poses, intrinsics=PchipInterpolator(known, path.intrinsics)(at))


def smoothed(path: Cameras, period: float) -> Cameras:
    """The path without its jitter, such as that of a raymap that a model has estimated or generated.

    Cubic smoothing splines through positions, quaternions and intrinsics: what a Kalman filter with an RTS
    smoother gives for a camera of about constant velocity, without the delay and without a start to guess.

    Args:
        period: in frames. Shake with this period is halved; with half the period 1/17 of it is left, with
            twice the period 16/17. 0 leaves the path as it is.

    Raises:
        InputError: a period below 0 or over 1000, fewer than 5 cameras.
    """
    from scipy.interpolate import make_smoothing_spline

    _number("period", period, 0, 1000)
    if not period:
        return path
    if len(path) < 5:
        raise InputError("cameras", f"{len(path)} are too few to smooth; 5 are needed")
    times = np.arange(len(path))
    weight = (period / (2 * np.pi)) ** 4  # the spline passes 1 / (1 + weight * frequency**4)

    def smooth(values: np.ndarray) -> np.ndarray:
        columns = values.reshape(len(values), -1).T
        return np.stack(
            [make_smoothing_spline(times, column, lam=weight)(times) for column in columns], axis=1
        ).reshape(values.shape)

    quaternions, positions = to_quaternions(path.poses)
    quaternions = smooth(quaternions)
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    poses = from_quaternions(quaternions, smooth(positions))
    return replace(path, poses=poses, intrinsics=smooth(path.intrinsics))


def fitted(path: Cameras, height: int, width: int) -> Cameras:
    """The cameras of pictures scaled to fill height x width and cropped, half at each side.

    What `aether.clips.clip.fit_frames` does to pictures: the angle of view stays on one axis and narrows on
    the other where the shape changes.
    """
    scale = max(height / path.height, width / path.width)
    intrinsics = path.intrinsics.copy()
    intrinsics[:, :2] *= scale
    intrinsics[:, 0, 2] += (width - scale * path.width) / 2
    intrinsics[:, 1, 2] += (height - scale * path.height) / 2
    return replace(path, intrinsics=intrinsics, height=height, width=width)


def with_lens(path: Cameras, lens: Cameras) -> Cameras:
    """A path with the lens of other cameras: one for all frames, or one for each.

    Args:
        lens: of pictures of the same view; of another size they are scaled and cropped, see :func:`fitted`.

    Raises:
        InputError: lenses that differ from frame to frame, for another number of frames.
    """
    lenses = one_lens_or_each(fitted(lens, path.height, path.width), len(path)).intrinsics
    return replace(path, intrinsics=np.broadcast_to(lenses, path.intrinsics.shape), lens=lens.lens)


def one_lens_or_each(lens: Cameras, frames: int) -> Cameras:
    """The first camera of those that all have its lens; otherwise there must be as many as frames.

    Raises:
        InputError: lenses that differ, for another number of frames.
    """
    if (lens.intrinsics == lens.intrinsics[0]).all():
        return lens.select([0])
    if len(lens) != frames:
        raise InputError(
            "lens", f"differs over {len(lens)} frames, but there are {frames}; give one, or one each"
        )
    return lens


def action(path: Cameras, frames: int, height: int, width: int) -> np.ndarray:
    """A path as a task's camera condition: (frames, 6, height / 8, width / 8) float32.

    Relative to its first camera, brought to the clip's length and size.

    Raises:
        InputError: too few poses, a size that is not a multiple of 8.
    """
    path = fitted(resampled(path.relative_to_first(), frames), height, width)
    return from_cameras(path.poses, path.intrinsics, height, width)


def parse_move(text: str) -> tuple[str, float]:
    """``"orbit-left:0.5"`` to a preset's name and amount (0.3 where none is given).

    Raises:
        InputError: no such preset, or not a number.
    """
    name, _, amount = text.partition(":")
    name = " ".join(name.lower().replace("-", " ").replace("_", " ").split())
    if name not in PRESETS:
        raise InputError("camera", f"{name!r} is not one of {', '.join(PRESETS)}")
    try:
        return name, float(amount) if amount else 0.3
    except ValueError:
        raise InputError("camera", f"{amount!r} is not a number; write it as {name}:0.3") from None


def _progress(easing: str, frames: int) -> np.ndarray:
    """(frames,) from 0 to 1."""
    t = np.linspace(0, 1, frames)
    curves = {
        "linear": t,
        "ease in": t**2,
        "ease out": 1 - (1 - t) ** 2,
        "ease in out": t**2 * (3 - 2 * t),
    }
    if easing not in curves:
        raise InputError("easing", f"{easing!r} is not one of {', '.join(EASINGS)}")
    return curves[easing]


def _moved(name: str, amounts: np.ndarray, distance: float) -> np.ndarray:
    """Poses of a move at amounts from 0 to its end."""
    from scipy.spatial.transform import Rotation

    if name not in PRESETS:
        raise InputError("preset", f"{name!r} is not one of {', '.join(PRESETS)}")
    kind, _, way = name.partition(" ")
    # Towards x (right), y (down) and z (forward) counts as positive.
    amounts = amounts * {"left": -1, "up": -1, "out": -1}.get(way, 1)
    turns = np.radians(TURN * amounts)
    poses = np.tile(np.eye(4), (len(amounts), 1, 1))

    def turn(axis: int, angles: np.ndarray) -> None:
        poses[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * np.eye(3)[axis]).as_matrix()

    if kind in ("truck", "pedestal", "dolly"):
        poses[:, ("truck", "pedestal", "dolly").index(kind), 3] = amounts
    elif kind == "pan":
        turn(1, turns)
    elif kind == "tilt":
        turn(0, -turns)
    elif kind == "roll":
        turn(2, turns)
    elif kind == "orbit":
        turn(1, -turns)
        poses[:, :3, 3] = distance * (np.eye(3)[2] - poses[:, :3, 2])
    elif kind == "crane":
        turn(0, np.arctan2(amounts, distance))
        poses[:, 1, 3] = amounts
    return poses


def _handheld(amount: float, times: np.ndarray, seed: int) -> np.ndarray:
    """A few sines on every axis, with random phases, that start at the identity."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    rates = _HAND_RATES * rng.uniform(0.8, 1.25, (6, 1))
    phases = rng.uniform(0, 2 * np.pi, (6, len(_HAND_RATES), 1))
    sizes = (1 / _HAND_RATES)[:, None]
    waves = sizes * (np.sin(2 * np.pi * rates[..., None] * times + phases) - np.sin(phases))
    sway = amount * SWAY * waves.sum(axis=1) / (2 * sizes.sum())
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.radians(TURN) * sway[3:].T).as_matrix()
    poses[:, :3, 3] = sway[:3].T
    return poses


def _number(field: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(field, f"{value!r} is not a number") from None
    if not low <= number <= high:  # NaN fails too
        raise InputError(field, f"{number:g} is out of range; use {low:g} to {high:g}")
    return number


def _whole(field: str, value: Any, low: int, high: int, why: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise InputError(field, f"{value!r} is not an integer from {low} to {high}{why and f': {why}'}")
    return int(value)
