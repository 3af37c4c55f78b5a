"""Aether Metric Scale: depth and cameras in meters, from something whose size is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.geometry.cameras import METERS, Cameras
from ..aether.geometry.metric_scale import (
    MetricScale,
    scale_by_baseline,
    scale_by_depth,
    scale_by_distance,
    scale_by_height,
)
from .bridge.messages import show_text
from .geometry import DA3Geometry, MoGeGeometry
from .inputs import DEPTH, MOST_PIXELS
from .point_cloud import clip_cameras
from .types import CameraPath, CamerasValue, gray_image, has_colors, refuse_colors

_DA3_SIDE, _DA3_FOCAL = 504, 300
"""Depth Anything 3: the longer side, in pixels, of what it works on by default, and the focal length that its
Metric model takes for granted. Source: its authors' README, "metric_depth = focal * net_output / 300"."""
DISTANCE, HEIGHT, BASELINE, MODEL = "distance", "camera height", "baseline", "metric depth"


class AetherMetricScale(io.ComfyNode):
    """One factor for depth and cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherMetricScale",
            display_name="Aether Metric Scale",
            category="Aether/geometry",
            description="Brings depth and cameras to meters, by a distance you know, the height of the "
            "camera, the way it went, or a metric depth model. One factor for both.",
            search_aliases=["metric depth", "meters", "real scale", "scene scale", "units", "world scale"],
            inputs=[
                DEPTH,
                clip_cameras(),
                io.Combo.Input(
                    "known",
                    options=[DISTANCE, HEIGHT, BASELINE, MODEL],
                    default=DISTANCE,
                    tooltip="What you know. distance: between two pixels of a frame. camera height: of a "
                    "frame's camera above the ground, which is looked for. baseline: between the cameras of "
                    "two frames. metric depth: the input of that name.",
                ),
                io.Float.Input(
                    "meters",
                    default=1.0,
                    min=0.0,
                    max=100000.0,
                    step=0.01,
                    tooltip="The known distance, height or baseline. Not used for metric depth.",
                ),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=-1,
                    max=100_000,
                    tooltip="Which frame, counted from 0; -1 is the last. For a baseline: the first of two.",
                ),
                io.Int.Input(
                    "other_frame",
                    default=-1,
                    min=-1,
                    max=100_000,
                    tooltip="For a baseline: the second frame; -1 is the last.",
                ),
                *(
                    io.Int.Input(
                        f"{axis}{number}",
                        default=0,
                        min=0,
                        max=MOST_PIXELS,
                        tooltip=f"For a distance: {place} of the {which} pixel, counted from 0.",
                    )
                    for number, which in ((1, "first"), (2, "second"))
                    for axis, place in (("x", "column"), ("y", "row"))
                ),
                io.MultiType.Input(
                    "metric_depth",
                    [DA3Geometry, MoGeGeometry, io.Image],
                    optional=True,
                    tooltip="Of the clip's frames, or of the first alone: MoGe 2 from Run MoGe Inference, "
                    "the Metric model of Depth Anything 3 at its resolution of 504, or depth in meters as "
                    "numbers.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For metric depth: white is left out, such as people who move.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "depth",
                    display_name="depth",
                    tooltip="Depth in meters, as numbers. For Aether Save Depth with unit at meters, and for "
                    "point clouds and meshes.",
                ),
                CameraPath.Output(
                    "cameras", display_name="cameras", tooltip="The same cameras, positions in meters."
                ),
                io.Float.Output(
                    "scale", display_name="scale", tooltip="Meters in one unit of the clip: the factor."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Factor, spread and what it is from, as JSON text.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        depth: torch.Tensor,
        cameras: CamerasValue,
        known: str,
        meters: float,
        frame: int,
        other_frame: int,
        x1: int,
        y1: int,
        x2: int,
        y2: int,
        metric_depth: Any = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        refuse_colors(depth)
        values, path = depth[..., 0].float().cpu().numpy(), cameras["cameras"]
        if known == DISTANCE:
            scale = scale_by_distance(values, path, meters, (x1, y1), (x2, y2), frame)
        elif known == HEIGHT:
            scale = scale_by_height(values, path, meters, frame)
        elif known == BASELINE:
            scale = scale_by_baseline(path, meters, frame, other_frame)
        else:
            scale = _by_model(values, path, metric_depth, mask)
        show_text(cls.hidden.unique_id, scale.summary)
        return io.NodeOutput(
            gray_image(values * np.float32(scale.factor)),
            {"cameras": path.scaled(scale.factor, METERS), "fps": cameras["fps"]},
            scale.factor,
            json.dumps(scale.to_dict(), indent=1),
        )


def _by_model(depth: np.ndarray, cameras: Cameras, given: Any, mask: torch.Tensor | None) -> MetricScale:
    """By core's geometry, or by an IMAGE of numbers."""
    if given is None:
        raise InputError("metric_depth", "is not connected; connect it, or know something else")
    found = _core_depth(given, cameras) if isinstance(given, dict) else _image_depth(given)
    return scale_by_depth(depth, found, mask=None if mask is None else mask.cpu().numpy())


def _core_depth(geometry: dict[str, Any], cameras: Cameras) -> np.ndarray:
    """(F, H, W) meters of a DA3_GEOMETRY or MOGE_GEOMETRY, NaN where there are none.

    Raises:
        InputError: depth that is not metric.
    """
    if geometry.get("depth") is None:
        raise InputError("metric_depth", "holds no depth: its model gives none")
    found = geometry["depth"].float().cpu().numpy()
    if "mode" in geometry:  # Depth Anything 3
        if geometry["mode"] != "mono":
            raise InputError(
                "metric_depth",
                "several views of Depth Anything 3 have no meters; take its Metric model, mono",
            )
        # Its Metric model gives depth for a focal length of 300 of the pixels that it works on.
        share = float(np.median(cameras.intrinsics[:, 0, 0])) / max(cameras.width, cameras.height)
        found = found * (share * _DA3_SIDE / _DA3_FOCAL)
    for name, is_there in (("mask", lambda x: x > 0.5), ("sky", lambda x: x < 0.5)):
        if geometry.get(name) is not None:
            found = np.where(is_there(geometry[name].float().cpu().numpy()), found, np.nan)
    return found


def _image_depth(image: torch.Tensor) -> np.ndarray:
    if has_colors(image):
        raise InputError("metric_depth", "is a picture in color; connect depth in meters, as numbers")
    return image[..., 0].float().cpu().numpy()


NODES: list[type[Any]] = [AetherMetricScale]
