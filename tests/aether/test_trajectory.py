"""Camera paths: presets, chains, resampling, and the way through a raymap and back."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.geometry import trajectory
from aether.geometry.cameras import Cameras
from aether.geometry.raymap import to_cameras


def error_of(first: Cameras, second: Cameras) -> float:
    """Largest difference of pose entries and of focal lengths (relative)."""
    focals = second.intrinsics[:, [0, 1], [0, 1]] / first.intrinsics[:, [0, 1], [0, 1]] - 1
    return float(max(np.abs(first.poses - second.poses).max(), np.abs(focals).max()))


@pytest.mark.parametrize("easing", trajectory.EASINGS)
@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_presets_come_back_from_their_raymap(name, easing):
    path = trajectory.preset(name, 0.8, frames=17, easing=easing, fov=70, start_fov=40)
    assert np.abs(path.poses[0] - np.eye(4)).max() < 1e-12
    assert error_of(path, to_cameras(trajectory.action(path, 17, 480, 720))) < 1e-5
    np.testing.assert_allclose(np.degrees(path.fov_x[[0, -1]]), [40, 70])


RIGHT, DOWN, FORWARD = np.eye(3)


@pytest.mark.parametrize(
    "name, position, looks",
    [
        ("static", 0 * RIGHT, FORWARD),
        ("dolly in", FORWARD, FORWARD),
        ("dolly out", -FORWARD, FORWARD),
        ("truck left", -RIGHT, FORWARD),
        ("truck right", RIGHT, FORWARD),
        ("pedestal up", -DOWN, FORWARD),
        ("pedestal down", DOWN, FORWARD),
        ("pan left", 0 * RIGHT, -RIGHT),
        ("pan right", 0 * RIGHT, RIGHT),
        ("tilt up", 0 * RIGHT, -DOWN),
        ("tilt down", 0 * RIGHT, DOWN),
        ("orbit left", 2 * FORWARD - 2 * RIGHT, RIGHT),
        ("orbit right", 2 * FORWARD + 2 * RIGHT, -RIGHT),
        ("crane up", -DOWN, (2 * FORWARD + DOWN) / 5**0.5),
        ("crane down", DOWN, (2 * FORWARD - DOWN) / 5**0.5),
    ],
)
def test_where_an_amount_of_1_leads(name, position, looks):
    """One unit of the nearest depth, or a quarter turn; orbit and crane keep the point 2 units ahead."""
    path = trajectory.preset(name, 1, frames=9)
    np.testing.assert_allclose(path.poses[-1, :3, 3], position, atol=1e-12)
    np.testing.assert_allclose(path.poses[-1, :3, 2], looks, atol=1e-12)
    back = trajectory.preset(name, -1, frames=9)
    if name != "static":
        assert np.abs(back.poses[-1] - path.poses[-1]).max() > 0.4


def test_rolling_right_is_clockwise():
    last = trajectory.preset("roll right", 1, frames=3).poses[-1]
    np.testing.assert_allclose(last[:3, :3] @ RIGHT, DOWN, atol=1e-12)


def test_orbit_and_crane_keep_their_point_in_the_middle():
    for name in ("orbit left", "crane up"):
        path = trajectory.preset(name, 0.6, distance=3.5)
        seen = np.linalg.inv(path.poses) @ [0, 0, 3.5, 1]
        assert np.abs(seen[:, :2]).max() < 1e-12
    distances = np.linalg.norm(trajectory.preset("orbit left", 0.6).poses[:, :3, 3] - 2 * FORWARD, axis=1)
    np.testing.assert_allclose(distances, 2)


def test_easings():
    steps = {
        easing: trajectory.preset("dolly in", 1, frames=5, easing=easing).poses[:, 2, 3]
        for easing in trajectory.EASINGS
    }
    np.testing.assert_allclose(steps["linear"], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(steps["ease in"], [0, 1 / 16, 1 / 4, 9 / 16, 1])
    np.testing.assert_allclose(steps["ease out"], [0, 7 / 16, 3 / 4, 15 / 16, 1])
    np.testing.assert_allclose(steps["ease in out"], [0, 5 / 32, 1 / 2, 27 / 32, 1])


def test_handheld_is_bounded_smooth_and_by_seed():
    for seed in range(30):
        path = trajectory.preset("handheld", 1, frames=200, fps=24, seed=seed)
        assert 0.02 < np.abs(path.poses[:, :3, 3]).max() <= trajectory.SWAY
        angles = np.degrees(np.arccos(np.clip(path.poses[:, 2, 2], -1, 1)))
        assert 1 < angles.max() <= trajectory.SWAY * trajectory.TURN * 2**0.5
        assert np.abs(np.diff(path.poses[:, :3, 3], axis=0)).max() < 0.02
    first, again, other = (trajectory.preset("handheld", 1, seed=seed).poses for seed in (1, 1, 2))
    assert (first == again).all() and np.abs(first - other).max() > 0.01
    # The pace is that of the clock, not of the frames.
    slow = trajectory.preset("handheld", 1, frames=9, fps=12).poses
    np.testing.assert_allclose(trajectory.preset("handheld", 1, frames=17, fps=24).poses[::2], slow)


def test_chain_goes_on_where_the_first_ended():
    pan = trajectory.preset("pan right", 1, frames=17, fov=50)
    dolly = trajectory.preset("dolly in", 0.5, frames=25, fov=80, start_fov=50)
    path = trajectory.chain(pan, dolly)
    assert len(path) == 41  # what Aether takes: the shared frame counts once
    np.testing.assert_allclose(path.poses[16], pan.poses[-1], atol=1e-12)
    np.testing.assert_allclose(path.poses[-1, :3, 3], 0.5 * RIGHT, atol=1e-12)  # forward is right now
    np.testing.assert_allclose(np.degrees(path.fov_x[[0, 16, -1]]), [50, 50, 80])
    assert error_of(path, to_cameras(trajectory.action(path, 41, 480, 720))) < 1e-5


def test_overlap_rounds_the_corner_and_all_of_it_is_both_at_once():
    truck = trajectory.preset("truck right", 1, frames=17, easing="linear")
    pedestal = trajectory.preset("pedestal up", 1, frames=17, easing="linear")
    sharp, soft, both = (trajectory.chain(truck, pedestal, overlap) for overlap in (0, 8, 16))
    assert [len(path) for path in (sharp, soft, both)] == [33, 25, 17]
    for path in (sharp, soft, both):
        np.testing.assert_allclose(path.poses[-1, :3, 3], RIGHT - DOWN, atol=1e-12)
    np.testing.assert_allclose(both.poses[:, 0, 3], -both.poses[:, 1, 3], atol=1e-12)
    bends = [np.abs(np.diff(path.poses[:, :3, 3], 2, axis=0)).max() for path in (sharp, both)]
    assert bends[0] > 0.05 and bends[1] < 1e-12


def test_chain_fits_the_first_to_the_seconds_picture():
    wide = trajectory.preset("static", frames=9, height=480, width=720)
    square = trajectory.preset("static", frames=9, fov=30, height=64, width=64)
    path = trajectory.chain(wide, square)
    assert (path.height, path.width) == (64, 64)
    np.testing.assert_allclose(path.fov_y[0], wide.fov_y[0])


@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_resampled_keeps_the_way(name):
    path = trajectory.preset(name, 0.5, frames=41)
    coarse = trajectory.resampled(path, 17)
    np.testing.assert_allclose(coarse.poses[[0, 8, 16]], path.poses[[0, 20, 40]], atol=1e-9)
    if name != "handheld":
        truth = trajectory.preset(name, 0.5, frames=17)
        assert error_of(truth, coarse) < 5e-4
    assert trajectory.resampled(path, 41) is path


def test_fitted_is_what_fitting_does_to_pictures():
    """A point's place in a picture, scaled and cropped, is its place through the fitted camera."""
    path = trajectory.preset("orbit left", 0.5, frames=3, height=480, width=720)
    point = np.array([0.2, -0.3, 2.0])
    x, y, z = path.intrinsics[0] @ point
    for height, width in ((64, 96), (64, 64), (128, 320)):
        scale = max(height / 480, width / 720)
        wanted = np.array([x / z, y / z]) * scale + np.array([width - scale * 720, height - scale * 480]) / 2
        u, v, w = trajectory.fitted(path, height, width).intrinsics[0] @ point
        np.testing.assert_allclose([u / w, v / w], wanted)


