"""Aether Geometry: a clip's depth and cameras as the types of core's Depth Anything 3 and MoGe nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..aether.errors import InputError
from ..aether.geometry.surfaces import NOTHING_LEFT, Surfaces
from .point_cloud import choice_inputs, clip_inputs, mask_input, surfaces_of
from .types import CamerasValue

DA3Geometry = io.Custom("DA3_GEOMETRY")
MoGeGeometry = io.Custom("MOGE_GEOMETRY")


class AetherGeometry(io.ComfyNode):
    """For core's nodes that render and mesh geometry."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherGeometry",
            display_name="Aether Geometry",
            category="Aether/geometry",
            description="Passes depth and cameras to core's Depth Anything 3 and MoGe nodes, for meshes and "
            "normal maps.",
            search_aliases=["da3 geometry", "moge geometry", "normal map", "mesh", "depth anything"],
            inputs=[*clip_inputs(), *choice_inputs(), mask_input()],
            outputs=[
                DA3Geometry.Output(
                    "da3_geometry",
                    display_name="da3_geometry",
                    tooltip="For Convert DA3 Geometry to Mesh and Render Depth Anything 3. All frames share "
                    "the first camera's world.",
                ),
                MoGeGeometry.Output(
                    "moge_geometry",
                    display_name="moge_geometry",
                    tooltip="For Convert MoGe Point Map to Mesh, Render MoGe Geometry (normals) and Get "
                    "FoV. Each frame is seen from its own camera.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        depth: torch.Tensor,
        image: torch.Tensor,
        cameras: CamerasValue,
        far: float,
        edges: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        surfaces = surfaces_of(depth, image, cameras, far, edges, mask)
        frames = range(len(surfaces))
        confidence = torch.from_numpy(np.stack([surfaces.confidence_of(frame) for frame in frames]))
        if not confidence.any():
            raise InputError("mask", NOTHING_LEFT)
        values = torch.from_numpy(np.stack([surfaces.depth_of(frame) for frame in frames]))
        pictures = image[..., :3].float().cpu()
        return io.NodeOutput(
            _da3(surfaces, values, pictures, confidence), _moge(surfaces, values, pictures, confidence > 0)
        )


def _da3(
    surfaces: Surfaces, depth: torch.Tensor, image: torch.Tensor, confidence: torch.Tensor
) -> dict[str, Any]:
    """Core's DA3_GEOMETRY. Its sky is what far and mask leave out, its confidence also knows the edges."""
    cameras = surfaces.cameras
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, :2, 2] -= 0.5  # core counts from the centre of the first pixel, we from its corner
    flat = replace(surfaces, edges=0)
    sky = np.stack([flat.confidence_of(frame) == 0 for frame in range(len(surfaces))])
    return {
        "depth": depth,
        "image": image,
        "mode": "multiview",
        "confidence": confidence,
        "sky": torch.from_numpy(sky).float(),
        "extrinsics": torch.from_numpy(np.linalg.inv(cameras.poses)[None, :, :3]).float(),
        "intrinsics": torch.from_numpy(intrinsics[None]).float(),
    }


def _moge(surfaces: Surfaces, depth: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """Core's MOGE_GEOMETRY: points in each camera's own axes, infinite where they are left out."""
    cameras = surfaces.cameras
    own = replace(surfaces, cameras=replace(cameras, poses=np.tile(np.eye(4), (len(cameras), 1, 1))))
    points = torch.from_numpy(np.stack([own.points_of(frame) for frame in range(len(own))]))
    size = np.array([[cameras.width], [cameras.height], [1.0]])
    return {
        "points": points.masked_fill(~mask[..., None], torch.inf),
        "depth": depth.masked_fill(~mask, torch.inf),
        "intrinsics": torch.from_numpy(cameras.intrinsics / size).float(),
        "mask": mask,
        "image": image,
    }


NODES: list[type[Any]] = [AetherGeometry]
