"""Aether Point Cloud and Aether Mesh: depth, video and cameras as 3D files for core's viewers and others."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import comfy.utils
import numpy as np
import torch
from comfy_api.latest import Types, io

from ..aether.errors import InputError
from ..aether.formats.scene_glb import cloud_glb, mesh_glb
from ..aether.geometry.cameras import FLIP, NEAREST, Cameras
from ..aether.geometry.mesh import frame_mesh
from ..aether.geometry.point_cloud import frame_cloud, fuse, write_ply
from ..aether.geometry.surfaces import EDGES, NOTHING_LEFT, Surfaces
from .bridge.messages import show_text
from .inputs import DEPTH
from .types import CameraPath, CamerasValue, has_colors

FUSED, ONE_FRAME = "fused", "one frame"
Y_UP, Y_DOWN = "y up", "y down"
_FAR = 20.0
"""Nearer than the library's: viewers fit all points into view, and a strip of horizon makes the rest tiny."""


def clip_inputs() -> list[Any]:
    """What every node here takes: a clip's depth, pictures and cameras."""
    return [
        DEPTH,
        io.Image.Input("image", tooltip="The video of the same run, for the colors."),
        clip_cameras(),
    ]


def clip_cameras() -> io.Input:
    return CameraPath.Input(
        "cameras", tooltip="From Aether Cameras, for the same run. Smoothed ones work too."
    )


def choice_inputs() -> list[Any]:
    """Which pixels count."""
    return [
        io.Float.Input(
            "far",
            default=_FAR,
            min=0.1,
            max=1000.0,
            step=1.0,
            tooltip="Everything at this depth or beyond is left out, such as the sky. 1 is the nearest "
            "depth of the clip, or 1 meter after Aether Metric Scale.",
        ),
        io.Float.Input(
            "edges",
            default=EDGES,
            min=0.0,
            max=10.0,
            step=0.01,
            tooltip="Leaves out pixels around which depth jumps by this share of their own: they hang "
            "between two surfaces. Smaller cuts more, 0 cuts nothing.",
        ),
    ]


def mask_input() -> Any:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="White is left out, such as people who walk through. One picture, or one per frame.",
    )


def surfaces_of(
    depth: torch.Tensor,
    image: torch.Tensor,
    cameras: CamerasValue,
    far: float,
    edges: float,
    mask: torch.Tensor | None,
) -> Surfaces:
    """What the inputs show.

    Raises:
        InputError: a picture in place of depth; what `Surfaces` refuses.
    """
    path = cameras["cameras"]
    if has_colors(depth) or (path.unit == NEAREST and depth[..., 0].amax() <= 1):
        raise InputError(
            "depth",
            "is a picture of depth, not depth: it has colors, or nothing beyond 1; connect the depth of "
            "Aether Depth",
        )
    return Surfaces(depth[..., 0], image[..., :3], path, mask, far, edges)


