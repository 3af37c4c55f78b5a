"""Meters from something known, on scenes whose true size is known."""

import numpy as np
import pytest

from aether.errors import InputError
from aether.geometry.cameras import METERS, NEAREST, Cameras, cameras_from_fov
from aether.geometry.metric_scale import (
    scale_by_baseline,
    scale_by_depth,
    scale_by_distance,
    scale_by_height,
)
from aether.miniature import random_scene, render

HELD_OUT = (501, 502, 503, 504)


class World:
    """A rendered scene in Aether's unit, and what its unit truly measures in meters."""

    def __init__(self, seed: int) -> None:
        clip = render(random_scene(seed), 9, 64, 96, samples=1)
        own = render(random_scene(seed), 9, 8, 12, samples=1, first_camera_is_world=False)
        self.meters = np.where(clip.sky, np.inf, clip.depth)
        self.factor = float(clip.depth.min())
        self.depth = np.where(clip.sky, 1000, clip.depth / self.factor).astype(np.float32)
        self.true_cameras = Cameras(clip.poses, clip.intrinsics, 64, 96)
        self.cameras = self.true_cameras.scaled(1 / self.factor)
        self.heights = -own.poses[:, 1, 3]
        self.points = clip


@pytest.fixture(scope="module", params=HELD_OUT)
def world(request) -> World:
    return World(request.param)


def point(world: World, frame: int, column: int, row: int) -> np.ndarray:
    """In meters, by hand."""
    k = world.true_cameras.intrinsics[frame]
    x, y = (column + 0.5 - k[0, 2]) / k[0, 0], (row + 0.5 - k[1, 2]) / k[1, 1]
    return np.array([x, y, 1]) * world.meters[frame, row, column]


def test_distance(world):
    ends = (20, 60), (80, 58)
    meters = np.linalg.norm(point(world, 4, *ends[0]) - point(world, 4, *ends[1]))
    scale = scale_by_distance(world.depth, world.cameras, float(meters), *ends, frame=4)
    assert scale.factor == pytest.approx(world.factor, rel=1e-5)
    assert 0 < scale.spread < 0.2
    assert f"{meters:g} m" in scale.source


@pytest.mark.parametrize("frame", [0, 8, -1])
def test_height(world, frame):
    """Within 1 % on every held-out scene; the camera of a crane shot is not as high in all frames."""
    scale = scale_by_height(world.depth, world.cameras, float(world.heights[frame]), frame)
    assert scale.factor == pytest.approx(world.factor, rel=0.01)
    assert scale.spread < 0.01


def test_height_with_rough_depth(world):
    """5 % of noise in every pixel, as reconstruction has it."""
    rng = np.random.default_rng(0)
    depth = world.depth * np.exp(rng.normal(0, 0.05, world.depth.shape))
    scale = scale_by_height(depth, world.cameras, float(world.heights[0]))
    assert scale.factor == pytest.approx(world.factor, rel=0.05)
    assert 0.01 < scale.spread < 0.1


def test_baseline(world):
    places = world.true_cameras.poses[:, :3, 3]
    meters = float(np.linalg.norm(places[6] - places[1]))
    scale = scale_by_baseline(world.cameras, meters, 1, 6)
    assert scale.factor == pytest.approx(world.factor, rel=1e-9)
    assert scale.spread < 0.02


def test_the_spread_of_a_baseline_is_the_paths_jitter():
    rng = np.random.default_rng(1)
    poses = np.tile(np.eye(4), (41, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, 41)
    steady = cameras_from_fov(poses, 1, 0.7, 64, 96)
    poses = poses.copy()
    poses[:, :3, 3] += rng.normal(0, 0.01, (41, 3))
    shaking = cameras_from_fov(poses, 1, 0.7, 64, 96)
    assert scale_by_baseline(steady, 3).spread < 1e-9
    # Its own direction alone counts for the distance: 0.01 * sqrt(2).
    assert 0.01 < scale_by_baseline(shaking, 3).spread < 0.03


@pytest.mark.parametrize("size", [1, 2, 3])
def test_metric_depth_of_any_size(world, size):
    metric = world.meters.repeat(size, axis=1).repeat(size, axis=2)
    scale = scale_by_depth(world.depth, metric)
    assert scale.factor == pytest.approx(world.factor, rel=1e-6) and scale.spread < 1e-6
    assert "9 frames" in scale.estimates
    first = scale_by_depth(world.depth, metric[:1])
    assert first.factor == pytest.approx(world.factor, rel=1e-6) and "1 frames" in first.estimates


def test_metric_depth_that_is_rough(world):
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.1, world.depth.shape) + rng.normal(0, 0.03, (9, 1, 1))
    scale = scale_by_depth(world.depth, world.meters * np.exp(noise))
    assert scale.factor == pytest.approx(world.factor, rel=0.05)
    assert 0.08 < scale.spread < 0.14