def test_action_is_relative_to_the_first_camera():
    path = trajectory.preset("truck right", 0.5, frames=17)
    elsewhere = Cameras(trajectory.preset("crane up", 1).poses[-1] @ path.poses, path.intrinsics, 480, 720)
    np.testing.assert_allclose(
        trajectory.action(elsewhere, 17, 64, 96), trajectory.action(path, 17, 64, 96), atol=1e-6
    )


@pytest.mark.parametrize("factor, kept", [(0.5, 1 / 17), (1, 1 / 2), (2, 16 / 17)])
def test_smoothed_takes_out_what_is_faster_than_the_period(factor, kept):
    """A sway of the period is halved, in place and in turn."""
    frames, period = 400, 16
    path = trajectory.preset("dolly in", 2, frames=frames, easing="linear")
    sway = np.sin(2 * np.pi * np.arange(frames) / (factor * period))
    poses = path.poses.copy()
    poses[:, 0, 3] = 0.1 * sway
    poses[:, :3, :3] = Rotation.from_euler("y", 0.05 * sway[:, None]).as_matrix()
    smooth = trajectory.smoothed(Cameras(poses, path.intrinsics, 480, 720), period).poses[64:-64]
    assert np.abs(smooth[:, 0, 3]).max() == pytest.approx(0.1 * kept, rel=0.03)
    assert np.abs(smooth[:, 0, 2]).max() == pytest.approx(0.05 * kept, rel=0.03)
    np.testing.assert_allclose(smooth[:, 2, 3], path.poses[64:-64, 2, 3], atol=1e-6)


