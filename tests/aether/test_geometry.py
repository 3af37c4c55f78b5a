"""Depth, cameras and points against numbers worked out by hand and against the reference's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aether.arrays import finite_array
from aether.errors import InputError
from aether.geometry.cameras import Cameras, cameras_from_fov
from aether.geometry.depth import depth_edges, disparity_to_depth, pixel_rays, point_map
from aether.geometry.raymap import to_cameras

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "raymap_reference.npz")


def cameras(frames=2, height=4, width=6, fov=np.pi / 2) -> Cameras:
    poses = np.tile(np.eye(4), (frames, 1, 1))
    # The second frame: one to the right, looking to the right (z becomes x, x becomes -z).
    poses[1:, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    poses[1:, 0, 3] = 1
    return cameras_from_fov(poses, fov, fov, height, width)


def test_depth_is_limited_disparity_inverted():
    depth = disparity_to_depth(np.array([-1.0, 0, 1e-3, 0.25, 1, 2]))
    np.testing.assert_allclose(depth, [1000, 1000, 1000, 4, 1, 1], rtol=1e-6)
    assert depth.dtype == np.float32


def test_points_lie_along_the_rays():
    rig = cameras()
    points = point_map(np.full((2, 4, 6), 2.0), rig)
    assert points.dtype == np.float32
    # 90 degrees: the picture spans -1..1 at z = 1; the top left pixel's centre is a 12th and an 8th inside.
    np.testing.assert_allclose(points[0, 0, 0], [2 * (-1 + 1 / 6), 2 * (-1 + 1 / 4), 2], rtol=1e-6)
    np.testing.assert_allclose(points[1, 0, 0], [1 + 2, 2 * (-1 + 1 / 4), 2 * (1 - 1 / 6)], rtol=1e-6)


def test_points_project_back_to_their_pixels():
    rig = to_cameras(GOLDEN["noisy"])
    depth = np.random.default_rng(0).uniform(1, 9, (5, 48, 72))
    points = point_map(depth, rig)
    for frame in range(5):
        inverse = np.linalg.inv(rig.poses[frame])
        local = points[frame].reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]
        pixels = local @ rig.intrinsics[frame].T
        np.testing.assert_allclose(local[:, 2], depth[frame].ravel(), rtol=1e-3)
        u, v = (pixels[:, :2] / pixels[:, 2:]).T.reshape(2, 48, 72)
        np.testing.assert_allclose(u, np.broadcast_to(np.arange(72) + 0.5, (48, 72)), atol=1e-2)
        np.testing.assert_allclose(v, np.broadcast_to(np.arange(48)[:, None] + 0.5, (48, 72)), atol=1e-2)


def test_points_are_the_references():
    rig = to_cameras(GOLDEN["noisy"], square_pixels=True).select(slice(2))
    points = point_map(disparity_to_depth(GOLDEN["disparity"]), rig)[:, ::8, ::8]
    scale = np.abs(GOLDEN["point_map"]).max()
    assert np.abs(points - GOLDEN["point_map"]).max() < 1e-5 * scale


def test_edges_are_the_references():
    edges = depth_edges(GOLDEN["edge_depth"])
    assert (edges == GOLDEN["edges"]).all()
    assert edges.any() and not edges.all()


def test_edges_lie_on_both_sides_of_a_jump():
    depth = np.ones((1, 6, 8))
    depth[..., 4:] = 1.3
    assert depth_edges(depth)[0].all(axis=0).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert not depth_edges(depth, relative=0.35).any()


def test_angles_are_full_angles():
    rig = cameras(fov=np.radians(70))
    np.testing.assert_allclose(np.degrees(rig.fov_x), 70)
    np.testing.assert_allclose(np.degrees(rig.fov_y), 70)
    # The border of the picture, not the last pixel's centre, is at half the angle.
    assert pixel_rays(rig, 0)[0, -1, 0] == pytest.approx(np.tan(np.radians(35)) * 5 / 6)


def test_cameras_relative_scaled_resized_selected():
    rig = cameras()
    moved = Cameras(rig.poses[1] @ rig.poses, rig.intrinsics, rig.height, rig.width)
    np.testing.assert_allclose(moved.relative_to_first().poses, rig.poses, atol=1e-12)
    assert rig.scaled(3).poses[1, 0, 3] == 3 and rig.poses[1, 0, 3] == 1
    half = rig.resized(2, 3)
    np.testing.assert_allclose(half.intrinsics[0], [[1.5, 0, 1.5], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_allclose(half.fov_x, rig.fov_x)
    assert len(rig.select([1])) == 1 and rig.select([1]).poses[0, 0, 3] == 1


def test_tensors_are_taken():
    array = finite_array(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True), "x", (None, 3))
    assert array.dtype == np.float32 and array.shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: point_map(np.ones((2, 4, 5)), cameras()), "depth"),
        (lambda: point_map(np.full((2, 4, 6), np.inf), cameras()), "depth"),
        (lambda: depth_edges(np.ones((4, 6))), "depth"),
        (lambda: depth_edges(np.ones((0, 4, 6))), "depth"),
        (lambda: finite_array([["a"]], "x", (None, None)), "x"),
        (lambda: Cameras(np.full((1, 4, 4), np.nan), np.eye(3)[None], 4, 4), "poses"),
        (lambda: Cameras(np.diag([1, 1, -1, 1])[None], np.eye(3)[None], 4, 4), "poses"),
        (lambda: Cameras(np.ones((1, 4, 4)), np.eye(3)[None], 4, 4), "poses"),
        (lambda: Cameras(np.eye(4)[None], np.zeros((1, 3, 3)), 4, 4), "intrinsics"),
        (lambda: Cameras(np.eye(4)[None], np.eye(3)[None], 0, 4), "height"),
    ],
)
def test_bad_input_names_the_field(call, field):
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field
