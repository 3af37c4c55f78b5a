"""How far a result is from the truth, or from another result. NumPy only.

The command line, `aether.run.compare` and the `evaluation` package all measure with what is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError

ALIGNMENTS = ("median", "scale", "scale-l1", "scale-shift", "scale-shift-l2", "metric")
"""How depth is fitted to the truth before it is compared, see :func:`align_depth`."""


@dataclass(frozen=True)
class DepthErrors:
    """How far depth is from the truth once it is aligned.

    Attributes:
        abs_rel: mean of |depth - truth| / truth.
        delta1, delta2: share of pixels within a factor of 1.25 and of 1.25^2.
        scale, shift: the alignment, depth * scale + shift.
        pixels: how many counted.
    """

    abs_rel: float
    delta1: float
    delta2: float
    scale: float
    shift: float
    pixels: int


def psnr(a: np.ndarray, b: np.ndarray, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB; infinite where the arrays are equal.

    Raises:
        InputError: different shapes.
    """
    if np.shape(a) != np.shape(b):
        raise InputError("results", f"of shapes {np.shape(a)} and {np.shape(b)} cannot be compared")
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(peak**2 / error))


def stream_psnr(a: Any, b: Any) -> dict[str, float]:
    """PSNR in dB of each stream of ``b`` against ``a``, see :func:`stream_pairs`."""
    return {name: psnr(*pair) for name, pair in stream_pairs(a, b).items()}


def stream_pairs(a: Any, b: Any) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """What to compare of two results: stream to both arrays and their peak.

    RGB and disparity (limited to 0..1) have a peak of 1, the raymap its range in ``a``.

    Args:
        a, b: ``aether.generation.latents.Decoded``, or anything with rgb, disparity and raymap; a stream
            that is None in either is left out.
    """
    found = {name: (getattr(a, name), getattr(b, name)) for name in ("rgb", "disparity", "raymap")}
    pairs = {}
    for name, (left, right) in found.items():
        if left is None or right is None:
            continue
        if name == "disparity":
            left, right = np.clip(left, 0, 1), np.clip(right, 0, 1)
        pairs[name] = (left, right, float(np.ptp(left)) if name == "raymap" else 1.0)
    return pairs


def depth_errors(
    depth: np.ndarray,
    truth: np.ndarray,
    *,
    align: str = "median",
    max_depth: float | None = None,
    limit: float | None = None,
) -> DepthErrors:
    """Compare a sequence's depth with its true depth, aligned once for the whole sequence.

    Source: ``depth_evaluation`` in the reference's evaluation/video_depth/tools.py.

    Args:
        depth, truth: of one shape, usually (F, H, W). Pixels count where the truth is finite and above 0.
        align: one of ``ALIGNMENTS``.
        max_depth: only pixels nearer than this in the truth count.
        limit: the aligned depth is cut off here. The reference takes 70 for both on Sintel.

    Raises:
        InputError: different shapes; no pixel that counts; NaN or infinite depth; an unknown alignment, or
            one that the depth does not allow.
    """
    depth, truth = np.asarray(depth), np.asarray(truth)
    if depth.shape != truth.shape:
        raise InputError("depth", f"has shape {depth.shape}, but the truth {truth.shape}")
    known = np.isfinite(truth) & (truth > 0)
    if max_depth is not None:
        known &= truth < max_depth
    if not known.any():
        below = "" if max_depth is None else f" and below {max_depth:g}"
        raise InputError("truth", f"has no pixel with a finite depth above 0{below}; nothing can be measured")
    depth, truth = depth[known].astype(np.float64), truth[known].astype(np.float64)
    wrong = np.count_nonzero(~np.isfinite(depth))
    if wrong:
        raise InputError("depth", f"is NaN or infinite at {wrong} of the {depth.size} pixels that count")
    scale, shift = align_depth(depth, truth, align)
    aligned = np.minimum(depth * scale + shift, np.inf if limit is None else limit)
    # As in the reference, depth that a shift made negative counts as it is for Abs Rel.
    positive = np.maximum(aligned, 1e-5)
    factor = np.maximum(positive / truth, truth / positive)
    return DepthErrors(
        abs_rel=float((np.abs(aligned - truth) / truth).mean()),
        delta1=float((factor < 1.25).mean()),
        delta2=float((factor < 1.25**2).mean()),
        scale=float(scale),
        shift=float(shift),
        pixels=int(depth.size),
    )


