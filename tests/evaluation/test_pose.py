"""Camera paths: by hand, against evo's own commands, and against the reference (README.md here)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from evaluation.pose import PoseErrors, average_poses, pose_errors, rotation_error

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def path(frames: int, wobble: float) -> np.ndarray:
    """A curved path, (frames, 4, 4)."""
    t = np.arange(frames) / (frames - 1)
    turns = [0.1 * np.sin(5 * t) + wobble * np.cos(9 * t), 0.5 * t + wobble * np.sin(7 * t), wobble * t]
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.stack(turns, axis=1)).as_matrix()
    x = 2 * np.sin(2 * t) + wobble * np.sin(11 * t)
    y = 0.3 * np.cos(4 * t) + wobble * np.cos(8 * t)
    poses[:, :3, 3] = np.stack([x, y, 3 * t], axis=1)
    return poses


def moved(poses: np.ndarray, scale: float) -> np.ndarray:
    """The same path in another frame and unit."""
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    frame[:3, 3] = [4, -1, 2]
    result = frame @ poses
    result[:, :3, 3] *= scale
    return result


def test_errors_are_the_references():
    pytest.importorskip("evo")
    errors = pose_errors(moved(path(9, 0.05), 0.4), path(9, 0.0))
    assert errors.ate == pytest.approx(GOLDEN["pose"]["ate"], rel=1e-9)
    assert errors.rpe_trans == pytest.approx(GOLDEN["pose"]["rpe_trans"], rel=1e-9)
    assert errors.rpe_rot == pytest.approx(GOLDEN["pose"]["rpe_rot"], rel=1e-9)


def test_sim3_is_taken_out():
    pytest.importorskip("evo")
    errors = pose_errors(moved(path(9, 0.0), 0.25), path(9, 0.0))
    assert errors.scale == pytest.approx(4)
    assert (errors.ate, errors.rpe_trans) == pytest.approx((0, 0), abs=1e-12)
    assert errors.rpe_rot == pytest.approx(0, abs=1e-5)


def test_rotation_by_hand():
    pytest.importorskip("evo")
    truth = path(4, 0.0)
    turned = truth.copy()
    # From the third frame on, 5 degrees more: one of three steps is off by 5.
    turned[2:, :3, :3] = Rotation.from_euler("y", 5, degrees=True).as_matrix() @ turned[2:, :3, :3]
    expected = np.sqrt(5**2 / 3)
    assert pose_errors(turned, truth).rpe_rot == pytest.approx(expected)
    assert rotation_error(turned, truth) == pytest.approx(expected)
    assert rotation_error(moved(turned, 3), truth) == pytest.approx(expected)


def test_translation_by_hand():
    pytest.importorskip("evo")
    # A square's corners, one pair of opposite ones lifted by h and the other lowered: no Sim(3) makes that
    # flat but a change of scale, which the least squares below gives too.
    flat = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    h = 0.1
    bent = flat + [[0, 0, h], [0, 0, -h], [0, 0, h], [0, 0, -h]]
    truth, poses = np.tile(np.eye(4), (2, 4, 1, 1))
    truth[:, :3, 3], poses[:, :3, 3] = flat, bent
    errors = pose_errors(poses, truth)
    scale = 1 / (1 + h**2)
    assert errors.scale == pytest.approx(scale)
    assert errors.ate == pytest.approx(np.sqrt((1 - scale) ** 2 + (scale * h) ** 2))
    # Each step is sqrt(2) long in the plane, and 2 h up or down.
    assert errors.rpe_trans == pytest.approx(np.sqrt(2 * (1 - scale) ** 2 + (2 * scale * h) ** 2))


def test_average_is_plain():
    errors = [PoseErrors(0.1, 0.2, 1.0, 1), PoseErrors(0.3, 0.4, 3.0, 2)]
    assert average_poses(errors) == pytest.approx({"ate": 0.2, "rpe_trans": 0.3, "rpe_rot": 2})


def nan(poses):
    poses[1, 0, 3] = np.nan
    return poses


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[:8],
        lambda p: p[:1],
        nan,
        lambda p: p[:, :3],
        lambda p: p * 2,
        lambda p: np.repeat(p[:1], 9, axis=0),
    ],
    ids=["shorter", "one frame", "nan", "3x4", "no rotation", "stands still"],
)
def test_bad_paths_are_refused(change):
    pytest.importorskip("evo")
    with pytest.raises(InputError) as caught:
        pose_errors(change(path(9, 0.0)), path(9, 0.0))
    assert caught.value.field == "poses"


def test_few_frames_are_refused():
    pytest.importorskip("evo")
    for frames in (1, 2):
        with pytest.raises(InputError, match="too few"):
            pose_errors(path(9, 0)[:frames], path(9, 0)[:frames])
    with pytest.raises(InputError, match="too few"):
        rotation_error(path(9, 0)[:1], path(9, 0)[:1])


def test_without_evo_it_is_said(monkeypatch):
    for name in [name for name in sys.modules if name == "evo" or name.startswith("evo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evo", None)
    with pytest.raises(ImportError, match=r"pip install .*evaluation"):
        pose_errors(path(9, 0), path(9, 0))
