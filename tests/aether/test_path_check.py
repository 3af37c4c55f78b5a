"""Whether a camera path was followed, and what was wrong with it where it was not."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.geometry import trajectory
from aether.geometry.cameras import Cameras, cameras_from_fov
from aether.geometry.path_check import FAST, check_path
from aether.geometry.raymap import from_cameras, to_cameras


def path(frames: int = 41) -> Cameras:
    """A way that moves and turns about every axis, unlike in all of them."""
    steps = np.linspace(0, 1, frames)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(steps[:, None] * np.radians([12, -20, 6])).as_matrix()
    poses[:, :3, 3] = steps[:, None] * [0.5, -0.3, 0.8] + (steps**2)[:, None] * [0.2, 0.1, -0.3]
    return cameras_from_fov(poses, np.radians(60), np.radians(42), 64, 96)


def moved(poses: np.ndarray) -> Cameras:
    return replace(path(len(poses)), poses=poses).relative_to_first()


def noisy(cameras: Cameras, seed: int = 0) -> Cameras:
    """With the errors of a path that the miniature follows: 0.02 units, 1 degree."""
    rng = np.random.default_rng(seed)
    poses = cameras.poses.copy()
    poses[1:, :3, 3] += rng.normal(0, 0.02, (len(poses) - 1, 3))
    turns = Rotation.from_rotvec(np.radians(rng.normal(0, 1, (len(poses) - 1, 3))))
    poses[1:, :3, :3] = turns.as_matrix() @ poses[1:, :3, :3]
    return replace(cameras, poses=poses)


def flipped(poses: np.ndarray, *axes: int) -> np.ndarray:
    signs = np.ones(4)
    signs[list(axes)] = -1
    return np.diag(signs) @ poses @ np.diag(signs)


def transposed(poses: np.ndarray) -> np.ndarray:
    poses = poses.copy()
    poses[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    return poses


def shifted(poses: np.ndarray, axis: int) -> np.ndarray:
    poses = poses.copy()
    poses[:, axis, 3] *= -1
    return poses


def longer(poses: np.ndarray, factor: float) -> np.ndarray:
    poses = poses.copy()
    poses[:, :3, 3] *= factor
    return poses


def test_the_same_path():
    check = check_path(path(), path())
    assert check.followed and check.warning is None and check.causes == ()
    assert check.ate == 0 and check.rotation < 1e-4 and check.scale == pytest.approx(1)
    assert check.ate_share == 0 and check.fov_obtained == pytest.approx(60)
    assert check.to_dict()["warning"] is None


@pytest.mark.parametrize("seed", range(10))
def test_a_path_that_is_followed_with_noise(seed):
    check = check_path(path(), noisy(path(), seed))
    assert check.followed, check.summary
    assert 0.01 < check.ate_share < 0.1 and 0.5 < check.rotation < 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "change, cause",
    [
        (lambda poses: flipped(poses, 0), "axis x flipped"),
        (lambda poses: flipped(poses, 1), "axis y flipped"),
        (lambda poses: flipped(poses, 2), "axis z flipped"),
        (lambda poses: flipped(poses, 1, 2), "axes y and z flipped"),
        (lambda poses: shifted(poses, 0), "axis x flipped in the positions"),
        (lambda poses: shifted(poses, 2), "axis z flipped in the positions"),
        (transposed, r"the rotations are transposed .*"),
        (np.linalg.inv, "world-to-camera matrices were given as camera to world"),
        (lambda poses: longer(poses, 0.5), r"positions 0\.(49|5|51) times the asked ones: .*"),
        (lambda poses: longer(poses, 2), r"positions 2 times the asked ones: .*"),
        (
            lambda poses: longer(flipped(poses, 1, 2), 0.4),
            r"axes y and z flipped, and positions 0\.(38|39|4|41|42) times the asked ones: .*",
        ),
    ],
)
def test_mistakes_are_found(change, cause, seed):
    check = check_path(path(), noisy(moved(change(path().poses)), seed))
    assert not check.followed
    assert re.fullmatch(cause, check.causes[0])
    assert check.causes[0] in check.warning
    assert "field of view" not in check.problems


def test_world_to_camera_matrices_of_a_path_that_begins_elsewhere():
    """Inverted before the first camera became the world, which gives another path than inverting after it."""
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec([0.3, 1, -0.4]).as_matrix()
    start = replace(path(), poses=world @ path().poses)
    obtained = moved(np.linalg.inv(start.poses))
    after = np.linalg.inv(start.relative_to_first().poses)
    assert np.abs(obtained.poses - after).max() > 0.05
    assert check_path(start, noisy(obtained)).causes[0].startswith("world-to-camera")


@pytest.mark.parametrize("fov", [35, 90])
def test_another_field_of_view(fov):
    lens = cameras_from_fov(path().poses, np.radians(fov), np.radians(fov * 0.7), 64, 96)
    check = check_path(path(), lens)
    assert check.problems == ("field of view",)
    assert check.causes == (f"the field of view: 60 degrees were asked for, the picture looks like {fov}",)
    assert check_path(path(), replace(path(), intrinsics=path().intrinsics * [[1.1], [1.1], [1]])).followed


def test_too_fast():
    """A quarter turn in 17 frames; what comes out turns half as far."""
    asked = trajectory.preset("orbit left", 1, frames=17)
    check = check_path(asked, trajectory.preset("orbit left", 0.5, frames=17))
    assert check.speed > FAST and check.causes[0].startswith("too fast")
    slow = trajectory.preset("truck left", 0.4, frames=41)
    check = check_path(slow, slow.scaled(0.5))
    assert check.speed < FAST and check.causes[0].startswith("positions 0.5 times")


def test_a_mistake_that_changes_nothing_is_no_cause():
    """On a dolly, axes x and y do not show."""
    dolly = trajectory.preset("dolly in", 0.6, frames=17)
    check = check_path(dolly, dolly.scaled(0.4))
    assert check.causes == (check.causes[0],) and "flipped" not in check.causes[0]


def test_unlike_anything():
    rng = np.random.default_rng(3)
    check = check_path(path(), moved(longer(path().poses, 1) + 0))
    assert check.followed
    poses = path().poses.copy()
    poses[1:, :3, 3] = rng.normal(0, 0.5, (40, 3))
    check = check_path(path(), moved(poses))
    assert check.problems == ("position",) and check.causes == ()
    assert "none of the usual mistakes" in check.warning


def test_a_camera_that_should_stay():
    still = trajectory.preset("static", frames=17)
    assert check_path(still, still).ate_share is None
    check = check_path(still, trajectory.preset("truck left", 0.5, frames=17))
    assert check.problems == ("position",) and check.scale is None
    assert "units off" in check.summary


def test_any_length_size_and_place():
    """As task inputs are: the asked path is stretched, and begins at the first camera."""
    asked = path(81)
    away = Rotation.from_rotvec([0.3, 1, -0.4]).as_matrix()
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = away, (3, 4, 5)
    larger = Cameras(world @ asked.poses, asked.intrinsics * [[5], [5], [1]], 320, 480)
    obtained = to_cameras(trajectory.action(larger, 17, 64, 96))
    check = check_path(larger, obtained)
    assert check.followed and check.frames == 17 and check.ate < 0.01


def test_through_a_raymap():
    """What a model would be given and gives back."""
    wrong = moved(flipped(path().poses, 1, 2))
    raymap = from_cameras(wrong.poses, wrong.intrinsics, 64, 96)
    assert check_path(path(), to_cameras(raymap)).causes == ("axes y and z flipped",)


def test_refusals():
    with pytest.raises(InputError, match=r"^cameras: one camera is no path"):
        check_path(path(), path().select([0]))
    with pytest.raises(InputError, match=r"^poses: one pose is no path"):
        check_path(path().select([0]), path())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [501, 503])
def test_a_prediction_of_the_miniature(seed):
    """Held-out scenes: a plain move is followed, and the same result is not what a wrong path asks for."""
    from aether.miniature import build
    from aether.run import job

    model = build()
    inputs = job.gather(model, "prediction", {"image": f"synthetic:{seed}"}, camera="truck-left:0.4")
    result = job.run(model, inputs, job.Settings(steps=16, seed=0))
    found = result.report["camera"]
    assert found["followed"] and found["warning"] is None, found["summary"]
    for wrong in (inputs.asked.scaled(2.5), moved(flipped(inputs.asked.poses, 0))):
        assert "position" in check_path(wrong, result.cameras).problems
