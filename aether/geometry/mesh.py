"""One frame's pixels as a mesh, cut where the depth jumps; GLB files of meshes and point clouds.

glTF: y up, z backwards; nothing is lit, colors are the picture's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..formats.glb import Binary
from .cameras import points_to_gltf
from .point_cloud import PointCloud
from .surfaces import NOTHING_LEFT, Surfaces

_POINTS = 0
_UNLIT = "KHR_materials_unlit"
_LINEAR = np.arange(256) / 255.0
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4)
_LINEAR = (_LINEAR * 65535 + 0.5).astype(np.uint16)
"""sRGB bytes to linear light, in which glTF has the colors of vertices."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with a picture on them.

    Attributes:
        vertices: (V, 3) float32 in the cameras' world.
        faces: (T, 3) uint32, counterclockwise as the camera sees them.
        uvs: (V, 2) float32, (0, 0) the picture's upper left corner.
        picture: (H, W, 3) uint8.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    picture: np.ndarray


def frame_mesh(surfaces: Surfaces, frame: int, step: int = 1) -> Mesh:
    """Two triangles between every four pixels of a frame that are not left out, nor any pixel among them.

    Args:
        frame: which one; -1 is the last.
        step: every so many pixels are a vertex; the picture keeps its size.

    Raises:
        InputError: no such frame; a step below 1; nothing left; what `Surfaces` refuses.
    """
    if step < 1:
        raise InputError("step", f"{step} must be at least 1")
    frame = surfaces.check_frame(frame)
    height, width = surfaces.size
    quads = _whole_quads(surfaces.confidence_of(frame) > 0, step)
    if not quads.any():
        raise InputError("frame", f"{frame}: {NOTHING_LEFT}")
    grid = np.arange((quads.shape[0] + 1) * (quads.shape[1] + 1)).reshape(np.add(quads.shape, 1))
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    a, b, c, d = (corner[quads] for corner in corners)
    used, faces = np.unique(
        np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), return_inverse=True
    )
    rows, columns = np.divmod(used, grid.shape[1])
    rows, columns = rows * step, columns * step
    return Mesh(
        surfaces.points_of(frame)[rows, columns],
        faces.reshape(-1, 3).astype(np.uint32),
        np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1).astype(np.float32),
        surfaces.colors_of(frame),
    )


def mesh_glb(mesh: Mesh) -> bytes:
    """A GLB file of a mesh, its picture inside as a JPEG."""
    from PIL import Image

    jpeg = io.BytesIO()
    Image.fromarray(mesh.picture).save(jpeg, "JPEG", quality=95, subsampling=0)
    binary = Binary()
    primitive = {
        "attributes": {
            "POSITION": binary.add(points_to_gltf(mesh.vertices), "VEC3"),
            "TEXCOORD_0": binary.add(mesh.uvs, "VEC2"),
        },
        "indices": binary.add(mesh.faces.reshape(-1, 1), "SCALAR"),
    }
    image = {"bufferView": binary.add_bytes(jpeg.getvalue()), "mimeType": "image/jpeg"}
    texture = {"images": [image], "textures": [{"source": 0}]}
    return binary.pack(_document(primitive, {"baseColorTexture": {"index": 0}}) | texture)


def cloud_glb(cloud: PointCloud) -> bytes:
    """A GLB file of a point cloud, in the cameras' world.

    Raises:
        InputError: it is empty, which glTF does not know.
    """
    if not len(cloud):
        raise InputError("points", NOTHING_LEFT)
    binary = Binary()
    opaque = np.full((len(cloud), 1), 65535, np.uint16)
    colors = np.concatenate([_LINEAR[cloud.colors], opaque], axis=1)
    attributes = {
        "POSITION": binary.add(points_to_gltf(cloud.positions), "VEC3"),
        "COLOR_0": binary.add(colors, "VEC4", normalized=True),
    }
    return binary.pack(_document({"attributes": attributes, "mode": _POINTS}, {}))


def _whole_quads(kept: np.ndarray, step: int) -> np.ndarray:
    """Which squares of ``step`` pixels' side have all of their pixels, corners included."""
    rows, columns = (side // step for side in np.subtract(kept.shape, 1))
    whole = np.ones((rows, columns), bool)
    for down in range(step + 1):
        for right in range(step + 1):
            whole &= kept[down::step, right::step][:rows, :columns]
    return whole


def _document(primitive: dict[str, Any], surface: dict[str, Any]) -> dict[str, Any]:
    # Programs that do not know the extension get something matt.
    material = {
        "pbrMetallicRoughness": surface | {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {_UNLIT: {}},
        "doubleSided": True,
    }
    return {
        "nodes": [{"name": "Aether", "mesh": 0}],
        "meshes": [{"name": "Aether", "primitives": [primitive | {"material": 0}]}],
        "materials": [material],
        "extensionsUsed": [_UNLIT],
    }
