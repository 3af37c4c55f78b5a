"""Was a camera path followed? The path that was asked for against the one that came out.

Both are taken relative to their first camera and nothing else is aligned: the first camera is the picture
that was given, and a path at half the scale is not the path that was asked for. Where the two differ, the
mistakes that people make with cameras are tried on the asked path; one that turns it into the obtained path
is a likely cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import InputError
from .cameras import Cameras
from .trajectory import fitted, resampled

POSITION_SHARE, POSITION_FLOOR = 0.15, 0.03
"""A path is followed up to an ATE of this share of its motion, plus this much of the nearest depth. Its
motion is its length plus its largest turn in radians: how far the nearest things move, in their distance."""
ROTATION_SHARE, ROTATION_FLOOR = 0.15, 3.0
"""... and up to a rotation error of this share of the largest turn, plus this many degrees."""
LENS_SHARE = 0.3
"""... and up to this change of the picture's width on the z = 1 plane."""
FAST = 0.15
"""Nearest things that move by more than this share of the picture's width from frame to frame are too fast.
These limits were measured: ``python -m benchmarks.camera_check``."""
_NO_SCALE = 1.25
"""A factor below this, and above its inverse, is no other scale."""
_TIE = 1.2
"""Causes that explain the path nearly as well as the best one are named too."""
_MOST_CAUSES = 3
_AXES = "xyz"
_UNIT = "Aether's unit is the nearest depth of the clip"
_INVERTED = "world-to-camera matrices were given as camera to world"


@dataclass(frozen=True)
class PathCheck:
    """What :func:`check_path` found.

    Attributes:
        frames: that were compared.
        length: of the asked path, in units of its positions.
        ate: root mean square distance between asked and obtained positions, in the same unit.
        rotation: root mean square angle between asked and obtained rotations, in degrees.
        turn: largest angle between the asked path's first rotation and another, in degrees.
        scale: the obtained positions are about this many times the asked ones; None where the camera was to
            stay in its place.
        fov_asked, fov_obtained: full horizontal angles of view in degrees, medians over the frames.
        speed: share of the picture's width by which the nearest things move from frame to frame on the asked
            path, at most.
        problems: what was not followed: "position", "rotation", "field of view"; empty where all was.
        causes: what would explain it, the likeliest first.
    """

    frames: int
    length: float
    ate: float
    rotation: float
    turn: float
    scale: float | None
    fov_asked: float
    fov_obtained: float
    speed: float
    problems: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()

    @property
    def followed(self) -> bool:
        return not self.problems

    @property
    def ate_share(self) -> float | None:
        """ATE as a share of the path's length; None where the camera was to stay in its place."""
        return self.ate / self.length if self.length > POSITION_FLOOR else None

    @property
    def summary(self) -> str:
        """One line of figures."""
        share = self.ate_share
        place = f"{self.ate:.3g} units off" if share is None else f"ATE {100 * share:.1f} % of its length"
        lens = f"field of view {self.fov_obtained:.0f} of {self.fov_asked:.0f} degrees"
        word = "followed" if self.followed else "not followed"
        return f"camera path {word}: {place}, rotation {self.rotation:.1f} degrees, {lens}"

    @property
    def warning(self) -> str | None:
        """What was not followed and the likely cause; None where all was."""
        if self.followed:
            return None
        parts = " and ".join(self.problems)
        otherwise = f"the {parts} of the asked camera path came out otherwise"
        if not self.causes:
            return f"{otherwise}, and none of the usual mistakes explains it"
        return f"{otherwise}. Likely cause: {'; or '.join(self.causes)}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "followed": self.followed,
            "summary": self.summary,
            "ate": self.ate,
            "path_length": self.length,
            "ate_share": self.ate_share,
            "rotation_degrees": self.rotation,
            "turn_degrees": self.turn,
            "frames": self.frames,
            "scale": self.scale,
            "fov_degrees": {"asked": self.fov_asked, "obtained": self.fov_obtained},
            "speed": self.speed,
            "problems": list(self.problems),
            "causes": list(self.causes),
            "warning": self.warning,
        }


def check_path(asked: Cameras, obtained: Cameras) -> PathCheck:
    """Compare a camera path with the one that was asked for.

    Args:
        asked: of any length and size; brought to those of ``obtained`` as task inputs are.
        obtained: read off a result, such as ``aether.run.job.Result.cameras``.

    Raises:
        InputError: an obtained path of a single camera; two units.
    """
    if len(obtained) < 2:
        raise InputError("cameras", "one camera is no path; give at least 2")
    if asked.unit != obtained.unit:
        raise InputError(
            "cameras",
            f"are in {obtained.unit}, the asked path is in {asked.unit}; compare them before scaling",
        )
    asked = fitted(resampled(asked, len(obtained)), obtained.height, obtained.width)
    wanted, found = asked.relative_to_first().poses, obtained.relative_to_first().poses
    limits = _limits(wanted)
    off = _difference(wanted, found)
    fovs = [float(np.degrees(np.median(path.fov_x))) for path in (asked, obtained)]
    wider = np.tan(np.radians(fovs[1]) / 2) / np.tan(np.radians(fovs[0]) / 2)
    lens_is_wrong = max(wider, 1 / wider) > 1 + LENS_SHARE
    wrong = {
        "position": off[0] > limits[0],
        "rotation": off[1] > limits[1],
        "field of view": lens_is_wrong,
    }
    speed = _speed(asked)
    causes = []
    if wrong["position"] or wrong["rotation"]:
        causes += _pose_causes(asked.poses, found, limits, speed)
    if lens_is_wrong:
        causes.append(
            f"the field of view: {fovs[0]:.0f} degrees were asked for, the picture looks like {fovs[1]:.0f}"
        )
    return PathCheck(
        len(found),
        _length(wanted),
        off[0],
        off[1],
        float(_angles(wanted).max()),
        _scale(wanted, found) if _length(wanted) > POSITION_FLOOR else None,
        *fovs,
        speed,
        tuple(name for name, is_wrong in wrong.items() if is_wrong),
        tuple(causes),
    )


