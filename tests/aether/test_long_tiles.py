"""Tiles of wide and tall pictures, with known units and worlds, put back together."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.generation.latents import Decoded
from aether.geometry.cameras import Cameras
from aether.geometry.raymap import from_cameras, to_cameras
from aether.long.tiles import MIN_OVERLAP, Tiles, merge_tiles, plan_tiles

FRAMES = 17


def path(frames=FRAMES):
    t = np.linspace(0, 1, frames)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    angles = np.stack([0.4 * t, 0.1 * np.sin(5 * t), 0.05 * t], axis=1)
    poses[:, :3, :3] = Rotation.from_euler("YXZ", angles).as_matrix()
    poses[:, :3, 3] = np.stack([0.5 * np.sin(3 * t), 0.1 * t, 2 * t], axis=1)
    return poses


def cameras_of(poses, focal, height, width):
    intrinsics = np.tile(
        np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]), (len(poses), 1, 1)
    )
    return Cameras(poses, intrinsics, height, width)


def scene(size, seed=0):
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in (FRAMES, *size)), indexing="ij")
    disparity = 0.05 + 0.4 * np.sin(6 * x + 3 * y + 2 * t) ** 2
    return rng.random((FRAMES, *size, 3), np.float32), disparity.astype(np.float32)


def turned_to(tiles, start, focal):
    """The rotation from the picture's camera to one that looks at a tile's middle."""
    off = start + tiles.tile[tiles.axis] / 2 - tiles.size[tiles.axis] / 2
    aim = np.array([off, 0, focal]) if tiles.axis else np.array([0, off, focal])
    return Rotation.align_vectors([aim / np.linalg.norm(aim)], [[0, 0, 1]])[0].as_matrix()


def cut(tiles, poses, focal, units):
    """What a perfect model would give for each tile: its first camera is its world, its unit its own."""
    rgb, disparity = scene(tiles.size)
    parts = []
    for start, unit, colors, values in zip(
        tiles.starts, units, tiles.cut(rgb), tiles.cut(disparity), strict=True
    ):
        own = poses.copy()
        own[:, :3, :3] = poses[:, :3, :3] @ turned_to(tiles, start, focal)
        own = cameras_of(own, focal, *tiles.tile).relative_to_first().scaled(unit)
        raymap = from_cameras(own.poses, own.intrinsics, *tiles.tile)
        parts.append(Decoded(colors, (values / unit).astype(np.float32), raymap))
    return rgb, disparity, parts


@pytest.mark.parametrize(
    "height, width, size, count",
    [
        (480, 720, (480, 720), 0),
        (1080, 1620, (480, 720), 0),
        (480, 726, (480, 720), 0),
        (1080, 1920, (480, 848), 2),
        (800, 1920, (480, 1152), 2),
        (480, 1360, (480, 1360), 3),
        (500, 4000, (480, 3840), 6),
        (1920, 1080, (1280, 720), 3),
        (480, 480, (720, 720), 2),
    ],
)
def test_tiles_cover_the_picture(height, width, size, count):
    tiles = plan_tiles(height, width, (480, 720))
    if not count:
        assert tiles is None
        return
    assert (tiles.size, len(tiles)) == (size, count)
    side = tiles.tile[tiles.axis]
    assert tiles.starts[0] == 0 and tiles.starts[-1] + side == tiles.size[tiles.axis]
    overlaps = side - np.diff(tiles.starts)
    assert (overlaps >= MIN_OVERLAP * side - 1).all() and np.ptp(overlaps) <= 1
    assert tiles.tile[1 - tiles.axis] == tiles.size[1 - tiles.axis]
    # One tile fewer would overlap too little.
    if count > 2:
        assert side - (tiles.size[tiles.axis] - side) / (count - 2) < MIN_OVERLAP * side


@pytest.mark.parametrize("shape", [(48, 200), (200, 48)])
def test_perfect_tiles_come_back_together(shape):
    tiles = plan_tiles(*shape, (48, 72))
    poses = path()
    units = np.exp(np.random.default_rng(1).uniform(-1, 1, len(tiles)))
    rgb, disparity, parts = cut(tiles, poses, 60.0, units)
    merged, factors = merge_tiles(tiles, parts)
    assert merged.rgb.shape == rgb.shape
    assert np.abs(merged.rgb - rgb).max() < 1e-6
    quotient = merged.disparity / disparity
    assert np.ptp(quotient) < 1e-5 * quotient.mean()
    unit = 1 / quotient.mean()  # of length, in the merged result
    assert unit == pytest.approx(units.max(), rel=1e-5)
    assert factors == pytest.approx(units / units.max(), rel=1e-5)
    cameras = to_cameras(merged.raymap, *tiles.size, square_pixels=True)
    assert np.abs(cameras.intrinsics[:, 0, 0] - 60).max() < 1e-3
    wanted = cameras_of(poses, 60.0, *tiles.size).relative_to_first().scaled(unit).poses
    assert np.abs(cameras.poses - wanted).max() < 1e-3


def test_a_still_camera_takes_the_disparitys_scale():
    tiles = plan_tiles(48, 200, (48, 72))
    still = np.tile(np.eye(4), (FRAMES, 1, 1))
    merged, factors = merge_tiles(tiles, cut(tiles, still, 60.0, [1.0, 2.0, 0.5, 1.0][: len(tiles)])[2])
    cameras = to_cameras(merged.raymap, *tiles.size)
    assert np.abs(cameras.poses - np.eye(4)).max() < 1e-4 and max(factors) == 1


def test_noise_does_not_bias_the_factors():
    tiles = plan_tiles(48, 200, (48, 72))
    _, _, parts = cut(tiles, path(), 60.0, [1.0] * len(tiles))
    rng = np.random.default_rng(0)
    noisy = [
        Decoded(
            p.rgb, p.disparity * np.exp(rng.normal(0, 0.02, p.disparity.shape)).astype(np.float32), p.raymap
        )
        for p in parts
    ]
    _, factors = merge_tiles(tiles, noisy)
    assert factors == pytest.approx([1.0] * len(tiles), abs=0.005)


def test_bad_tiles():
    tiles = Tiles((16, 40), (16, 24), (0, 16))
    empty = Decoded(
        np.zeros((2, 16, 24, 3), np.float32),
        np.zeros((2, 16, 24), np.float32),
        from_cameras(np.tile(np.eye(4), (2, 1, 1)), cameras_of(path(2), 20, 16, 24).intrinsics, 16, 24),
    )
    with pytest.raises(InputError, match="tiles 1 and 2") as error:
        merge_tiles(tiles, [empty, empty])
    assert error.value.field == "disparity"
    with pytest.raises(InputError, match="1 results do not fit 2 tiles"):
        merge_tiles(tiles, [empty])
