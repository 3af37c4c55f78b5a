"""Windows of a long clip, put back together: which frames each takes, and how their results are joined.

Aether sees at most 41 frames at once. A longer clip is reconstructed in windows that overlap, each with a
unit of length and a world of its own. Here they are brought into the first window's, one after the other:
disparity by one factor, poses by one similarity (scale, rotation, translation), focal lengths by a factor per
axis, all measured on the overlap; over it, one window fades into the next. Arrays in, arrays out.

Source: ``get_window_starts`` and ``blend_and_merge_window_results`` in the reference's scripts/demo.py. Five
things are done otherwise, because the reference is not exact there:

- Its alignment of cameras is that of world-to-camera matrices, but it is given camera-to-world ones. What it
  finds turns every camera about itself instead of moving the world; the two agree only without rotation. Its
  rotation may also come out as a reflection, and its scale shrinks with noise, even below zero.
- Its disparity factor is a regression on one window's noisy values, which makes it too small, a little more
  with every window; and it counts only disparities above 0.1, so that it is 0 where all is far.
- The path of the first window is smoothed and those of the others are not.
- Clips shorter than a window have none, and strides longer than one leave holes.
- Quaternions close to each other are mixed, not interpolated along the arc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

from ..arrays import finite_array
from ..errors import InputError, about
from ..generation.latents import Decoded
from ..geometry.cameras import Cameras
from ..geometry.metrics import weighted_median
from ..geometry.raymap import from_cameras

REFERENCE_STRIDE, REFERENCE_LENGTH = 24, 41
MIN_AGREEMENT = 0.8
"""Positions that correlate less than this tell noise, not scale: the camera hardly moves in the overlap."""
_STILL = 1e-6  # in Aether's unit, the nearest depth
_TRIM = 3.0
_SAMPLES = 500_000


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, poses: np.ndarray) -> np.ndarray:
        """Camera-to-world poses (F, 4, 4) in the new world; they stay rigid."""
        moved = poses.copy()
        moved[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        moved[:, :3, 3] = self.scale * poses[:, :3, 3] @ self.rotation.T + self.translation
        return moved


@dataclass(frozen=True)
class Alignment:
    """What brings a window's result to those before it.

    Attributes:
        disparity: factor of its disparities.
        similarity: of its poses.
        focal: (2,) factors of its focal lengths along x and y.
        disparity_spread: median relative error of the disparities in the overlap; 0 is a perfect fit.
        scale_from: "positions", or "disparity" where the camera stood still in the overlap.
    """

    disparity: float
    similarity: Similarity
    focal: np.ndarray
    disparity_spread: float = 0.0
    scale_from: str = "positions"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "disparity_scale": self.disparity,
            "disparity_spread": self.disparity_spread,
            "pose_scale": self.similarity.scale,
            "pose_scale_from": self.scale_from,
            "pose_rotation": self.similarity.rotation.tolist(),
            "pose_translation": self.similarity.translation.tolist(),
            "focal_scale": self.focal.tolist(),
        }


@dataclass(frozen=True)
class Merge:
    """How windows become one clip.

    Attributes:
        starts: first frame of each window.
        length: frames of a window.
        alignments: one per window; the first changes nothing.
        cameras: of the whole clip, in the first window's world.
        unit: the clip's unit of length is this many times shorter than the first window's, so that no window
            has its nearest depth below 1. Already in ``cameras``; disparities are divided by it.
    """

    starts: tuple[int, ...]
    length: int
    alignments: tuple[Alignment, ...]
    cameras: Cameras
    unit: float

    def __len__(self) -> int:
        return self.starts[-1] + self.length

    def rgb(self, windows: Sequence[Any], frame: int) -> np.ndarray:
        """A frame (H, W, 3) of the clip, from the windows' RGB: (length, H, W, 3) each, or what can be
        indexed alike. uint8 stays uint8."""
        return blend(windows, blend_weights(self.starts, self.length, frame), self.starts, frame)

    def disparity(self, windows: Sequence[Any], frame: int) -> np.ndarray:
        """A frame (H, W) of the clip, from the windows' disparities, (length, H, W) each."""
        parts = blend_weights(self.starts, self.length, frame)
        factors = [alignment.disparity / self.unit for alignment in self.alignments]
        return blend(windows, parts, self.starts, frame, factors)


