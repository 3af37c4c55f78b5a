"""Ray casting of the synthetic world: color, exact depth, poses and intrinsics.

Every ray leaves the camera as (x, y, 1), so its parameter at a hit is the depth along the camera's z axis
itself, and a solid seen in its own axes has rays that are linear in x and y: intersections run on rows and
columns by broadcasting, over the rectangle that a solid can cover and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..defaults import BASE_FPS
from ..errors import InputError
from .textures import GAMMA
from .world import Scene, Solid

FAR = 60.0
"""Depth in meters given to the sky; ground beyond it counts as sky, solids stand nearer."""

NEAR = 0.02
SKY, GROUND = -1, 0
TEXTURE_BLUR = 2.5
"""Pixels. At 64 x 96 a VAE that packs 768 numbers into 16 cannot hold textures at pixel sharpness."""
_BAND = 1 << 18
"""Rays traced at a time, which bounds the memory whatever the frame's size."""


@dataclass(frozen=True)
class WorldClip:
    """A rendered clip with its truth.

    Attributes:
        rgb: (F, H, W, 3) float32 in [0, 1].
        depth: (F, H, W) float32, meters along the camera's z axis through the pixel centers; FAR for the sky.
        labels: (F, H, W) int16 at the pixel centers: -1 sky, 0 ground, 1.. the scene's solids in their order.
        poses: (F, 4, 4) float64 camera to world, OpenCV axes; see `render` for which world.
        intrinsics: (F, 3, 3) float64 in pixels; pixel (column c, row r) has its center at (c + 0.5, r + 0.5).
        fps: frames per second.
    """

    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray
    fps: float

    @property
    def sky(self) -> np.ndarray:
        """(F, H, W) bool: where there is no surface and the depth is FAR by convention."""
        return self.labels == SKY