def align_depth(depth: np.ndarray, truth: np.ndarray, align: str) -> tuple[float, float]:
    """Scale and shift that fit depth to the truth.

    Args:
        depth, truth: (N,) the pixels that count.
        align: "median": the medians' quotient. "scale": least absolute difference, by ten rounds of
            reweighted least squares, which come near it but hang on pixels that fit by chance: a rounding
            error can change the result by a percent. "scale-l1": the scale of least absolute difference
            itself, which is stable. "scale-shift": the same with a shift, by 1,000 steps of Adam of 1e-4 from
            the medians' quotient; such steps reach no farther than about 0.1, so it is no full fit.
            "scale-shift-l2": least squares. "metric": none. All but "scale-l1" as in the reference.

    Raises:
        InputError: an unknown alignment; depth that is 0 in the middle, which has no scale.
    """
    if align not in ALIGNMENTS:
        raise InputError("align", f"{align!r} is not one of {', '.join(ALIGNMENTS)}")
    if align == "metric":
        return 1.0, 0.0
    if align == "scale-shift-l2":
        columns = np.stack([depth, np.ones_like(depth)], axis=1)
        scale, shift = np.linalg.lstsq(columns, truth, rcond=None)[0]
        return scale, shift
    if align in ("scale", "scale-l1"):
        scale = _quotient(truth.mean(), depth.mean(), "mean")
        if align == "scale":
            return _reweighted_scale(depth, truth, scale), 0.0
        # Each pixel of truth / depth weighs as much as its depth: the median is where the slope changes sign.
        fits = depth != 0
        return weighted_median(truth[fits] / depth[fits], np.abs(depth[fits])), 0.0
    start = _quotient(_lower_median(truth), _lower_median(depth), "median")
    return _scale_shift_by_adam(depth, truth, start) if align == "scale-shift" else (start, 0.0)


def _quotient(truth: float, depth: float, what: str) -> float:
    if depth <= 0:
        raise InputError("depth", f"has a {what} of {depth:g}, so no scale fits it to the truth")
    return truth / depth


def _lower_median(values: np.ndarray) -> float:
    """The lower of the two middle values where there are two: PyTorch's median, not NumPy's."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value that half of the weight is at or below."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])


def _reweighted_scale(depth: np.ndarray, truth: np.ndarray, scale: float) -> float:
    for _ in range(10):
        weighted = depth / (np.abs(scale * depth - truth) + 1e-8)
        scale = (weighted @ truth) / (weighted @ depth)
    return max(scale, 1e-3)


def _scale_shift_by_adam(depth: np.ndarray, truth: np.ndarray, scale: float) -> tuple[float, float]:
    rate, decay, square_decay, steps, tolerance = 1e-4, 0.9, 0.999, 1000, 1e-6
    fit = np.array([scale, 0.0])
    mean, square = np.zeros(2), np.zeros(2)
    last = np.inf
    for step in range(1, steps + 1):
        difference = fit[0] * depth + (fit[1] - truth)
        signs = np.sign(difference)
        slope = np.array([signs @ depth, signs.sum()])
        mean = decay * mean + (1 - decay) * slope
        square = square_decay * square + (1 - square_decay) * slope**2
        size = np.sqrt(square / (1 - square_decay**step)) + 1e-8
        fit = fit - rate * mean / (1 - decay**step) / size
        loss = signs @ difference
        if abs(last - loss) < tolerance:
            break
        last = loss
    return fit[0], fit[1]
