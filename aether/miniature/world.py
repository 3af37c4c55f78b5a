"""The synthetic world: random scenes of a ground plane, boxes and spheres, seen by a moving camera.

Scene axes are OpenCV's: x right, y **down**, z forward; the ground is the plane y = 0, so what stands on it
has negative y. Lengths are in meters, times in seconds, angles in radians. A scene is a function of time and
can be rendered at any rate, size and length; see `raycast.render`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from . import textures
from .textures import Texture

DURATION = 6.0
"""Seconds without collisions in a random scene; Aether's longest clip (41 frames at 8 fps) takes 5."""

Vector = tuple[float, float, float]
ZERO: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Motion:
    """A rigid motion: a straight line, a spin and an optional bounce.

    Attributes:
        start: center at time 0.
        velocity: meters per second.
        yaw: angle about the vertical axis at time 0.
        spin: axis times radians per second, in scene axes.
        bounce: (height in meters, bounces per second) above the straight line.
    """

    start: Vector
    velocity: Vector = ZERO
    yaw: float = 0.0
    spin: Vector = ZERO
    bounce: tuple[float, float] = (0.0, 0.0)

    @property
    def is_static(self) -> bool:
        return self.velocity == ZERO and self.spin == ZERO and self.bounce[0] == 0

    def position(self, time: float) -> np.ndarray:
        """Center at `time`, (3,)."""
        height, rate = self.bounce
        lift = np.array([0.0, -height * abs(np.sin(np.pi * rate * time)), 0.0])
        return np.array(self.start) + np.array(self.velocity) * time + lift

    def rotation(self, time: float) -> np.ndarray:
        """Object to scene rotation at `time`, (3, 3)."""
        from scipy.spatial.transform import Rotation

        spun = Rotation.from_rotvec(np.array(self.spin) * time)
        return (spun * Rotation.from_euler("y", self.yaw)).as_matrix()


@dataclass(frozen=True)
class Solid:
    """A textured box or ellipsoid.

    Attributes:
        shape: "box" or "sphere".
        half: half extents along the object's axes; a sphere has its radius three times.
        motion: where it is and how it moves.
        texture: what it is covered with.
        tile: meters that one repeat of the texture covers (boxes); on spheres the texture wraps around.
    """

    shape: Literal["box", "sphere"]
    half: Vector
    motion: Motion
    texture: Texture
    tile: float = 1.0

    @property
    def radius(self) -> float:
        """Radius of the bounding sphere."""
        return float(max(self.half) if self.shape == "sphere" else np.linalg.norm(self.half))


@dataclass(frozen=True)
class CameraPath:
    """A camera in motion.

    The pose is a straight line and a steady turn, plus a sway (sines on each axis, as of a hand), all of it
    turned about the vertical axis through `pivot`, which makes an orbit.

    Attributes:
        start, velocity: position at time 0 and meters per second.
        angles, angular_velocity: yaw (right), pitch (up) and roll; at time 0 and per second.
        sway: amplitudes: three in meters along x, y, z, then three in radians for yaw, pitch, roll.
        sway_rate, sway_phase: cycles per second and phase of each of the six.
        pivot, pivot_rate: center of the orbit and radians per second.
    """

    start: Vector
    velocity: Vector = ZERO
    angles: Vector = ZERO
    angular_velocity: Vector = ZERO
    sway: tuple[float, ...] = (0.0,) * 6
    sway_rate: tuple[float, ...] = (0.0,) * 6
    sway_phase: tuple[float, ...] = (0.0,) * 6
    pivot: Vector = ZERO
    pivot_rate: float = 0.0

    def pose(self, time: float) -> np.ndarray:
        """Camera to scene, (4, 4), OpenCV axes."""
        from scipy.spatial.transform import Rotation

        cycles = 2 * np.pi * np.array(self.sway_rate) * time + np.array(self.sway_phase)
        sway = np.array(self.sway) * np.sin(cycles)
        position = np.array(self.start) + np.array(self.velocity) * time + sway[:3]
        angles = np.array(self.angles) + np.array(self.angular_velocity) * time + sway[3:]
        orbit = Rotation.from_euler("y", self.pivot_rate * time)
        pivot = np.array(self.pivot)
        pose = np.eye(4)
        pose[:3, :3] = (orbit * Rotation.from_euler("YXZ", angles)).as_matrix()
        pose[:3, 3] = orbit.apply(position - pivot) + pivot
        return pose


@dataclass(frozen=True)
class Sky:
    """Sky colors (linear light), clouds and haze. `haze` is the distance over which a color fades by 1/e."""

    zenith: Vector
    horizon: Vector
    clouds: Texture
    haze: float = 120.0


