"""Windows with known scales and worlds, put back together."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.generation.latents import Decoded
from aether.geometry.cameras import Cameras
from aether.geometry.depth import disparity_to_depth
from aether.geometry.raymap import from_cameras
from aether.long.joining import (
    Similarity,
    align_windows,
    blend_weights,
    default_stride,
    fit_disparity,
    fit_similarity,
    merge_windows,
    window_starts,
)

FRAMES, LENGTH, HEIGHT, WIDTH = 200, 41, 24, 40


def true_path(frames=FRAMES, height=HEIGHT, width=WIDTH, still=False):
    """A walk with turns and jitter: about 30 units long, cameras look where they go, more or less."""
    t = np.linspace(0, 1, frames)
    positions = np.stack([9 * np.sin(5 * t), 0.4 * np.sin(31 * t), 12 * t + 2 * np.sin(7 * t)], axis=1)
    angles = np.stack([1.2 * np.sin(5 * t), 0.2 * np.sin(17 * t), 0.1 * np.sin(11 * t)], axis=1)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("YXZ", angles).as_matrix()
    poses[:, :3, 3] = 0 if still else positions
    intrinsics = np.zeros((frames, 3, 3))
    focal = width * (0.8 + 0.2 * t)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = focal, focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = width / 2, height / 2, 1
    return Cameras(poses, intrinsics, height, width)


def true_disparity(frames=FRAMES, height=HEIGHT, width=WIDTH):
    """Smooth, moving, from near to very far; between 0.005 and 0.5."""
    t, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in (frames, height, width)), indexing="ij")
    depth = 2 + 40 * (1 - y) ** 3 + 6 * np.sin(9 * x + 20 * t) ** 2 + 150 * (y < 0.15)
    return (1 / depth).astype(np.float32)


def random_similarity(rng):
    rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    return Similarity(float(np.exp(rng.uniform(-1, 1))), rotation, rng.normal(0, 5, 3))


def cut(cameras, disparity, starts, length, seed, *, offset=0.0, turn=0.0, grain=0.0):
    """Windows in worlds and units of their own.

    offset: noise of positions, in units of the path's length; turn: of orientations, in degrees; grain: of
    disparities, relative. Normal, and drawn anew for every window and frame.
    """
    rng = np.random.default_rng(seed)
    walk = np.linalg.norm(np.diff(cameras.poses[:, :3, 3], axis=0), axis=1).sum()
    worlds, factors, paths, disparities = [], [], [], []
    for start in starts:
        part = slice(start, start + length)
        world, factor = random_similarity(rng), float(np.exp(rng.uniform(-1, 1)))
        poses = cameras.poses[part].copy()
        poses[:, :3, 3] += rng.normal(0, offset * walk, (length, 3))
        shaken = Rotation.from_rotvec(rng.normal(0, np.radians(turn) + 1e-300, (length, 3))).as_matrix()
        poses[:, :3, :3] = poses[:, :3, :3] @ shaken
        intrinsics = cameras.intrinsics[part].copy()
        intrinsics[:, [0, 1], [0, 1]] *= np.exp(rng.uniform(-0.2, 0.2))
        paths.append(Cameras(world.apply(poses), intrinsics, cameras.height, cameras.width))
        noise = np.exp(rng.normal(0, grain, disparity[part].shape))
        disparities.append((disparity[part] * noise * factor).astype(np.float32))
        worlds.append(world)
        factors.append(factor)
    return worlds, factors, paths, disparities


def back(similarity, poses):
    """Poses brought back from a world."""
    turned = similarity.rotation.T
    inverse = Similarity(1 / similarity.scale, turned, -turned @ similarity.translation / similarity.scale)
    return inverse.apply(poses)


def ate_fitted(path, wanted):
    """The usual ATE: root mean square distance after Umeyama's least squares similarity."""
    path, wanted = path - path.mean(axis=0), wanted - wanted.mean(axis=0)
    left, values, right = np.linalg.svd(wanted.T @ path)
    sign = np.array([1, 1, np.linalg.det(left @ right)])
    scale = (values * sign).sum() / np.square(path).sum()
    return np.sqrt(np.square(scale * path @ ((left * sign) @ right).T - wanted).sum(axis=1).mean())


