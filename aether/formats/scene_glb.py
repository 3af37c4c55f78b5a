"""GLB files of meshes and point clouds.

glTF: y up, z backwards; nothing is lit, colors are the picture's.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry.cameras import points_to_gltf
from ..geometry.mesh import Mesh
from ..geometry.point_cloud import PointCloud
from ..geometry.surfaces import NOTHING_LEFT
from .glb import Binary
from .units import SCALE_NOTES

_POINTS = 0
_UNLIT = "KHR_materials_unlit"
_LINEAR = np.arange(256) / 255.0
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4)
_LINEAR = (_LINEAR * 65535 + 0.5).astype(np.uint16)
"""sRGB bytes to linear light, in which glTF has the colors of vertices."""


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
    return binary.pack(_document(primitive, {"baseColorTexture": {"index": 0}}, mesh.unit) | texture)


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
    return binary.pack(_document({"attributes": attributes, "mode": _POINTS}, {}, cloud.unit))


def _document(primitive: dict[str, Any], surface: dict[str, Any], unit: str) -> dict[str, Any]:
    # Programs that do not know the extension get something matt.
    material = {
        "pbrMetallicRoughness": surface | {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {_UNLIT: {}},
        "doubleSided": True,
    }
    return {
        "nodes": [{"name": "Aether", "mesh": 0, "extras": {"unit": unit, "scale": SCALE_NOTES[unit]}}],
        "meshes": [{"name": "Aether", "primitives": [primitive | {"material": 0}]}],
        "materials": [material],
        "extensionsUsed": [_UNLIT],
    }
