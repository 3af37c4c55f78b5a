"""Camera paths against their truth, measured by evo as in the reference's evaluation/rel_pose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aether.errors import InputError, about

from .depth import common_length
from .sources import Match, checked_poses


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a camera path after Sim(3) alignment, each the root of a mean square over frames.

    Attributes:
        ate: absolute translation error, in the truth's unit.
        rpe_trans: error of the translation from frame to frame, in the truth's unit.
        rpe_rot: error of the rotation from frame to frame, in degrees.
        scale: by which the predicted path was multiplied.
    """

    ate: float
    rpe_trans: float
    rpe_rot: float
    scale: float


def pose_errors(poses: np.ndarray, truth: np.ndarray) -> PoseErrors:
    """Align a whole path by Umeyama's method with scale, then measure it.

    Source: ``eval_metrics`` in evaluation/rel_pose/evo_utils.py.

    Args:
        poses, truth: (F, 4, 4) camera to world, F at least 3.

    Raises:
        InputError: different lengths, fewer than three frames, or a path that stays in one place or on one
            line, to which nothing can be aligned.
        ImportError: evo is missing.
    """
    poses, truth = _checked(poses, truth, at_least=3)
    _evo()
    from evo.core.geometry import GeometryException
    from evo.core.metrics import APE, PoseRelation

    path, true_path = _path(poses), _path(truth)
    try:
        scale = path.align(true_path, correct_scale=True)[2]
    except GeometryException as error:
        raise InputError(
            "poses", "the path, or the true one, stays in one place or on one line; Sim(3) cannot align it"
        ) from error
    absolute = APE(PoseRelation.translation_part)
    absolute.process_data((true_path, path))
    return PoseErrors(
        ate=_rmse(absolute),
        rpe_trans=_relative(path, true_path, PoseRelation.translation_part),
        rpe_rot=_relative(path, true_path, PoseRelation.rotation_angle_deg),
        scale=float(scale),
    )


def rotation_error(poses: np.ndarray, truth: np.ndarray) -> float:
    """RPE rotation in degrees alone, which no alignment changes: also for paths that Sim(3) cannot align.

    Args:
        poses, truth: (F, 4, 4) camera to world, F at least 2.

    Raises:
        InputError: different lengths or a single frame.
        ImportError: evo is missing.
    """
    poses, truth = _checked(poses, truth, at_least=2)
    _evo()
    from evo.core.metrics import PoseRelation

    return _relative(_path(poses), _path(truth), PoseRelation.rotation_angle_deg)


def score_poses(match: Match, *, leading: bool = False) -> PoseErrors:
    """Score one sequence.

    Args:
        leading: score the first frames where a prediction has fewer than the truth.

    Raises:
        InputError: as :func:`pose_errors`, and names the sequence.
    """
    poses, truth = match.prediction.poses(), match.truth.poses()
    with about(match.name):
        frames = common_length(len(poses), len(truth), leading)
        return pose_errors(poses[:frames], truth[:frames])


def average_poses(errors: list[PoseErrors]) -> dict[str, float]:
    """Plain means over sequences, as in the reference."""
    return {
        name: float(np.mean([getattr(error, name) for error in errors]))
        for name in ("ate", "rpe_trans", "rpe_rot")
    }


def _checked(poses: Any, truth: Any, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    poses, truth = checked_poses(poses, "the prediction"), checked_poses(truth, "the truth")
    if len(poses) != len(truth):
        raise InputError("poses", f"{len(poses)} predicted, but {len(truth)} true ones")
    if len(poses) < at_least:
        raise InputError("poses", f"{len(poses)} frames are too few; at least {at_least} are needed")
    return poses, truth


def _evo() -> None:
    try:
        import evo.core  # noqa: F401
    except ImportError as error:
        raise ImportError('camera paths are measured by evo: pip install ".[evaluation]"') from error


def _path(poses: np.ndarray) -> Any:
    from evo.core.trajectory import PosePath3D
    from scipy.spatial.transform import Rotation

    # By way of quaternions, as in the reference: matrices that are off by rounding become rotations.
    x, y, z, w = Rotation.from_matrix(poses[:, :3, :3]).as_quat().T
    return PosePath3D(positions_xyz=poses[:, :3, 3], orientations_quat_wxyz=np.stack([w, x, y, z], axis=1))


def _relative(path: Any, true_path: Any, relation: Any) -> float:
    from evo.core.metrics import RPE, Unit

    metric = RPE(relation, delta=1, delta_unit=Unit.frames, all_pairs=True)
    metric.process_data((true_path, path))
    return _rmse(metric)


def _rmse(metric: Any) -> float:
    from evo.core.metrics import StatisticsType

    return float(metric.get_statistic(StatisticsType.rmse))