def render(
    scene: Scene,
    frames: int = 17,
    height: int = 64,
    width: int = 96,
    fps: float = BASE_FPS,
    *,
    samples: int = 3,
    texture_blur: float = TEXTURE_BLUR,
    first_camera_is_world: bool = True,
) -> WorldClip:
    """Render a clip from time 0 on.

    Args:
        scene: what to render.
        frames, height, width: size of the clip; each at least 1.
        fps: frames per second of scene time; positive.
        samples: rays along each side of a pixel for color (samples ** 2 in all); depth takes one, centered.
        texture_blur: pixels that a look at a texture covers; positive. Edges of solids stay sharp.
        first_camera_is_world: poses relative to the first camera (the first is the identity, Aether's
            convention); otherwise in the scene's own axes, whose ground is y = 0.

    Raises:
        InputError: a size or rate is out of range.
    """
    for field, value in (("frames", frames), ("height", height), ("width", width), ("samples", samples)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InputError(field, f"{value!r} is not an integer from 1")
    if not np.isfinite(fps) or fps <= 0:
        raise InputError("fps", f"{fps!r} is not a positive rate")
    if not np.isfinite(texture_blur) or texture_blur <= 0:
        raise InputError("texture_blur", f"{texture_blur!r} is not a positive number of pixels")
    rgb = np.empty((frames, height, width, 3), np.float32)
    depth = np.empty((frames, height, width), np.float32)
    labels = np.empty((frames, height, width), np.int16)
    poses = np.stack([scene.camera.pose(index / fps) for index in range(frames)])
    focal = width / 2 / np.tan(scene.fov_x / 2)
    for index in range(frames):
        view = _View(scene, poses[index], index / fps)
        xs, ys = _pixel_grid(height, width, focal, 1)
        depth[index], labels[index] = view.trace(xs, ys)
        rgb[index] = _frame_colors(view, height, width, focal, samples, texture_blur)
    if first_camera_is_world:
        poses = np.linalg.inv(poses[0]) @ poses
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return WorldClip(rgb, depth, labels, poses, np.repeat(intrinsics[None], frames, axis=0), float(fps))


def _pixel_grid(height: int, width: int, focal: float, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Ray slopes of all columns and all rows, `samples` to a pixel side."""
    columns = (np.arange(width * samples) + 0.5) / samples
    rows = (np.arange(height * samples) + 0.5) / samples
    return (columns - width / 2) / focal, (rows - height / 2) / focal


def _frame_colors(
    view: _View, height: int, width: int, focal: float, samples: int, texture_blur: float
) -> np.ndarray:
    xs, ys = (grid.astype(np.float32) for grid in _pixel_grid(height, width, focal, samples))
    footprint = texture_blur / focal
    step = max(1, _BAND // (len(xs) * samples))
    bands = []
    for top in range(0, height, step):
        rows = ys[top * samples : (top + step) * samples]
        colors = view.colors(xs, rows, footprint)
        colors = colors.reshape(len(rows) // samples, samples, width, samples * 3)
        colors = np.add.reduce(colors, axis=1).reshape(-1, width, samples, 3)
        colors = sum(colors[:, :, column] for column in range(samples)) / np.float32(samples**2)
        bands.append(np.clip(colors, 0, 1) ** (1 / GAMMA))
    return np.concatenate(bands)


@dataclass
class _Placed:
    """A solid at one moment, with the camera and the sun in its own axes."""

    solid: Solid
    center: np.ndarray
    rotation: np.ndarray
    eye: np.ndarray
    rays: np.ndarray
    sun: np.ndarray

    @classmethod
    def at(cls, solid: Solid, time: float, pose: np.ndarray, sun: np.ndarray) -> _Placed:
        center, rotation = solid.motion.position(time), solid.motion.rotation(time)
        eye = rotation.T @ (pose[:3, 3] - center)
        return cls(solid, center, rotation, eye, rotation.T @ pose[:3, :3], rotation.T @ sun)

    def enter(self, origin: Sequence, direction: Sequence) -> np.ndarray:
        """Ray parameter where rays enter the solid; infinite where they miss it or start inside or past it.

        Args:
            origin: three components in the solid's axes, scalars or arrays.
            direction: three components likewise.
        """
        half = self.solid.half
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.solid.shape == "sphere":
                o = [origin[axis] / half[axis] for axis in range(3)]
                d = [direction[axis] / half[axis] for axis in range(3)]
                a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
                b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
                c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1
                t = (-b - np.sqrt(b * b - a * c)) / a
                hit = t > NEAR
            else:
                enter, leave = -np.inf, np.inf
                for axis in range(3):
                    low = (-half[axis] - origin[axis]) / direction[axis]
                    high = (half[axis] - origin[axis]) / direction[axis]
                    enter = np.maximum(enter, np.minimum(low, high))
                    leave = np.minimum(leave, np.maximum(low, high))
                t, hit = enter, (enter < leave) & (enter > NEAR)
        return np.where(hit, t, np.inf)

    def window(self, pose: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the grid that the solid may cover."""
        corners = np.array(list(product((-1, 1), repeat=3))) * self.solid.half
        seen = (self.center + corners @ self.rotation.T - pose[:3, 3]) @ pose[:3, :3]
        if seen[:, 2].max() <= NEAR:
            return slice(0), slice(0)
        if seen[:, 2].min() <= NEAR:
            return slice(None), slice(None)
        slopes = seen[:, :2] / seen[:, 2:]
        (left, top), (right, bottom) = slopes.min(axis=0), slopes.max(axis=0)
        return slice(*np.searchsorted(ys, [top, bottom])), slice(*np.searchsorted(xs, [left, right]))

    def surface(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Normals (scene axes), texture coordinates and repeats per meter at surface points.

        Args:
            points: (N, 3) in the solid's axes.
        """
        half = np.array(self.solid.half, points.dtype)
        scaled = points / half
        if self.solid.shape == "sphere":
            normals = scaled / half
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            # On strided columns numpy rounds arctan2 now this way, now that, as the arrays lie in memory.
            x, y, z = np.ascontiguousarray(scaled.T)
            u = np.arctan2(x, z) / np.pi
            v = np.arccos(np.clip(y, -1, 1)) / np.pi
            density = 1 / (np.pi * self.solid.radius)
        else:
            axis = np.abs(scaled).argmax(axis=1)
            index = np.arange(len(points))
            sign = np.sign(scaled[index, axis])
            normals = np.zeros_like(points)
            normals[index, axis] = sign
            # Sides show the horizontal axis across and the vertical axis down, so that bricks lie level.
            u = np.where(axis == 0, points[:, 2], points[:, 0]) * sign / self.solid.tile
            v = np.where(axis == 1, points[:, 2], points[:, 1]) / self.solid.tile
            density = 1 / self.solid.tile
        return normals @ self.rotation.T.astype(points.dtype), u, v, density


class _View:
    """A scene at one moment, seen by one camera."""

    def __init__(self, scene: Scene, pose: np.ndarray, time: float) -> None:
        self.scene = scene
        self.pose = pose
        self.sun = np.array(scene.sun)
        self.placed = [_Placed.at(solid, time, pose, self.sun) for solid in scene.solids]

    def trace(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depth and label of the first surface along every ray of a grid, (rows, columns) each."""
        depth = np.full((len(ys), len(xs)), FAR, xs.dtype)
        labels = np.full(depth.shape, SKY, np.int16)
        down = self.pose[1, :3].astype(xs.dtype)
        slope = down[0] * xs[None, :] + (down[1] * ys + down[2])[:, None]
        with np.errstate(divide="ignore"):
            ground = xs.dtype.type(-self.pose[1, 3]) / slope
        _keep_nearer(depth, labels, ground, GROUND)
        for number, placed in enumerate(self.placed, start=1):
            rows, columns = placed.window(self.pose, xs, ys)
            x, y = xs[columns], ys[rows]
            if not len(x) or not len(y):
                continue
            rays = placed.rays.astype(xs.dtype)
            direction = [ray[0] * x[None, :] + (ray[1] * y + ray[2])[:, None] for ray in rays]
            entry = placed.enter(placed.eye.tolist(), direction)
            _keep_nearer(depth[rows, columns], labels[rows, columns], entry, number)
        return depth, labels

    def colors(self, xs: np.ndarray, ys: np.ndarray, footprint: float) -> np.ndarray:
        """Linear colors of a grid of rays, (rows, columns, 3).

        Args:
            footprint: what a look at a texture covers, as a slope (width at depth 1).
        """
        depth, labels = self.trace(xs, ys)
        depth, labels = depth.ravel(), labels.ravel()
        grid = np.broadcast_arrays(xs[None, :], ys[:, None], np.ones((1, 1), xs.dtype))
        rays = np.stack(grid, axis=-1).reshape(-1, 3) @ self.pose[:3, :3].T.astype(xs.dtype)
        lengths = np.sqrt(_dot(rays, rays))
        colors = np.empty_like(rays)
        open_sky = labels == SKY
        colors[open_sky] = self._sky(rays[open_sky] / lengths[open_sky, None])
        fade = np.exp(-depth * lengths / np.float32(self.scene.sky.haze))[:, None]
        order = np.argsort(labels, kind="stable")
        edges = np.searchsorted(labels[order], np.arange(len(self.placed) + 2))
        for number in range(len(self.placed) + 1):
            index = order[edges[number] : edges[number + 1]]
            if not len(index):
                continue
            lit = self._lit(number, rays[index], depth[index], lengths[index], footprint)
            haze = np.array(self.scene.sky.horizon, np.float32)
            colors[index] = haze + (lit - haze) * fade[index]
        return colors.reshape(len(ys), len(xs), 3)

    def _lit(
        self, number: int, rays: np.ndarray, depth: np.ndarray, lengths: np.ndarray, footprint: float
    ) -> np.ndarray:
        """Shaded colors where rays meet one surface, (N, 3)."""
        scene = self.scene
        points = rays * depth[:, None] + self.pose[:3, 3].astype(rays.dtype)
        if number == GROUND:
            normals = np.broadcast_to(np.array([0, -1, 0], rays.dtype), points.shape)
            texture, density = scene.ground, 1 / scene.ground_tile
            u, v = points[:, 0] * density, points[:, 2] * density
        else:
            placed = self.placed[number - 1]
            local = (points - placed.center.astype(rays.dtype)) @ placed.rotation.astype(rays.dtype)
            normals, u, v, density = placed.surface(local)
            texture = placed.solid.texture
        facing = np.abs(_dot(rays, normals)) / lengths
        # Isotropic filtering at a grazing angle: the square root is the middle between blur and shimmer.
        width = depth * (footprint * density) / np.sqrt(np.maximum(facing, 0.02))
        albedo = texture.sample(u, v, width)
        if number == GROUND:
            albedo = albedo * scene.stains.sample(u * 0.137, v * 0.137, width * 0.137)
        sunlight = np.maximum(normals @ self.sun.astype(rays.dtype), 0)
        sunlight = sunlight * ~self._shadowed(points, sunlight > 0, number)
        skylight = 0.75 - 0.25 * normals[:, 1]
        sun_color, ambient = (np.array(c, np.float32) for c in (scene.sun_color, scene.ambient))
        return albedo * (sun_color * sunlight[:, None] + ambient * skylight[:, None])

    def _shadowed(self, points: np.ndarray, candidates: np.ndarray, own: int) -> np.ndarray:
        """Whether another solid stands between each point and the sun, (N,) bool. A convex solid's own shade
        is its normals' matter, so `own` is left out."""
        shadowed = np.zeros(len(points), bool)
        for number, placed in enumerate(self.placed, start=1):
            if number == own:
                continue
            offset = points - placed.center.astype(points.dtype)
            along = offset @ self.sun.astype(points.dtype)
            apart = _dot(offset, offset) - along * along
            radius = placed.solid.radius
            near = np.flatnonzero(candidates & ~shadowed & (apart < radius**2) & (along < radius))
            local = offset[near] @ placed.rotation.astype(points.dtype)
            shadowed[near] = np.isfinite(placed.enter(local.T, list(placed.sun.astype(points.dtype))))
        return shadowed

    def _sky(self, directions: np.ndarray) -> np.ndarray:
        """Sky colors along unit directions, (N, 3)."""
        sky = self.scene.sky
        zenith, horizon = (np.array(c, np.float32) for c in (sky.zenith, sky.horizon))
        rise = np.maximum(-directions[:, 1], 0)
        colors = horizon + (zenith - horizon) * (1 - np.exp(-4 * rise))[:, None]
        up = np.flatnonzero(rise > 0.02)
        spread = 0.25 / (rise[up] + 0.08)
        cover = sky.clouds.sample(
            directions[up, 0] * spread, directions[up, 2] * spread, 0.004 / (rise[up] + 0.08)
        )
        colors[up] += (0.95 - colors[up]) * (cover * np.minimum(1, 4 * rise[up])[:, None])
        glow = np.maximum(directions @ self.sun.astype(directions.dtype), 0)
        colors += np.array([1.0, 0.9, 0.7], np.float32) * (0.6 * glow**200 + 0.12 * glow**8)[:, None]
        return colors


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, (N,). A sum over an axis of three is slow in numpy."""
    return np.einsum("ij,ij->i", a, b)


def _keep_nearer(depth: np.ndarray, labels: np.ndarray, candidate: np.ndarray, label: int) -> None:
    """Write a surface into the depth and label buffers where it is nearer (in place)."""
    nearer = (candidate > NEAR) & (candidate < depth)
    depth[nearer] = candidate[nearer]
    labels[nearer] = label