def default_stride(length: int) -> int:
    """The reference's 24 for windows of 41 frames, the same share of shorter ones."""
    return max(1, round(length * REFERENCE_STRIDE / REFERENCE_LENGTH))


def window_starts(frames: int, length: int, stride: int | None = None) -> tuple[int, ...]:
    """First frames of windows that cover a clip; the last window ends with it, so its stride may be shorter.

    Args:
        frames: of the clip.
        length: of a window.
        stride: frames from one window to the next, 1 to length - 1; default :func:`default_stride`.

    Raises:
        InputError: fewer than 2 frames; a clip shorter than a window; a stride that leaves no overlap.
    """
    for name, value in (("frames", frames), ("window", length)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 2:
            raise InputError(name, f"{value!r} is not a number of frames from 2")
    if frames < length:
        raise InputError("frames", f"{frames} do not fill a window of {length}; take a shorter window")
    stride = default_stride(length) if stride is None else stride
    if isinstance(stride, bool) or not isinstance(stride, Integral) or not 1 <= stride < length:
        raise InputError(
            "stride", f"{stride!r} is not from 1 to {length - 1}; windows of {length} frames must overlap"
        )
    last = frames - length
    return tuple(dict.fromkeys([*range(0, last, stride), last]))


def blend_weights(starts: Sequence[int], length: int, frame: int) -> list[tuple[int, float]]:
    """(window, weight) of those that make a frame; weights add up to 1.

    Each window fades in linearly over what it shares with those before it, from 0 at its first frame to 1 at
    the last that they reach.
    """
    parts: list[tuple[int, float]] = []
    for window, start in enumerate(starts):
        if not start <= frame < start + length:
            continue
        overlap = starts[window - 1] + length - start
        share = (frame - start) / max(overlap - 1, 1) if parts else 1.0
        parts = [(earlier, weight * (1 - share)) for earlier, weight in parts]
        parts.append((window, share))
    return [(window, weight) for window, weight in parts if weight > 0]


def blend(
    windows: Sequence[Any],
    parts: Sequence[tuple[int, float]],
    starts: Sequence[int],
    frame: int,
    factors: Sequence[float] | None = None,
) -> np.ndarray:
    """Weighted sum of one frame's pictures; a single picture with a factor of 1 stays as it is, bit for bit.

    Args:
        windows: per window its pictures, (length, ...).
        parts: (window, weight), see :func:`blend_weights`.
        factors: per window, multiplied to its values.
    """
    pictures = [windows[window][frame - starts[window]] for window, _ in parts]
    weights = [weight * (1.0 if factors is None else factors[window]) for window, weight in parts]
    if weights == [1.0]:
        return pictures[0]
    total = sum(np.float32(w) * p.astype(np.float32) for w, p in zip(weights, pictures, strict=True))
    return (total + 0.5).astype(np.uint8) if pictures[0].dtype == np.uint8 else total


def fit_disparity(window: Any, merged: Any) -> tuple[float, float]:
    """The factor that brings a window's disparities to those already merged, and how well it fits.

    Least squares with errors in both, which gives sqrt(sum merged^2 / sum window^2): noise alike in both does
    not bias it, and the way back is exactly its inverse. Pixels far off the weighted median of the quotients
    (more than 3 standard deviations, by the median) are left out first: occlusions, flicker.

    Args:
        window, merged: disparities of the same frames, (F, H, W).

    Returns:
        the factor, and the median relative error.

    Raises:
        InputError: shapes that differ, NaN, infinities, nothing above zero in common.
    """
    source, target, logs, middle, spread = _quotients(window, merged)
    keep = np.abs(logs - middle) <= _TRIM * 1.4826 * spread + 1e-6
    factor = np.sqrt(np.square(target[keep]).sum() / np.square(source[keep]).sum())
    if not (np.isfinite(factor) and factor > 0):
        raise InputError("disparity", "is too small in one of the windows for a scale to be found")
    return float(factor), float(np.expm1(spread))


def middle_disparity(window: Any, merged: Any) -> tuple[float, float]:
    """The same by the weighted median of the quotients alone: where the two differ in shape, as windows do
    that were imagined one after the other, it keeps to what most near surfaces say.

    Args, returns and raises as :func:`fit_disparity`.
    """
    *_, middle, spread = _quotients(window, merged)
    return float(np.exp(middle)), float(np.expm1(spread))


def _quotients(window: Any, merged: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Disparities above zero in both, the logarithms of their quotients, those's weighted median, and the
    median distance from it."""
    merged = finite_array(merged, "disparity", (None, None, None))
    window = finite_array(window, "disparity", merged.shape)
    common = (window > 0) & (merged > 0)
    if not common.any():
        raise InputError("disparity", "is nowhere above zero in both windows, so no scale fits them")
    source, target = window[common].astype(np.float64), merged[common].astype(np.float64)
    logs = np.log(target) - np.log(source)
    # Near pixels count more: a far one's quotient is mostly noise.
    thin = slice(None, None, max(1, logs.size // _SAMPLES))
    weights = (source * target)[thin]
    middle = weighted_median(logs[thin], weights)
    spread = weighted_median(np.abs(logs[thin] - middle), weights)
    return source, target, logs, middle, spread


def fit_similarity(poses: Any, target: Any, fallback_scale: float | None = None) -> tuple[Similarity, str]:
    """The similarity that brings camera-to-world poses to target poses; exact where there is one.

    Rotation: positions (as in Umeyama's and Horn's closed form) and orientations together, each weighted by
    the noise that is seen in it; so straight paths and turns on the spot are determined too. Scale: Horn's
    symmetric one, the quotient of the positions' spreads, which noise alike in both does not bias. Frames
    with errors above three times the median are left out, and the fit is repeated.

    Args:
        poses, target: (F, 4, 4) of the same frames, one or more.
        fallback_scale: taken where positions do not tell the scale, since the camera hardly moves.

    Returns:
        the similarity, and where its scale is from: "positions" or "disparity" (the fallback).

    Raises:
        InputError: shapes that differ, NaN, infinities; no scale and no fallback.
    """
    target = finite_array(target, "poses", (None, 4, 4)).astype(np.float64)
    poses = finite_array(poses, "poses", target.shape).astype(np.float64)
    rough = _rough_fit(poses, target)
    for _ in range(5):
        offsets, angles = _pose_errors(rough.apply(poses), target)
        alike = angles <= _TRIM * np.median(angles) + 1e-6
        both = alike & (offsets <= _TRIM * np.median(offsets) + _STILL)
        keep = both if both.any() else alike
        rough, origin = _fit_once(poses[keep], target[keep], fallback_scale)
    return rough, origin


def _rough_fit(poses: np.ndarray, target: np.ndarray) -> Similarity:
    """A fit by medians, which up to half of the frames cannot spoil; it only serves to find those."""
    turns = target[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1)
    apart = np.linalg.norm(turns[:, None] - turns[None], axis=(2, 3))
    rotation = turns[np.median(apart, axis=1).argmin()]
    path, target_path = poses[:, :3, 3], target[:, :3, 3]
    pairs = np.triu_indices(len(poses), k=1)
    lengths, target_lengths = (np.linalg.norm(p[pairs[0]] - p[pairs[1]], axis=1) for p in (path, target_path))
    moving = (lengths > _STILL) & (target_lengths > _STILL)
    scale = float(np.median(target_lengths[moving] / lengths[moving])) if moving.any() else 1.0
    shifts = target_path - scale * path @ rotation.T
    return Similarity(scale, rotation, np.median(shifts, axis=0))


def _fit_once(poses: np.ndarray, target: np.ndarray, fallback_scale: float | None) -> tuple[Similarity, str]:
    center, target_center = poses[:, :3, 3].mean(axis=0), target[:, :3, 3].mean(axis=0)
    path, target_path = poses[:, :3, 3] - center, target[:, :3, 3] - target_center
    turns = np.einsum("fij,fkj->ik", target[:, :3, :3], poses[:, :3, :3])
    moves = target_path.T @ path
    rotation = _nearest_rotation(turns)
    # The weights hang on the fit and the fit on the weights; a few rounds settle it.
    for _ in range(4):
        scale, origin = _fit_scale(path, target_path, rotation, fallback_scale)
        fit = Similarity(scale, rotation, target_center - scale * rotation @ center)
        offsets, angles = _pose_errors(fit.apply(poses), target)
        spread = np.square(target_path).sum(axis=1).mean()
        offset_variance = max(np.square(offsets).mean() / 3, 1e-12 * spread, 1e-24)
        angle_variance = max(np.square(angles).mean() / 3, 1e-12)
        rotation = _nearest_rotation(scale * moves / offset_variance + turns / (2 * angle_variance))
    return Similarity(scale, rotation, target_center - scale * rotation @ center), origin


def _fit_scale(
    path: np.ndarray, target_path: np.ndarray, rotation: np.ndarray, fallback: float | None
) -> tuple[float, str]:
    extent, target_extent = np.linalg.norm(path), np.linalg.norm(target_path)
    still = _STILL * np.sqrt(len(path))
    if extent > still and target_extent > still:
        agreement = np.sum(target_path * (path @ rotation.T)) / (extent * target_extent)
        if agreement >= MIN_AGREEMENT:
            return float(target_extent / extent), "positions"
    if fallback is None:
        raise InputError("poses", "hardly move, or move differently, in the overlap: they tell no scale")
    return float(fallback), "disparity"


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix)
    left[:, 2] *= np.linalg.det(left @ right)
    return left @ right


def _pose_errors(poses: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and angles in radians, (F,) each."""
    offsets = np.linalg.norm(poses[:, :3, 3] - target[:, :3, 3], axis=1)
    # By the chord, which is exact for small angles, unlike the trace.
    chord = np.linalg.norm(poses[:, :3, :3] - target[:, :3, :3], axis=(1, 2)) / np.sqrt(8)
    return offsets, 2 * np.arcsin(np.minimum(chord, 1))


def join_cameras(merged: Cameras, window: Cameras, start: int) -> Cameras:
    """Merged cameras, then an aligned window's, faded over the frames they share: positions and intrinsics
    linearly, orientations along the arc.

    Args:
        start: the window's first frame in the clip, within ``merged``; the window ends after it.
    """
    from scipy.spatial.transform import Rotation, Slerp

    overlap = len(merged) - start
    shares = np.linspace(0, 1, overlap) if overlap > 1 else np.zeros(1)
    poses = np.concatenate([merged.poses, window.poses[overlap:]])
    intrinsics = np.concatenate([merged.intrinsics, window.intrinsics[overlap:]])
    for i, share in enumerate(shares):
        pair = np.stack([merged.poses[start + i], window.poses[i]])
        arc = Slerp([0, 1], Rotation.from_matrix(pair[:, :3, :3]))
        poses[start + i, :3, :3] = arc(share).as_matrix()
        poses[start + i, :3, 3] = (1 - share) * pair[0, :3, 3] + share * pair[1, :3, 3]
        intrinsics[start + i] = (1 - share) * merged.intrinsics[start + i] + share * window.intrinsics[i]
    return replace(merged, poses=poses, intrinsics=intrinsics)


def align_windows(starts: Sequence[int], disparities: Sequence[Any], cameras: Sequence[Cameras]) -> Merge:
    """Find what brings windows together. Reads of the disparities only the frames that windows share, one
    overlap at a time, so they may lie in files.

    Args:
        starts: first frames, rising by less than a window; see :func:`window_starts`.
        disparities: per window (length, H, W), or what can be indexed alike.
        cameras: per window.

    Raises:
        InputError: windows that do not fit each other or do not overlap, or an overlap that gives no scale;
            the message names the windows and frames.
    """
    starts, length = _check_windows(starts, disparities, cameras)
    merged = cameras[0]
    alignments = [Alignment(1.0, Similarity(1.0, np.eye(3), np.zeros(3)), np.ones(2))]
    for window in range(1, len(starts)):
        start, shared = starts[window], range(starts[window], len(merged))
        poses, intrinsics = cameras[window].poses, cameras[window].intrinsics.copy()
        where = f"windows {window} and {window + 1}, frames {shared[0] + 1} to {shared[-1] + 1}"
        with about(where, "; try another stride"):
            factors = [alignment.disparity for alignment in alignments]
            weights = {frame: blend_weights(starts[:window], length, frame) for frame in shared}
            before = [blend(disparities, parts, starts, frame, factors) for frame, parts in weights.items()]
            factor, spread = fit_disparity(disparities[window][: len(shared)], np.stack(before))
            fit, origin = fit_similarity(poses[: len(shared)], merged.poses[start:], 1 / factor)
        focals, merged_focals = (k[:, [0, 1], [0, 1]] for k in (intrinsics, merged.intrinsics[start:]))
        focal = np.median(merged_focals / focals[: len(shared)], axis=0)
        alignments.append(Alignment(factor, fit, focal, spread, origin))
        intrinsics[:, [0, 1], [0, 1]] *= focal
        aligned = replace(cameras[window], poses=fit.apply(poses), intrinsics=intrinsics)
        merged = join_cameras(merged, aligned, start)
    # Depth is 1 / disparity with disparities above 1 cut off: the nearest window must set the unit.
    unit = max(alignment.disparity for alignment in alignments)
    return Merge(starts, length, tuple(alignments), merged if unit == 1 else merged.scaled(unit), unit)


def merge_windows(
    starts: Sequence[int], windows: Sequence[Decoded], cameras: Sequence[Cameras]
) -> tuple[Decoded, Merge]:
    """Put decoded windows together in memory. One window comes back as it is.

    Args:
        starts: first frames, see :func:`window_starts`.
        windows: results, (length, ...) each.
        cameras: read off the windows' raymaps, see ``aether.geometry.raymap.to_cameras``.

    Returns:
        the clip's RGB, disparity and raymap (that of the merged cameras), and how they were joined.

    Raises:
        InputError: see :func:`align_windows`; NaN or infinite values.
    """
    for window in windows:
        finite_array(window.rgb, "rgb", (None, None, None, 3))
        finite_array(window.disparity, "disparity", (None, None, None))
    rgb, disparity = [w.rgb for w in windows], [w.disparity for w in windows]
    merge = align_windows(starts, disparity, cameras)
    if len(windows) == 1:
        return windows[0], merge
    path, frames = merge.cameras, range(len(merge))
    decoded = Decoded(
        np.stack([merge.rgb(rgb, f) for f in frames]),
        np.stack([merge.disparity(disparity, f) for f in frames]),
        from_cameras(path.poses, path.intrinsics, path.height, path.width),
    )
    return decoded, merge


def _check_windows(
    starts: Sequence[int], disparities: Sequence[Any], cameras: Sequence[Cameras]
) -> tuple[tuple[int, ...], int]:
    if not len(starts) == len(disparities) == len(cameras) or not len(starts):
        raise InputError(
            "windows", f"{len(starts)} starts, {len(disparities)} results and {len(cameras)} camera paths"
        )
    length = len(cameras[0])
    for window, (disparity, path) in enumerate(zip(disparities, cameras, strict=True)):
        shape = (length, cameras[0].height, cameras[0].width)
        if tuple(disparity.shape) != shape or (len(path), path.height, path.width) != shape:
            found = f"{tuple(disparity.shape)} and {(len(path), path.height, path.width)}"
            raise InputError("windows", f"window {window + 1} has shapes {found}, the first {shape}")
    strides = np.diff([0, *starts])
    if starts[0] != 0 or (strides[1:] < 1).any() or (strides >= length).any():
        raise InputError(
            "starts", f"{list(starts)} do not rise from 0 in steps of 1 to {length - 1}: windows must overlap"
        )
    return tuple(int(start) for start in starts), length