def test_smoothed_comes_closer_to_the_truth():
    truth = trajectory.preset("orbit left", 0.6, frames=41)
    rng = np.random.default_rng(0)
    noise = np.tile(np.eye(4), (41, 1, 1))
    noise[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.01, (41, 3))).as_matrix()
    noise[:, :3, 3] = rng.normal(0, 0.01, (41, 3))
    focal = 1 + rng.normal(0, 0.02, (41, 1, 1)) * np.diag([1, 1, 0])
    noisy = Cameras(truth.poses @ noise, truth.intrinsics * np.where(focal == 0, 1, focal), 480, 720)
    smooth = trajectory.smoothed(noisy, 12)
    for part in (np.s_[:, :3, 3], np.s_[:, :3, :3]):
        before, after = (np.abs(one.poses[part] - truth.poses[part]).mean() for one in (noisy, smooth))
        assert after < 0.6 * before
    assert np.std(smooth.fov_x) < 0.5 * np.std(noisy.fov_x)
    assert trajectory.smoothed(noisy, 0) is noisy


def test_moves_written_as_text():
    assert trajectory.parse_move("orbit-left:0.5") == ("orbit left", 0.5)
    assert trajectory.parse_move("Dolly_In") == ("dolly in", 0.3)
    assert trajectory.parse_move("crane up:-1") == ("crane up", -1.0)


@pytest.mark.parametrize(
    "call, field",
    [
        (lambda: trajectory.preset("zoom"), "preset"),
        (lambda: trajectory.preset("pan left", float("nan")), "amount"),
        (lambda: trajectory.preset("pan left", "far"), "amount"),
        (lambda: trajectory.preset("pan left", frames=1), "frames"),
        (lambda: trajectory.preset("pan left", frames=17.0), "frames"),
        (lambda: trajectory.preset("pan left", easing="bounce"), "easing"),
        (lambda: trajectory.preset("pan left", fov=0), "fov"),
        (lambda: trajectory.preset("pan left", fov=180), "fov"),
        (lambda: trajectory.preset("pan left", start_fov=float("nan")), "fov"),
        (lambda: trajectory.preset("orbit left", distance=0), "distance"),
        (lambda: trajectory.preset("handheld", fps=0), "fps"),
        (lambda: trajectory.preset("handheld", seed=-1), "seed"),
        (lambda: trajectory.preset("static", width=0), "width"),
        (lambda: trajectory.chain(trajectory.preset("static", frames=9), trajectory.preset("static"), 9),
         "overlap"),
        (lambda: trajectory.chain(trajectory.preset("static"), trajectory.preset("static"), -1), "overlap"),
        (lambda: trajectory.resampled(trajectory.preset("static").select([0]), 17), "poses"),
        (lambda: trajectory.action(trajectory.preset("static"), 17, 60, 96), "height"),
        (lambda: trajectory.smoothed(trajectory.preset("static"), -1), "period"),
        (lambda: trajectory.smoothed(trajectory.preset("static"), float("nan")), "period"),
        (lambda: trajectory.smoothed(trajectory.preset("static", frames=4), 8), "cameras"),
        (lambda: trajectory.parse_move("spin:1"), "camera"),
        (lambda: trajectory.parse_move("pan left:much"), "camera"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(call, field):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field