def _limits(wanted: np.ndarray) -> tuple[float, float]:
    """The ATE and the rotation error in degrees up to which a path is followed."""
    turn = float(_angles(wanted).max())
    return (
        POSITION_SHARE * (_length(wanted) + np.radians(turn)) + POSITION_FLOOR,
        ROTATION_SHARE * turn + ROTATION_FLOOR,
    )


def _pose_causes(
    asked: np.ndarray, found: np.ndarray, limits: tuple[float, float], speed: float
) -> list[str]:
    """What explains the poses, the best first; of those that do so nearly as well, the first few."""
    single: dict[str, float] = {}
    double: dict[str, float] = {}
    for name, poses in _mistakes(asked, limits):
        if name:
            cost = _cost(poses, found, limits)
            single[name] = min(cost, single.get(name, np.inf))
        factor = _scale(poses, found)
        if factor > 0 and max(factor, 1 / factor) > _NO_SCALE:
            poses[:, :3, 3] *= factor
            text = f"{name and name + ', and '}positions {factor:.2g} times the asked ones: {_UNIT}"
            (double if name else single)[text] = _cost(poses, found, limits)
    percent = f"near things move {100 * speed:.0f} % of the picture's width a frame"
    fast = f"too fast for {len(found)} frames: {percent}"
    # Two mistakes at once only where none alone explains it.
    return [fast] * (speed > FAST) + (_best(single) or _best(double))


def _best(costs: dict[str, float]) -> list[str]:
    """Those that explain the path, and nearly as well as the best one."""
    ranked = sorted(costs, key=lambda text: costs[text])
    found = [text for text in ranked if costs[text] <= min(1.0, _TIE * costs[ranked[0]] + 0.05)]
    return found[:_MOST_CAUSES]


def _cost(wanted: np.ndarray, found: np.ndarray, limits: tuple[float, float]) -> float:
    """Up to 1 where the path was followed."""
    return float(max(np.divide(_difference(wanted, found), limits)))


def _mistakes(asked: np.ndarray, limits: tuple[float, float]) -> Iterator[tuple[str, np.ndarray]]:
    """Causes and the paths that they make of the asked one, relative to their first cameras; the asked one
    first. Mistakes that would hardly change this path are left out."""
    wanted = np.linalg.inv(asked[0]) @ asked
    yield "", wanted.copy()
    starts = [wanted] if np.allclose(asked[0], np.eye(4)) else [wanted, asked]
    for poses in starts:
        for name, changed in _changes(poses):
            changed = np.linalg.inv(changed[0]) @ changed
            if _cost(wanted, changed, limits) > 1:
                yield name, changed


def _changes(poses: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield _INVERTED, np.linalg.inv(poses)
    turned = poses.copy()
    turned[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    yield "the rotations are transposed (world to camera, not camera to world)", turned
    for count in (1, 2, 3):
        for axes in combinations(range(3), count):
            signs = np.ones(4)
            signs[list(axes)] = -1
            names = " and ".join(_AXES[axis] for axis in axes)
            text = f"{'axes' if count > 1 else 'axis'} {names} flipped"
            yield text, np.diag(signs) @ poses @ np.diag(signs)
            if count < 3:  # with three it is the same
                moved = poses.copy()
                moved[:, :3, 3] *= signs[:3]
                yield f"{text} in the positions", moved


def _difference(wanted: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Root mean squares of the distances, and of the angles in degrees."""
    distances = np.linalg.norm(found[:, :3, 3] - wanted[:, :3, 3], axis=1)
    angles = _angles(np.linalg.inv(wanted) @ found)
    return float(np.sqrt((distances**2).mean())), float(np.sqrt((angles**2).mean()))


def _angles(poses: np.ndarray) -> np.ndarray:
    """(F,) degrees by which rotations turn."""
    from scipy.spatial.transform import Rotation

    return np.degrees(Rotation.from_matrix(poses[:, :3, :3]).magnitude())


def _length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


def _scale(wanted: np.ndarray, found: np.ndarray) -> float:
    """Least-squares factor from the one path's positions to the other's, both from the origin."""
    size = float((wanted[:, :3, 3] ** 2).sum())
    return float((wanted[:, :3, 3] * found[:, :3, 3]).sum()) / size if size else 1.0


def _speed(asked: Cameras) -> float:
    """See `PathCheck`: what is 1 away moves by the step and by the turn, at the middle of the picture."""
    steps = np.linalg.norm(np.diff(asked.poses[:, :3, 3], axis=0), axis=1)
    turns = np.radians(_angles(np.linalg.inv(asked.poses[:-1]) @ asked.poses[1:]))
    focals = asked.intrinsics[1:, 0, 0] / asked.width
    return float(((steps + turns) * focals).max())