def errors(truth, disparity, seed, *, length=LENGTH, stride=None, **noise):
    """ATE over the path's length without any alignment but the first window's own, the same after a Sim(3)
    fit over the whole path, worst rotation in degrees, and worst error of a window's disparity scale."""
    starts = window_starts(len(truth), length, stride)
    worlds, factors, paths, disparities = cut(truth, disparity, starts, length, seed, **noise)
    merge = align_windows(starts, disparities, paths)
    merged = back(worlds[0], merge.cameras.scaled(1 / merge.unit).poses)
    walk = np.linalg.norm(np.diff(truth.poses[:, :3, 3], axis=0), axis=1).sum()
    wanted = truth.poses[:, :3, 3]
    plain = np.sqrt(np.square(merged[:, :3, 3] - wanted).sum(axis=1).mean()) / walk
    turns = Rotation.from_matrix(merged[:, :3, :3].transpose(0, 2, 1) @ truth.poses[:, :3, :3])
    scales = [a.disparity * f / factors[0] for a, f in zip(merge.alignments, factors, strict=True)]
    focals = merge.cameras.intrinsics[:, 0, 0] / truth.intrinsics[:, 0, 0]
    return {
        "ate": plain,
        "ate_fitted": ate_fitted(merged[:, :3, 3], wanted) / walk,
        "degrees": np.degrees(turns.magnitude().max()),
        "scale": max(abs(s - 1) for s in scales),
        "focal": np.ptp(focals) / focals.mean(),
    }


@pytest.fixture(scope="module")
def truth():
    return true_path()


@pytest.fixture(scope="module")
def disparity():
    return true_disparity()


