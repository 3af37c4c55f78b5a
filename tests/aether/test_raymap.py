"""Raymaps against exact cameras, and against what the public reference computes (tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.geometry.cameras import Cameras, cameras_from_fov
from aether.geometry.depth import plane_rays
from aether.geometry.raymap import from_cameras, pack, signed_log1p, signed_log1p_inverse, to_cameras, unpack

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "raymap_reference.npz")


def random_cameras(seed: int) -> Cameras:
    """A smooth random path with its own angles of view per axis and frame, of a random size."""
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(1, 12))
    height, width = (int(n) for n in 8 * rng.integers(2, 40, 2))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    steps = Rotation.from_rotvec(rng.normal(size=(frames, 3)) * 0.2).as_matrix()
    poses[0, :3, :3] = Rotation.random(random_state=seed).as_matrix()
    for frame in range(1, frames):
        poses[frame, :3, :3] = poses[frame - 1, :3, :3] @ steps[frame]
    poses[:, :3, 3] = np.cumsum(rng.normal(size=(frames, 3)), axis=0) * 10 ** rng.uniform(-2, 1)
    return cameras_from_fov(
        poses, rng.uniform(0.2, 2.4, frames), rng.uniform(0.2, 2.4, frames), height, width
    )


def raymap_of(cameras: Cameras, **options) -> np.ndarray:
    return from_cameras(cameras.poses, cameras.intrinsics, cameras.height, cameras.width, **options)


@pytest.mark.parametrize("seed", range(60))
def test_poses_to_raymap_and_back(seed):
    cameras = random_cameras(seed)
    read = to_cameras(raymap_of(cameras))
    assert np.abs(read.poses - cameras.poses).max() < 1e-4
    assert np.abs(read.fov_x - cameras.fov_x).max() < 1e-4
    assert np.abs(read.fov_y - cameras.fov_y).max() < 1e-4
    np.testing.assert_allclose(read.intrinsics, cameras.intrinsics, rtol=1e-4)


@pytest.mark.parametrize("seed", range(60))
def test_raymap_to_poses_and_back(seed):
    raymap = raymap_of(random_cameras(seed))
    read = to_cameras(raymap)
    assert np.abs(raymap_of(read) - raymap).max() < 1e-4


def test_other_picture_size_scales_the_intrinsics():
    cameras = random_cameras(3)
    doubled = to_cameras(raymap_of(cameras), 2 * cameras.height, 2 * cameras.width)
    np.testing.assert_allclose(
        doubled.intrinsics, cameras.resized(doubled.height, doubled.width).intrinsics, rtol=1e-4
    )
    np.testing.assert_allclose(doubled.fov_x, cameras.fov_x, atol=1e-4)


@pytest.mark.parametrize("pixel_center", [0, 0.5])
def test_closed_form_is_the_resampled_full_size_raymap(pixel_center):
    cameras = random_cameras(5)
    pose, k = cameras.poses[0], cameras.intrinsics[0]
    u = (np.arange(cameras.width) + pixel_center - k[0, 2]) / k[0, 0]
    v = (np.arange(cameras.height) + pixel_center - k[1, 2]) / k[1, 1]
    full = torch.from_numpy(plane_rays(u, v, pose[:3, :3])).permute(2, 0, 1)[None]
    small = F.interpolate(full, scale_factor=1 / 8, mode="bilinear", align_corners=False)[0].numpy()
    raymap = raymap_of(cameras, pixel_center=pixel_center)
    assert np.abs(raymap[0, :3] - small).max() < 1e-6


def test_writes_what_the_reference_writes():
    rows, columns = GOLDEN["encoded"].shape[2:]
    ours = from_cameras(
        GOLDEN["poses"], GOLDEN["intrinsics"], 8 * rows, 8 * columns, scale=0.4, pixel_center=0
    )
    assert np.abs(ours - GOLDEN["encoded"]).max() < 1e-6


def test_reads_noisy_raymaps_as_the_reference_does():
    read = to_cameras(GOLDEN["noisy"], square_pixels=True)
    assert np.abs(read.poses - GOLDEN["read_poses"]).max() < 1e-12
    np.testing.assert_allclose(read.intrinsics, GOLDEN["read_intrinsics"], rtol=1e-12)
    both = to_cameras(GOLDEN["noisy"])
    np.testing.assert_allclose(both.fov_x, 2 * GOLDEN["half_fov_x"], rtol=1e-12)
    np.testing.assert_allclose(both.fov_y, 2 * GOLDEN["half_fov_y"], rtol=1e-12)


def test_input_is_left_alone():
    raymap = GOLDEN["noisy"].copy()
    to_cameras(raymap, square_pixels=True)
    assert (raymap == GOLDEN["noisy"]).all()
    poses = GOLDEN["poses"].copy()
    from_cameras(poses, GOLDEN["intrinsics"], 48, 72)
    assert (poses == GOLDEN["poses"]).all()


def test_translation_is_in_units_of_the_nearest_depth():
    cameras = random_cameras(8)
    read = to_cameras(raymap_of(cameras, scale=0.25))
    np.testing.assert_allclose(read.poses[:, :3, 3], 0.25 * cameras.poses[:, :3, 3], atol=1e-4)


def test_reading_takes_torch_tensors_in_half_precision():
    raymap = torch.from_numpy(raymap_of(random_cameras(2)))
    assert (
        np.abs(to_cameras(raymap.bfloat16()).poses - to_cameras(raymap.bfloat16().float()).poses).max() == 0
    )


def test_signed_log_inverts():
    x = np.array([-1e4, -1, -1e-9, 0, 1e-9, 3, 1e4])
    np.testing.assert_allclose(signed_log1p_inverse(signed_log1p(x)), x, rtol=1e-12)
    assert (np.sign(signed_log1p(x)) == np.sign(x)).all()


def test_packing_is_the_references():
    raymap, packed = GOLDEN["raymap"], GOLDEN["packed"]
    assert (pack(raymap) == packed).all()
    assert (unpack(packed, 17) == raymap).all()
    assert torch.equal(pack(torch.from_numpy(raymap)), torch.from_numpy(packed))
    assert torch.equal(unpack(torch.from_numpy(packed), 17), torch.from_numpy(raymap))


@pytest.mark.parametrize("frames", [17, 25, 33, 41])
def test_packing_order(frames):
    """Frame numbers as values: padding is frames 0, 1, 2; latent frame t holds t, T + t, 2T + t, 3T + t."""
    raymap = np.broadcast_to(np.arange(frames)[:, None, None, None], (frames, 6, 1, 1))
    packed = pack(raymap)[:, ::6, 0, 0]
    padded = np.array([0, 1, 2, *range(frames)])
    count = (frames + 3) // 4
    assert packed.shape == (count, 4)
    for t in range(count):
        assert packed[t].tolist() == padded[[t, count + t, 2 * count + t, 3 * count + t]].tolist()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: to_cameras(np.zeros((2, 6, 4, 4))), "raymap"),
        (lambda: to_cameras(np.full((2, 6, 4, 4), np.nan)), "raymap"),
        (lambda: to_cameras(np.ones((2, 6, 4, 4))), "raymap"),
        (lambda: to_cameras(np.ones((2, 5, 4, 4))), "raymap"),
        (lambda: to_cameras(np.ones((2, 6, 1, 4))), "raymap"),
        (lambda: to_cameras(GOLDEN["noisy"] * [[[1]]] * 1000), "raymap"),
        (lambda: to_cameras("raymap"), "raymap"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[None], 60, 64), "height"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[None], 64, 60), "width"),
        (lambda: from_cameras(np.eye(4)[None] * 2, np.eye(3)[None], 64, 64), "poses"),
        (lambda: from_cameras(np.eye(4), np.eye(3)[None], 64, 64), "poses"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[[0, 0]], 64, 64), "intrinsics"),
        (lambda: from_cameras(np.eye(4)[None], -np.eye(3)[None], 64, 64), "intrinsics"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[None], 64, 64, scale=np.nan), "scale"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[None], 64, 64, scale=0), "scale"),
        (lambda: from_cameras(np.eye(4)[None], np.eye(3)[None], 64, 64, pixel_center=1), "pixel_center"),
        (lambda: pack(np.zeros((17, 5, 2, 2))), "raymap"),
        (lambda: pack(np.zeros((0, 6, 2, 2))), "raymap"),
        (lambda: pack(np.zeros((1, 6, 2, 2))), "raymap"),
        (lambda: unpack(np.zeros((5, 23, 2, 2)), 17), "raymap"),
        (lambda: unpack(np.zeros((5, 24, 2, 2)), 21), "frames"),
    ],
)
def test_bad_input_names_the_field(call, field):
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field