@dataclass(frozen=True)
class Scene:
    """A whole world, ready to render.

    Attributes:
        camera: the camera's path.
        fov_x: full horizontal field of view.
        solids: boxes and spheres.
        ground: texture of the plane y = 0; ground_tile: meters per repeat.
        stains: a second ground texture on a larger scale, which hides that the first repeats.
        sky: see `Sky`.
        sun: unit vector towards the sun.
        sun_color, ambient: light, linear.
    """

    camera: CameraPath
    fov_x: float
    solids: tuple[Solid, ...]
    ground: Texture
    ground_tile: float
    stains: Texture
    sky: Sky
    sun: Vector
    sun_color: Vector
    ambient: Vector


CAMERA_MOVES = ("dolly", "truck", "orbit", "pan", "crane", "handheld")


def random_scene(seed: int = 0) -> Scene:
    """A random scene; the same seed gives the same scene everywhere, to rounding.

    Args:
        seed: any integer from 0.

    Raises:
        InputError: the seed is not an integer from 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError("seed", f"{seed!r} is not an integer from 0")
    rng = np.random.default_rng(int(seed))
    fov_x = float(np.radians(rng.uniform(55, 80)))
    camera = _random_camera(rng)
    ground = textures.GROUND[rng.integers(len(textures.GROUND))]
    stains = 0.7 + 0.3 * np.repeat(textures.noise(rng, 0.9)[..., None], 3, axis=-1)
    return Scene(
        camera=camera,
        fov_x=fov_x,
        solids=_random_solids(rng, camera, fov_x),
        ground=Texture(ground(rng)),
        ground_tile=float(rng.uniform(2.5, 4.5)),
        stains=Texture(stains),
        **_random_light(rng),
    )


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _random_camera(rng: np.random.Generator) -> CameraPath:
    move = CAMERA_MOVES[rng.integers(len(CAMERA_MOVES))]
    side = rng.choice([-1.0, 1.0])
    speed = rng.uniform(0.5, 1.2)
    velocity, turn, pivot, pivot_rate = np.zeros(3), np.zeros(3), np.zeros(3), 0.0
    if move == "dolly":
        velocity = np.array([rng.uniform(-0.15, 0.15), 0, 1.0 if rng.random() < 0.75 else -0.6]) * speed
    elif move == "truck":
        velocity = np.array([side, 0, rng.uniform(-0.2, 0.2)]) * speed
        turn[0] = -side * rng.uniform(0, 0.1)
    elif move == "orbit":
        pivot = np.array([0, 0, rng.uniform(4, 7)])
        pivot_rate = side * speed / pivot[2]
    elif move == "pan":
        velocity = np.array([side * 0.3, 0, 0.3]) * speed
        turn[0] = side * rng.uniform(0.1, 0.22)
    elif move == "crane":
        velocity = np.array([0, -0.25, 0.3]) * speed
        turn[1] = -rng.uniform(0.01, 0.03)
    else:
        velocity = np.array([rng.uniform(-0.2, 0.2), 0, rng.uniform(0, 0.6)]) * speed
    shake = rng.uniform(0.8, 1.6) if move == "handheld" else rng.uniform(0.0, 0.3)
    amplitudes = np.array([0.05, 0.03, 0.04, 0.02, 0.02, 0.012]) * shake
    return CameraPath(
        start=(0.0, float(-rng.uniform(0.9, 2.0)), 0.0),
        velocity=_vector(velocity),
        angles=_vector(rng.uniform([-0.1, -0.2, -0.03], [0.1, -0.02, 0.03])),
        angular_velocity=_vector(turn),
        sway=tuple(amplitudes.tolist()),
        sway_rate=tuple(rng.uniform(0.3, 1.4, 6).tolist()),
        sway_phase=tuple(rng.uniform(0, 2 * np.pi, 6).tolist()),
        pivot=_vector(pivot),
        pivot_rate=float(pivot_rate),
    )


def _random_light(rng: np.random.Generator) -> dict:
    height, azimuth = rng.uniform(0.45, 1.0), rng.uniform(0, 2 * np.pi)
    sun = (
        float(np.cos(height) * np.sin(azimuth)),
        float(-np.sin(height)),
        float(np.cos(height) * np.cos(azimuth)),
    )
    warmth = float(rng.uniform(0, 1))
    strength = float(rng.uniform(0.75, 1.05))
    sky = Sky(
        zenith=(0.08 + 0.1 * warmth, 0.2 + 0.03 * warmth, 0.5 - 0.1 * warmth),
        horizon=(0.5 + 0.25 * warmth, 0.62, 0.78 - 0.2 * warmth),
        clouds=Texture(textures.clouds(rng)),
        haze=float(rng.uniform(80, 200)),
    )
    return {
        "sky": sky,
        "sun": sun,
        "sun_color": (strength, strength * (1 - 0.12 * warmth), strength * (0.95 - 0.3 * warmth)),
        "ambient": (0.3, 0.33, 0.38),
    }


def _random_solids(rng: np.random.Generator, camera: CameraPath, fov_x: float) -> tuple[Solid, ...]:
    """Buildings far off, props near by, some of them moving; nothing meets anything else within DURATION."""
    times = np.linspace(0, DURATION, 25)
    eye = np.array([camera.pose(time)[:3, 3] for time in times])
    solids: list[Solid] = []
    tracks: list[np.ndarray] = []
    plan = ["building"] * int(rng.integers(3, 7)) + ["prop"] * int(rng.integers(6, 11))
    plan += ["mover"] * int(rng.integers(2, 5))
    for number, kind in enumerate(plan):
        for _ in range(30):
            # Two of three start in view; the others wait beside it for the camera to turn.
            reach = 0.45 * fov_x if number % 3 else 1.2
            angle = camera.angles[0] + rng.uniform(-reach, reach)
            shape, half, motion = _random_body(rng, kind, angle)
            track = np.array([motion.position(time) for time in times])
            if _is_clear(half, track, eye, solids, tracks):
                solids.append(Solid(shape, half, motion, *_random_cover(rng, kind)))
                tracks.append(track)
                break
    return tuple(solids)


def _is_clear(
    half: Vector, track: np.ndarray, eye: np.ndarray, solids: list[Solid], tracks: list[np.ndarray]
) -> bool:
    """Whether a body on `track` keeps off the camera and the other solids, seen from above."""
    flat = [0, 2]
    reach = np.hypot(half[0], half[2])
    if np.linalg.norm((track - eye)[:, flat], axis=1).min() < reach + 0.8:
        return False
    return all(
        np.linalg.norm((track - other)[:, flat], axis=1).min() > reach + np.hypot(*np.take(placed.half, flat))
        for placed, other in zip(solids, tracks, strict=True)
    )


def _random_body(
    rng: np.random.Generator, kind: str, angle: float
) -> tuple[Literal["box", "sphere"], Vector, Motion]:
    shape: Literal["box", "sphere"] = "sphere" if kind != "building" and rng.random() < 0.5 else "box"
    distance = rng.uniform(12, 32) if kind == "building" else 2.2 + 9 * rng.random() ** 1.3
    half = _random_half(rng, kind, shape)
    start = (float(distance * np.sin(angle)), -half[1], float(distance * np.cos(angle)))
    if kind == "mover":
        return shape, half, _random_motion(rng, shape, half, start)
    return shape, half, Motion(start, yaw=float(rng.uniform(0, 2 * np.pi)))


def _random_cover(rng: np.random.Generator, kind: str) -> tuple[Texture, float]:
    """A texture and the meters that one repeat covers."""
    paints = textures.WALL if kind == "building" else textures.PROP
    paint = paints[rng.integers(len(paints))]
    return Texture(paint(rng)), float(rng.uniform(3, 5) if kind == "building" else rng.uniform(0.6, 1.2))


def _random_half(rng: np.random.Generator, kind: str, shape: str) -> Vector:
    if kind == "building":
        return _vector(rng.uniform([1.5, 1.5, 1.5], [4, 5, 4]))
    if shape == "sphere":
        return (float(rng.uniform(0.25, 0.75)),) * 3
    return _vector(rng.uniform([0.2, 0.2, 0.2], [0.7, 1.0, 0.7]))


def _random_motion(rng: np.random.Generator, shape: str, half: Vector, start: Vector) -> Motion:
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.5)
    velocity = (float(speed * np.sin(heading)), 0.0, float(speed * np.cos(heading)))
    yaw = float(rng.uniform(0, 2 * np.pi))
    if shape == "box":
        return Motion(start, velocity, yaw, spin=(0.0, float(rng.uniform(-1.2, 1.2)), 0.0))
    # A ball rolls about the level axis square to its way, without slipping.
    roll = (-velocity[2] / half[0], 0.0, velocity[0] / half[0])
    height, rate = rng.uniform([0.3, 0.6], [1.0, 1.2])
    height = height if rng.random() < 0.5 else 0.0
    return Motion(start, velocity, yaw, roll, (float(height), float(rate)))