def test_starts_are_the_references_and_end_with_the_clip():
    assert window_starts(41, 41) == (0,)
    assert window_starts(42, 41) == (0, 1)
    assert window_starts(65, 41, 24) == (0, 24)
    assert window_starts(200, 41) == (0, 24, 48, 72, 96, 120, 144, 159)
    assert window_starts(30, 25) == (0, 5)
    assert window_starts(50, 41, 8) == (0, 8, 9)
    assert [default_stride(n) for n in (17, 25, 33, 41)] == [10, 15, 19, 24]
    for frames in range(17, 120):
        starts = window_starts(frames, 17, 13)
        covered = {f for s in starts for f in range(s, s + 17)}
        assert covered == set(range(frames))
        assert all(0 < b - a <= 13 for a, b in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize(
    "field, arguments",
    [
        ("stride", (100, 41, 41)),
        ("stride", (100, 41, 42)),
        ("stride", (100, 41, 0)),
        ("stride", (100, 41, 2.5)),
        ("stride", (100, 41, True)),
        ("frames", (1, 41, 24)),
        ("frames", (40, 41, 24)),
        ("frames", (float("nan"), 41, 24)),
        ("window", (100, 1, None)),
    ],
)
def test_starts_refuse(field, arguments):
    with pytest.raises(InputError) as error:
        window_starts(*arguments)
    assert error.value.field == field


def test_weights_fade_linearly_and_add_up():
    starts = window_starts(60, 17, 6)
    for frame in range(60):
        parts = blend_weights(starts, 17, frame)
        assert sum(w for _, w in parts) == pytest.approx(1)
        assert all(starts[i] <= frame < starts[i] + 17 for i, _ in parts)
    pair = window_starts(24, 17, 7)
    assert blend_weights(pair, 17, 7) == [(0, 1.0)] and blend_weights(pair, 17, 16) == [(1, 1.0)]
    assert dict(blend_weights(pair, 17, 10)) == pytest.approx({0: 2 / 3, 1: 1 / 3})


def test_exact_windows_come_back_exactly(truth, disparity):
    found = errors(truth, disparity, seed=1)
    assert found["ate"] < 1e-7 and found["degrees"] < 1e-4
    assert found["scale"] < 1e-6 and found["focal"] < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_noisy_windows_come_back_within_one_percent(seed, truth, disparity):
    """In each window anew: positions 0.1 % of the path's length (a fifth of the way from frame to frame) per
    axis, orientations 0.3 degrees per axis, every pixel's disparity 5 %."""
    found = errors(truth, disparity, seed, offset=0.001, turn=0.3, grain=0.05)
    assert found["ate_fitted"] < 0.01 and found["ate"] < 0.03
    assert found["scale"] < 0.01


def test_other_lengths_and_strides(truth, disparity):
    for length, stride in ((17, None), (17, 4), (41, 8), (41, 40), (25, 23)):
        found = errors(truth, disparity, seed=3, length=length, stride=stride)
        assert found["scale"] < 1e-6
        # Only one frame in common tells no scale of positions: see the test below.
        assert found["ate"] < 1e-6 or stride == length - 1


def test_one_frame_in_common_takes_the_scale_of_the_disparity(truth, disparity):
    starts = (0, 40)
    world = Similarity(2.0, Rotation.from_euler("y", 70, degrees=True).as_matrix(), np.array([1.0, 2, 3]))
    parts = [truth.select(slice(0, 41)), truth.select(slice(40, 81))]
    second = Cameras(world.apply(parts[1].poses), parts[1].intrinsics, HEIGHT, WIDTH)
    # Twice as long a unit makes positions and depth twice as large, and disparity half.
    merge = align_windows(starts, [disparity[:41], disparity[40:81] / 2], [parts[0], second])
    assert merge.alignments[1].scale_from == "disparity"
    assert np.allclose(merge.cameras.poses[:, :3, 3] / merge.unit, truth.poses[:81, :3, 3], atol=1e-5)


def test_a_camera_that_stands_still(disparity):
    still = true_path(still=True)
    rng = np.random.default_rng(0)
    for jitter in (0.0, 1e-3):
        paths = []
        for start in (0, 24):
            poses = still.poses[start : start + 41].copy()
            poses[:, :3, 3] = rng.normal(0, jitter, (41, 3))
            paths.append(Cameras(poses, still.intrinsics[start : start + 41], HEIGHT, WIDTH))
        merge = align_windows((0, 24), [disparity[:41], disparity[24:65] / 3], paths)
        assert merge.alignments[1].scale_from == "disparity"
        assert merge.alignments[1].similarity.scale == pytest.approx(1 / 3, rel=1e-5)
        turns = merge.cameras.poses[:, :3, :3].transpose(0, 2, 1) @ still.poses[:65, :3, :3]
        assert Rotation.from_matrix(turns).magnitude().max() < 1e-6


def test_a_straight_path_without_turns_and_a_turn_on_a_straight_path():
    poses = np.tile(np.eye(4), (17, 1, 1))
    poses[:, 2, 3] = np.linspace(0, 4, 17)
    world = random_similarity(np.random.default_rng(5))
    for turned in (False, True):
        if turned:
            poses[:, :3, :3] = Rotation.from_euler("y", np.linspace(0, 1, 17)[:, None]).as_matrix()
        fit, origin = fit_similarity(poses, world.apply(poses))
        assert origin == "positions" and fit.scale == pytest.approx(world.scale, rel=1e-9)
        assert np.allclose(fit.rotation, world.rotation, atol=1e-9)
        assert np.allclose(fit.translation, world.translation, atol=1e-8)


def test_one_wild_pose_does_not_matter(truth):
    poses = truth.poses[:17].copy()
    world = random_similarity(np.random.default_rng(6))
    target = world.apply(poses)
    poses[9, :3, 3] += 50
    poses[4, :3, :3] = poses[4, :3, :3] @ Rotation.from_euler("x", 90, degrees=True).as_matrix()
    fit, _ = fit_similarity(poses, target)
    assert fit.scale == pytest.approx(world.scale, rel=1e-9)
    assert np.allclose(fit.rotation, world.rotation, atol=1e-9)


def test_the_disparity_factor_is_not_biased_and_outliers_do_not_count(disparity):
    rng = np.random.default_rng(0)
    part = disparity[:17]
    noisy = [part * np.exp(rng.normal(0, 0.2, part.shape)) for _ in range(2)]
    factor, spread = fit_disparity(noisy[0] * 3, noisy[1])
    assert factor == pytest.approx(1 / 3, rel=0.005) and 0.1 < spread < 0.3
    assert fit_disparity(noisy[1], noisy[0] * 3)[0] == pytest.approx(1 / factor, rel=1e-9)
    # A regression on noisy values, the reference's way, is off by 4 %.
    assert (noisy[0] * noisy[1]).sum() / np.square(noisy[0]).sum() < 0.97
    flicker = part.copy()
    flicker[:, :6] = 1
    assert fit_disparity(flicker, part)[0] == pytest.approx(1, rel=1e-5)


def test_far_scenes_have_a_scale_too(disparity):
    assert fit_disparity(disparity[:17] * 0.01, disparity[:17])[0] == pytest.approx(100, rel=1e-5)


def test_points_of_all_windows_meet_in_one_world(truth, disparity):
    """Depth and poses of one window share a unit; after merging the whole clip does."""
    starts = window_starts(FRAMES, LENGTH)
    rng = np.random.default_rng(2)
    parts, paths = [], []
    for start in starts:
        part = slice(start, start + LENGTH)
        nearest = float(disparity[part].max())
        world = Similarity(
            nearest, *(getattr(random_similarity(rng), n) for n in ("rotation", "translation"))
        )
        poses = world.apply(truth.poses[part])
        paths.append(Cameras(poses, truth.intrinsics[part], HEIGHT, WIDTH).relative_to_first())
        parts.append(disparity[part] / nearest)
    merge = align_windows(starts, parts, paths)
    merged = np.stack([merge.disparity(parts, f) for f in range(FRAMES)])
    assert merged.max() <= 1 + 1e-6
    depth = disparity_to_depth(merged)
    unit = disparity.max()
    assert np.allclose(depth, 1 / disparity * unit, rtol=1e-5)
    wanted = truth.relative_to_first().scaled(unit).poses
    assert np.allclose(merge.cameras.poses, wanted, atol=1e-5)


def decoded(start, length, rng, height=HEIGHT, width=WIDTH):
    cameras = true_path().select(slice(start, start + length))
    rgb = rng.random((length, height, width, 3), dtype=np.float32)
    raymap = from_cameras(cameras.poses, cameras.intrinsics, height, width)
    return Decoded(rgb, true_disparity()[start : start + length], raymap), cameras


def test_one_window_comes_back_as_it_is():
    window, cameras = decoded(0, 41, np.random.default_rng(0))
    result, merge = merge_windows((0,), [window], [cameras])
    assert result is window and merge.unit == 1
    assert np.array_equal(merge.cameras.poses, cameras.poses)
    assert np.array_equal(merge.cameras.intrinsics, cameras.intrinsics)
    assert all(np.array_equal(merge.rgb([window.rgb], f), window.rgb[f]) for f in range(41))
    assert all(np.array_equal(merge.disparity([window.disparity], f), window.disparity[f]) for f in range(41))


def test_pictures_fade_and_frames_of_one_window_stay_bit_for_bit():
    rng = np.random.default_rng(0)
    windows, cameras = zip(*(decoded(s, 17, rng) for s in (0, 10)), strict=True)
    result, merge = merge_windows((0, 10), windows, cameras)
    assert result.rgb.shape == (27, HEIGHT, WIDTH, 3) and result.raymap.shape == (27, 6, 3, 5)
    assert np.array_equal(result.rgb[:11], windows[0].rgb[:11])
    assert np.array_equal(result.rgb[16:], windows[1].rgb[6:])
    assert np.allclose(result.rgb[13], (windows[0].rgb[13] + windows[1].rgb[3]) / 2, atol=1e-6)
    bytes_ = [(w.rgb * 255 + 0.5).astype(np.uint8) for w in windows]
    mixed = merge.rgb(bytes_, 12)
    assert mixed.dtype == np.uint8
    assert np.abs(mixed - result.rgb[12] * 255.0).max() < 1.6


def bad_overlap(kind):
    windows = [true_disparity()[s : s + 17].copy() for s in (0, 10)]
    paths = [true_path().select(slice(s, s + 17)) for s in (0, 10)]
    starts = (0, 10)
    if kind == "zero":
        windows[1][:7] = 0
    elif kind == "nan":
        windows[1][3, 2, 1] = np.nan
    elif kind == "infinite":
        windows[0][12, 2, 1] = np.inf
    elif kind == "disjoint":
        windows[0][:, :12], windows[1][:, 12:] = 0, 0
    elif kind == "gap":
        starts = (0, 17)
    elif kind == "falling":
        starts = (0, -3)
    elif kind == "shape":
        windows[1] = windows[1][:, :-1]
    elif kind == "count":
        starts = (0,)
    return starts, windows, paths


@pytest.mark.parametrize(
    "kind, field, words",
    [
        ("zero", "disparity", "windows 1 and 2, frames 11 to 17"),
        ("nan", "disparity", "NaN"),
        ("infinite", "disparity", "infinite"),
        ("disjoint", "disparity", "nowhere above zero in both"),
        ("gap", "starts", "overlap"),
        ("falling", "starts", "overlap"),
        ("shape", "windows", "window 2"),
        ("count", "windows", "1 starts"),
    ],
)
def test_bad_windows_are_refused(kind, field, words):
    with pytest.raises(InputError, match=words) as error:
        align_windows(*bad_overlap(kind))
    assert error.value.field == field


def test_a_disparity_without_texture_has_a_scale():
    starts, windows, paths = bad_overlap(None)
    windows = [np.full_like(windows[0], 0.2), np.full_like(windows[1], 0.5)]
    assert align_windows(starts, windows, paths).alignments[1].disparity == pytest.approx(0.4)


def test_poses_that_tell_no_scale_are_refused_without_a_fallback():
    poses = np.tile(np.eye(4), (5, 1, 1))
    with pytest.raises(InputError, match="no scale") as error:
        fit_similarity(poses, poses)
    assert error.value.field == "poses"
    poses[1, 0, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        fit_similarity(poses, poses)
