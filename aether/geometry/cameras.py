"""Cameras, and the one convention of everything that means a place in space.

One convention everywhere: poses are camera to world with OpenCV axes (x right, y down, z forward). The centre
of the pixel in column i and row j lies at (i + 0.5, j + 0.5), so that the middle of the picture is (width /
2, height / 2); this is what the reference's own reader, rays and intrinsics use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV axes to those of OpenGL and glTF (y up, looking along -z), and back: y and z change sign."""
NEAREST, METERS = "nearest depth", "meters"
"""Units of length: Aether's own, the nearest depth of the clip; or meters, once a scale is known."""
FOUND, GIVEN, ASSUMED = "found", "given", "assumed"
"""Where a lens is from: read off a model's raymap; known; or neither, so that an angle was taken."""
_MOST_PIXELS = 2**20
"""Of a side of a picture; cameras in damaged files may say anything."""


@dataclass(frozen=True)
class Cameras:
    """One pinhole camera per frame.

    Args:
        poses: (F, 4, 4), camera to world.
        intrinsics: (F, 3, 3), in pixels of a height x width picture.
        height, width: the picture's size in pixels.
        unit: of the positions, NEAREST or METERS.
        lens: where the intrinsics are from: FOUND, GIVEN or ASSUMED.

    Raises:
        InputError: wrong shapes, values that are not finite, something other than a rotation, a focal length
            that is not positive, a size that no picture has, another unit or lens.
    """

    poses: np.ndarray
    intrinsics: np.ndarray
    height: int
    width: int
    unit: str = NEAREST
    lens: str = GIVEN

    def __post_init__(self) -> None:
        poses = finite_array(self.poses, "poses", (None, 4, 4)).astype(np.float64)
        intrinsics = finite_array(self.intrinsics, "intrinsics", (len(poses), 3, 3)).astype(np.float64)
        for field, pixels in (("height", self.height), ("width", self.width)):
            if not 1 <= pixels <= _MOST_PIXELS:
                raise InputError(field, f"must be from 1 to {_MOST_PIXELS} pixels")
        for field, word, known in (
            ("unit", self.unit, (NEAREST, METERS)),
            ("lens", self.lens, (FOUND, GIVEN, ASSUMED)),
        ):
            if word not in known:
                raise InputError(field, f"{word!r} is not one of {', '.join(known)}")
        _check_rotations(poses)
        focals = intrinsics[:, [0, 1], [0, 1]]
        if (focals <= 0).any():
            raise InputError("intrinsics", "the focal lengths (entries 0,0 and 1,1) must be positive")
        object.__setattr__(self, "poses", poses)
        object.__setattr__(self, "intrinsics", intrinsics)

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def fov_x(self) -> np.ndarray:
        """(F,) full horizontal angle of view in radians, for a principal point in the middle."""
        return 2 * np.arctan(self.width / (2 * self.intrinsics[:, 0, 0]))

    @property
    def fov_y(self) -> np.ndarray:
        """(F,) full vertical angle of view in radians, for a principal point in the middle."""
        return 2 * np.arctan(self.height / (2 * self.intrinsics[:, 1, 1]))

    def relative_to_first(self) -> Cameras:
        """The same cameras in the first camera's frame: its pose becomes the identity."""
        return replace(self, poses=np.linalg.inv(self.poses[0]) @ self.poses)

    def scaled(self, factor: float, unit: str | None = None) -> Cameras:
        """All positions times ``factor``, which are then in ``unit``; by default in the one they were in."""
        poses = self.poses.copy()
        poses[:, :3, 3] *= factor
        return replace(self, poses=poses, unit=unit or self.unit)

    def resized(self, height: int, width: int) -> Cameras:
        """The same cameras for a picture resized (not cropped) to height x width."""
        scale = np.array([[width / self.width], [height / self.height], [1.0]])
        return replace(self, intrinsics=self.intrinsics * scale, height=height, width=width)

    def select(self, frames: Any) -> Cameras:
        """The cameras of some frames: a slice or indices."""
        return replace(self, poses=self.poses[frames], intrinsics=self.intrinsics[frames])


def cameras_from_fov(
    poses: Any, fov_x: Any, fov_y: Any, height: int, width: int, lens: str = GIVEN
) -> Cameras:
    """Cameras from full angles of view in radians (numbers or (F,)), the principal point in the middle.

    Args:
        lens: where the angles are from, see `Cameras`.

    Raises:
        InputError: angles that are not between 0 and pi; poses as `Cameras` refuses them.
    """
    for field, angles in (("fov_x", np.asarray(fov_x)), ("fov_y", np.asarray(fov_y))):
        if not ((angles > 0) & (angles < np.pi)).all():
            raise InputError(field, "an angle of view must be above 0 and below pi (180 degrees)")
    intrinsics = np.zeros((len(poses), 3, 3))
    intrinsics[:, 0, 0] = width / (2 * np.tan(np.asarray(fov_x) / 2))
    intrinsics[:, 1, 1] = height / (2 * np.tan(np.asarray(fov_y) / 2))
    intrinsics[:, 0, 2] = width / 2
    intrinsics[:, 1, 2] = height / 2
    intrinsics[:, 2, 2] = 1
    return Cameras(poses, intrinsics, height, width, lens=lens)


def to_gltf(poses: np.ndarray) -> np.ndarray:
    """Our poses with glTF's axes, y up and the camera looking along -z, world and camera alike; and back."""
    return FLIP @ poses @ FLIP


def points_to_gltf(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) with glTF's axes; and back."""
    return points * np.diag(FLIP)[:3].astype(points.dtype)


def to_quaternions(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (F, 4, 4) to quaternions (F, 4), x y z w, and positions (F, 3).

    Of the two quaternions of a rotation, neighbors have those on one side: programs that interpolate them do
    not turn the long way round.
    """
    from scipy.spatial.transform import Rotation

    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    aside = (quaternions[1:] * quaternions[:-1]).sum(axis=1) < 0
    quaternions[1:] *= np.cumprod(np.where(aside, -1, 1))[:, None]
    return quaternions, poses[:, :3, 3]


def from_quaternions(quaternions: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Quaternions (F, 4), x y z w, and positions (F, 3) to poses (F, 4, 4).

    Raises:
        InputError: a quaternion that is not of unit length within 1 %.
    """
    from scipy.spatial.transform import Rotation

    lengths = np.linalg.norm(quaternions, axis=1)
    frame = int(np.abs(lengths - 1).argmax())
    if abs(lengths[frame] - 1) > 1e-2:
        raise InputError("poses", f"frame {frame}: its quaternion has length {lengths[frame]:.3g}, not 1")
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    poses[:, :3, 3] = positions
    return poses


def _check_rotations(poses: np.ndarray) -> None:
    rotations = poses[:, :3, :3]
    products = rotations @ rotations.transpose(0, 2, 1)
    off = np.abs(products - np.eye(3)).max(axis=(1, 2))
    if (off > 1e-3).any():
        frame = int(off.argmax())
        raise InputError(
            "poses", f"frame {frame}: the upper left 3x3 must be a rotation; it scales or shears (not rigid)"
        )
    mirrored = np.linalg.det(rotations) < 0
    if mirrored.any():
        raise InputError(
            "poses",
            f"frame {int(mirrored.argmax())}: the upper left 3x3 must be a rotation; it mirrors (determinant "
            "-1: the axes are left-handed)",
        )
    if np.abs(poses[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError("poses", "the last row must be 0 0 0 1")