class AetherPointCloud(io.ComfyNode):
    """All frames' surfaces as points."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherPointCloud",
            display_name="Aether Point Cloud",
            category="Aether/geometry",
            description="Puts all frames of a clip together in space, as a colored point cloud.",
            search_aliases=["ply", "pointcloud", "3d reconstruction", "video to 3d", "fuse depth", "voxel"],
            inputs=[
                *clip_inputs(),
                io.Combo.Input(
                    "points",
                    options=[FUSED, ONE_FRAME],
                    default=FUSED,
                    tooltip="fused: all frames, one point per voxel. one frame: all pixels of one frame.",
                ),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=-1,
                    max=100_000,
                    tooltip="For one frame: which one, counted from 0; -1 is the last.",
                ),
                io.Float.Input(
                    "voxel_size",
                    default=0.5,
                    min=0.01,
                    max=100.0,
                    step=0.05,
                    tooltip="For fused: distance between points, in percent of the scene's median depth. "
                    "Larger means fewer points.",
                ),
                io.Int.Input(
                    "min_views",
                    default=1,
                    min=1,
                    max=100_000,
                    tooltip="For fused: keeps the points that at least this many frames saw. Removes noise "
                    "and moving things, best with voxels of 1 or 2 percent.",
                ),
                *choice_inputs(),
                io.Combo.Input(
                    "axes",
                    options=[Y_UP, Y_DOWN],
                    default=Y_UP,
                    advanced=True,
                    tooltip="Axes of the PLY file. y up: for viewers, and with a GLB camera. y down: with "
                    "cameras saved as json, colmap or tum.",
                ),
                mask_input(),
            ],
            outputs=[
                io.File3DPLY.Output(
                    "ply",
                    display_name="ply",
                    tooltip="A PLY file for Preview Point Cloud and Save Point Cloud.",
                ),
                io.File3DGLB.Output(
                    "glb",
                    display_name="glb",
                    tooltip="The same points as a GLB file for Preview 3D and Save 3D; y up.",
                ),
                io.Load3DCamera.Output(
                    "camera_info",
                    display_name="camera info",
                    tooltip="A view like the clip's first frame. For camera_info of Preview Point Cloud, "
                    "which otherwise looks from far above.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        depth: torch.Tensor,
        image: torch.Tensor,
        cameras: CamerasValue,
        points: str,
        frame: int,
        voxel_size: float,
        min_views: int,
        far: float,
        edges: float,
        axes: str,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        if not (np.isfinite(voxel_size) and voxel_size > 0):
            raise InputError("voxel_size", f"{voxel_size} must be a positive number of percent")
        surfaces = surfaces_of(depth, image, cameras, far, edges, mask)
        middle = surfaces.middle_depth()
        if middle is None:
            raise InputError("points", NOTHING_LEFT)
        if points == ONE_FRAME:
            cloud = frame_cloud(surfaces, frame)
        else:
            bar = comfy.utils.ProgressBar(len(surfaces))
            size = voxel_size / 100 * middle
            cloud = fuse(surfaces, size, min_views=min_views, progress=bar.update_absolute)
        glb = cloud_glb(cloud)
        ply = BytesIO()
        written = cloud.to_gltf() if axes == Y_UP else cloud
        write_ply(ply, written)
        show_text(cls.hidden.unique_id, f"{len(cloud):,} points, {len(ply.getvalue()) / 1e6:.1f} MB")
        view = viewer_camera(written.positions, cameras["cameras"], middle, y_up=axes == Y_UP)
        return io.NodeOutput(Types.File3D(ply, "ply"), Types.File3D(BytesIO(glb), "glb"), view)


_VIEWER_FOV = np.radians(35)
"""Of core's viewers, vertical; they are about square."""
_ABOVE = 0.2
"""How far above its target a view begins, as a share of its distance."""


def viewer_camera(points: np.ndarray, cameras: Cameras, middle: float, *, y_up: bool) -> dict[str, Any]:
    """A LOAD3D_CAMERA for Preview Point Cloud: what the clip's first frame shows, from slightly above.

    Args:
        points: (N, 3) of the file; the viewer moves the middle of their box to the origin, and divides them
            by the distance of the farthest from it.
        middle: depth of the first camera that the view is to turn around.
        y_up: whether the points' axes are glTF's, not OpenCV's.
    """
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = max(float(np.linalg.norm(points - center, axis=1).max()), 1e-9)
    distance = middle * np.tan(cameras.fov_x[0] / 2) / np.tan(_VIEWER_FOV / 2)
    places = {"position": [0, -_ABOVE * distance, middle - distance], "target": [0, 0, middle]}
    signs = FLIP.diagonal()[:3] if y_up else np.ones(3)

    def shown(place: list[float]) -> dict[str, float]:
        world = signs * (cameras.poses[0] @ [*place, 1])[:3]
        return dict(zip("xyz", ((world - center) / radius).tolist(), strict=True))

    return {name: shown(place) for name, place in places.items()} | {"zoom": 1, "cameraType": "perspective"}


class AetherMesh(io.ComfyNode):
    """One frame's surface."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AetherMesh",
            display_name="Aether Mesh",
            category="Aether/geometry",
            description="Turns one frame into a mesh with the picture on it, cut where depth jumps.",
            search_aliases=["glb", "depth to mesh", "2.5d", "camera projection", "relief", "parallax"],
            inputs=[
                *clip_inputs(),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=-1,
                    max=100_000,
                    tooltip="Which frame, counted from 0; -1 is the last.",
                ),
                io.Int.Input(
                    "step",
                    default=2,
                    min=1,
                    max=16,
                    tooltip="One vertex every this many pixels. 1 uses the full depth; larger makes a "
                    "lighter mesh. The picture on it stays sharp.",
                ),
                *choice_inputs(),
                mask_input(),
            ],
            outputs=[
                io.File3DGLB.Output(
                    "glb", display_name="glb", tooltip="A GLB file for Preview 3D, Save 3D and Blender."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        depth: torch.Tensor,
        image: torch.Tensor,
        cameras: CamerasValue,
        frame: int,
        step: int,
        far: float,
        edges: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        mesh = frame_mesh(surfaces_of(depth, image, cameras, far, edges, mask), frame, step)
        data = mesh_glb(mesh)
        show_text(cls.hidden.unique_id, f"{len(mesh.faces):,} triangles, {len(data) / 1e6:.1f} MB")
        return io.NodeOutput(Types.File3D(BytesIO(data), "glb"))


NODES: list[type[Any]] = [AetherPointCloud, AetherMesh]
