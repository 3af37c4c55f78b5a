"""Depth of a sequence against its truth, by the papers' protocol: the reference's evaluation/video_depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aether.errors import InputError, about
from aether.geometry.metrics import DepthErrors, depth_errors

from .sources import Match, Prediction

VIEWS = ("auto", "crop", "full")


@dataclass(frozen=True)
class DepthProtocol:
    """How depth is scored.

    Args:
        align: see ``aether.geometry.metrics.align_depth``. The reference's own script takes "scale".
        max_depth, limit: see ``aether.geometry.metrics.depth_errors``.
        far: see ``evaluation.sources.depth_of``.
        view: "full": a prediction shows the whole picture, stretched to its own size. "crop": it shows the
            middle, the rest cut off. "auto": as the prediction was made.
        leading: score the first frames where a prediction has fewer than the truth; otherwise that is an
            error.
    """

    align: str = "scale"
    max_depth: float | None = None
    limit: float | None = None
    far: float | None = None
    view: str = "auto"
    leading: bool = False


def score_depth(match: Match, protocol: DepthProtocol) -> DepthErrors:
    """Score one sequence.

    Raises:
        InputError: different lengths, a single frame, and what ``aether.geometry.metrics.depth_errors``
            refuses; all name the sequence.
    """
    depth, truth = match.prediction.depth(protocol.far), match.truth.depth()
    with about(match.name):
        frames = common_length(len(depth), len(truth), protocol.leading)
        depth, truth = depth[:frames], truth[:frames]
        if shows_middle(match.prediction, protocol.view):
            truth = crop_like(truth, *depth.shape[1:])
        depth = resize(depth, *truth.shape[1:])
        return depth_errors(
            depth, truth, align=protocol.align, max_depth=protocol.max_depth, limit=protocol.limit
        )


def shows_middle(prediction: Prediction, view: str) -> bool:
    """Whether a prediction counts as one of the picture's middle."""
    return prediction.crops if view == "auto" else view == "crop"


def average_depth(errors: list[DepthErrors]) -> dict[str, float]:
    """Means over sequences, each weighted by its pixels that count, as in the reference."""
    weights = [error.pixels for error in errors]
    names = ("abs_rel", "delta1", "delta2")
    means = {name: np.average([getattr(error, name) for error in errors], weights=weights) for name in names}
    return {**{name: float(value) for name, value in means.items()}, "pixels": sum(weights)}


def common_length(predicted: int, true: int, leading: bool) -> int:
    """How many frames are scored.

    Raises:
        InputError: lengths that differ (a prediction that is shorter is accepted with ``leading``), or fewer
            than two frames.
    """
    if predicted > true:
        raise InputError("frames", f"the prediction has {predicted}, the truth only {true}")
    if predicted < true and not leading:
        hint = "--leading scores the first of the truth"
        raise InputError("frames", f"the prediction has {predicted}, the truth {true}; {hint}")
    if predicted < 2:
        raise InputError("frames", "the prediction has 1; a sequence has at least 2")
    return predicted


def crop_like(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of (F, H, W) pictures that a prediction of height x width shows, see
    ``aether.clips.pictures.fit_frames``."""
    high, wide = depth.shape[1:]
    if wide * height > high * width:
        kept_height, kept_width = high, max(1, round(high * width / height))
    else:
        kept_height, kept_width = max(1, round(wide * height / width)), wide
    top, left = (high - kept_height) // 2, (wide - kept_width) // 2
    return depth[:, top : top + kept_height, left : left + kept_width]


def resize(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """(F, h, w) to (F, height, width): bicubic, not antialiased, the same as OpenCV's INTER_CUBIC, which the
    reference takes."""
    import torch

    if depth.shape[1:] == (height, width):
        return depth
    floats = torch.from_numpy(np.ascontiguousarray(depth, dtype=np.result_type(depth.dtype, np.float32)))
    resized = torch.nn.functional.interpolate(
        floats[:, None], (height, width), mode="bicubic", align_corners=False
    )
    return resized[:, 0].numpy()
