"""Depth, cameras and points: what a decoded clip means in space.

One convention everywhere: poses are camera to world with OpenCV axes (x right, y down, z forward). The centre
of the pixel in column i and row j lies at (i + 0.5, j + 0.5), so that the middle of the picture is (width /
2, height / 2); this is what the reference's own reader, rays and intrinsics use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import InputError

MIN_DISPARITY = 1e-3
"""Disparities below this count as this: nothing is farther than 1000 times the unit."""
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV axes to those of OpenGL and glTF (y up, looking along -z), and back: y and z change sign."""
_MOST_PIXELS = 2**20
"""Of a side of a picture; cameras in damaged files may say anything."""


def finite_array(value: Any, field: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """``value`` (array or CPU or GPU tensor) as a NumPy array, its shape (None: any length) and numbers
    checked.

    Raises:
        InputError: wrong shape, not numbers, NaN or infinite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.dtype.itemsize < 4 else value
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(field, f"has shape {array.shape}; it must be ({wanted})")
    if array.dtype.kind not in "buif":
        raise InputError(field, f"holds {array.dtype}, not numbers")
    if array.size == 0:
        raise InputError(field, "is empty")
    if not np.isfinite(array).all():
        raise InputError(field, "holds NaN or infinite values")
    return array


@dataclass(frozen=True)
class Cameras:
    """One pinhole camera per frame.

    Args:
        poses: (F, 4, 4), camera to world.
        intrinsics: (F, 3, 3), in pixels of a height x width picture.
        height, width: the picture's size in pixels.

    Raises:
        InputError: wrong shapes, values that are not finite, something other than a rotation, a focal length
            that is not positive, a size that no picture has.
    """

    poses: np.ndarray
    intrinsics: np.ndarray
    height: int
    width: int

    def __post_init__(self) -> None:
        poses = finite_array(self.poses, "poses", (None, 4, 4)).astype(np.float64)
        intrinsics = finite_array(self.intrinsics, "intrinsics", (len(poses), 3, 3)).astype(np.float64)
        for field, pixels in (("height", self.height), ("width", self.width)):
            if not 1 <= pixels <= _MOST_PIXELS:
                raise InputError(field, f"must be from 1 to {_MOST_PIXELS} pixels")
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

    def scaled(self, factor: float) -> Cameras:
        """All positions times ``factor``."""
        poses = self.poses.copy()
        poses[:, :3, 3] *= factor
        return replace(self, poses=poses)

    def resized(self, height: int, width: int) -> Cameras:
        """The same cameras for a picture resized (not cropped) to height x width."""
        scale = np.array([[width / self.width], [height / self.height], [1.0]])
        return replace(self, intrinsics=self.intrinsics * scale, height=height, width=width)

    def select(self, frames: Any) -> Cameras:
        """The cameras of some frames: a slice or indices."""
        return replace(self, poses=self.poses[frames], intrinsics=self.intrinsics[frames])


def cameras_from_fov(poses: Any, fov_x: Any, fov_y: Any, height: int, width: int) -> Cameras:
    """Cameras from full angles of view in radians (numbers or (F,)), the principal point in the middle.

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
    return Cameras(poses, intrinsics, height, width)


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


def disparity_to_depth(disparity: Any) -> np.ndarray:
    """Depth along z, float32, of any shape: 1 / disparity, the disparity limited to [0.001, 1].

    Aether's disparity is divided by its maximum, so depth is at least 1 and in units of the nearest depth.
    Source: ``postprocess_pointmap`` of the reference.
    """
    return (1.0 / np.clip(np.asarray(disparity, dtype=np.float32), MIN_DISPARITY, 1.0)).astype(np.float32)


def depth_edges(depth: np.ndarray, relative: float = 0.2) -> np.ndarray:
    """Where depth jumps: (F, H, W) bool, true where the 3x3 neighbourhood spans over ``relative`` of the
    depth.

    Points there lie between a near and a far surface and belong to neither.
    Source: ``depth_edge`` of the reference, with the tolerance of its demo.
    """
    depth = finite_array(depth, "depth", (None, None, None))
    edges = np.empty(depth.shape, dtype=bool)
    for frame, picture in enumerate(depth):
        edges[frame] = _span(picture) > relative * picture
    return edges


def edge_confidence(depth: np.ndarray, relative: float = 0.2) -> np.ndarray:
    """How far from a jump of the depth a pixel is: (H, W) float32, 1 on flat parts down to 0 at what
    :func:`depth_edges` finds.

    Args:
        depth: (H, W), positive.
        relative: the jump in the 3x3 neighbourhood, as a share of the depth, from which confidence is 0.
    """
    return np.clip(1 - _span(depth) / (relative * depth), 0, 1).astype(np.float32)


def _span(picture: np.ndarray) -> np.ndarray:
    """(H, W): largest minus smallest depth of the 3x3 neighbourhood."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return maximum_filter(picture, 3, mode="nearest") - minimum_filter(picture, 3, mode="nearest")


def point_map(depth: Any, cameras: Cameras) -> np.ndarray:
    """World position of every pixel, (F, H, W, 3) float32: depth times the pixel's ray (z = 1) plus the
    origin.

    Args:
        depth: (F, H, W) depth along z.
        cameras: F cameras of H x W pictures.

    Raises:
        InputError: shapes that do not fit, NaN or infinite depth.
    """
    depth = finite_array(depth, "depth", (len(cameras), cameras.height, cameras.width))
    points = np.empty((*depth.shape, 3), dtype=np.float32)
    # Frame by frame, so that only the result itself is large.
    for frame in range(len(cameras)):
        rays = pixel_rays(cameras, frame).astype(np.float32)
        np.multiply(rays, depth[frame, ..., None], out=points[frame])
        points[frame] += cameras.poses[frame, :3, 3].astype(np.float32)
    return points


def pixel_rays(cameras: Cameras, frame: int) -> np.ndarray:
    """(H, W, 3) float64 directions in the world through the pixel centres of one frame, 1 long along z."""
    intrinsics, rotation = cameras.intrinsics[frame], cameras.poses[frame, :3, :3]
    x = (np.arange(cameras.width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(cameras.height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return plane_rays(x, y, rotation)


def plane_rays(x: np.ndarray, y: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(len(y), len(x), 3): the points (x, y, 1) of a camera's z = 1 plane, turned by its rotation."""
    return x[None, :, None] * rotation[:, 0] + y[:, None, None] * rotation[:, 1] + rotation[:, 2]


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