def test_what_is_masked_does_not_count(world):
    metric, mask = world.meters.copy(), np.zeros(world.depth.shape, np.float32)
    metric[:, 35:], mask[:, 35:] = metric[:, 35:] * 3, 1
    scale = scale_by_depth(world.depth, metric, mask=mask)
    assert scale.factor == pytest.approx(world.factor, rel=1e-6) and scale.spread < 1e-6
    assert scale_by_depth(world.depth, metric).spread > 0.3


def test_one_factor_for_depth_and_cameras(world):
    """All four ways agree, and depth and cameras scaled by it are the true ones."""
    scale = scale_by_depth(world.depth, world.meters)
    cameras = world.cameras.scaled(scale.factor, METERS)
    assert cameras.unit == METERS and world.cameras.unit == NEAREST
    np.testing.assert_allclose(cameras.poses, world.true_cameras.poses, atol=1e-5)
    seen = np.isfinite(world.meters)
    np.testing.assert_allclose((world.depth * scale.factor)[seen], world.meters[seen], rtol=1e-5)
    assert scale.to_dict()["meters_per_unit"] == scale.factor and scale.to_dict()["unit"] == METERS
    assert "m, spread" in scale.summary


def wall() -> tuple[np.ndarray, Cameras]:
    """A wall 2 units ahead of three cameras in a row: no ground."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, 0.1, 0.2]
    return np.full((3, 24, 32), 2.0, np.float32), cameras_from_fov(poses, 1, 0.8, 24, 32)


@pytest.mark.parametrize(
    "change, field, words",
    [
        ({"first": (5, 5), "second": (5, 5)}, "pixels", "one and the same"),
        ({"first": (32, 5)}, "pixels", r"32, 5 is outside of the picture \(0 to 31 and 0 to 23\)"),
        ({"second": (3, -1)}, "pixels", "outside of the picture"),
        ({"first": (1, 1)}, "pixels", "1, 1 of frame 0 has no depth"),
        ({"frame": 3}, "frame", "3 is not within 0 to 2"),
        ({"meters": 0.0}, "meters", "0 must be a positive number"),
        ({"meters": float("nan")}, "meters", "must be a positive number"),
    ],
)
def test_distances_that_cannot_be(change, field, words):
    depth, cameras = wall()
    depth[0, 1, 1] = 1000
    given = {"meters": 1.0, "first": (4, 4), "second": (9, 4), "frame": 0} | change
    with pytest.raises(InputError, match=words) as caught:
        scale_by_distance(depth, cameras, **given)
    assert caught.value.field == field


def test_other_refusals():
    depth, cameras = wall()
    with pytest.raises(InputError, match=r"^height: no ground was found"):
        scale_by_height(depth, cameras, 1.6)
    with pytest.raises(InputError, match=r"^baseline: the cameras of frames 1 and 1 stand in one place"):
        scale_by_baseline(cameras, 1.0, 1, 1)
    with pytest.raises(InputError, match=r"^cameras: are in meters already"):
        scale_by_baseline(cameras.scaled(2, METERS), 1.0)
    with pytest.raises(InputError, match=r"^depth: has shape \(2, 24, 32\)"):
        scale_by_height(depth[:2], cameras, 1.6)
    with pytest.raises(InputError, match=r"^unit: 'feet' is not one of"):
        cameras.scaled(3, "feet")


def test_metric_depth_that_cannot_be(world):
    with pytest.raises(InputError, match=r"^metric_depth: is of 2 frames, the clip has 9"):
        scale_by_depth(world.depth, world.meters[:2])
    with pytest.raises(
        InputError, match=r"^metric_depth: is 64 x 64, the clip 96 x 64: one of them was crop"
    ):
        scale_by_depth(world.depth, world.meters[:, :, :64])
    with pytest.raises(InputError, match=r"^metric_depth: does not agree .* a disparity"):
        scale_by_depth(world.depth, 1 / world.meters)
    with pytest.raises(InputError, match=r"^metric_depth: has no depth where the clip has one"):
        scale_by_depth(world.depth, np.full_like(world.meters, np.nan))
    with pytest.raises(InputError, match=r"^metric_depth: has shape \(64, 96\)"):
        scale_by_depth(world.depth, world.meters[0])
