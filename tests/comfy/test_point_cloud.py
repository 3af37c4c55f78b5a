"""Aether Point Cloud, Mesh and Geometry in ComfyUI's libraries, and core's nodes on what they give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

FRAMES = 5


@pytest.fixture(scope="session")
def shot(part: Any) -> SimpleNamespace:
    """A rendered clip as the nodes take it: depth, image, cameras; its surfaces and where the sky is."""
    world, geometry = part("aether.miniature"), part("aether.geometry.cameras")
    clip = world.render(world.random_scene(9003), FRAMES, 64, 96, 12)
    near = float(clip.depth.min())
    poses = clip.poses.copy()
    poses[:, :3, 3] /= near
    cameras = geometry.Cameras(poses, clip.intrinsics, 64, 96)
    depth = clip.depth / near
    inputs = {
        "depth": torch.from_numpy(depth)[..., None].expand(-1, -1, -1, 3),
        "image": torch.from_numpy(clip.rgb),
        "cameras": {"cameras": cameras, "fps": 12},
        "far": 100.0,
    }
    sky = torch.from_numpy(clip.sky).float()
    points = part("aether.geometry.depth").point_map(depth, cameras)
    return SimpleNamespace(inputs=inputs, sky=sky, cameras=cameras, points=points, depth=depth)


def vertices(file: Any) -> np.ndarray:
    """(N, 3) of a PLY in memory."""
    from plyfile import PlyData

    points = PlyData.read(file.get_data())["vertex"]
    return np.stack([points[axis] for axis in "xyz"], axis=1)


def test_all_frames_or_one(nodes: Any, shot: Any):
    ply, glb, _ = nodes.AetherPointCloud(**shot.inputs, mask=shot.sky).args
    assert (ply.format, glb.format) == ("ply", "glb") and glb.get_bytes()[:4] == b"glTF"
    fused = vertices(ply)
    every = nodes.AetherPointCloud(**shot.inputs, points="one frame", frame=-1, edges=0.0).args[0]
    alone = vertices(every)
    assert len(alone) == 64 * 96 < len(fused) < FRAMES * 64 * 96
    np.testing.assert_allclose(alone, shot.points[-1].reshape(-1, 3) * [1, -1, -1], rtol=1e-6)
    down = nodes.AetherPointCloud(**shot.inputs, points="one frame", frame=-1, edges=0.0, axes="y down").args[
        0
    ]
    np.testing.assert_allclose(vertices(down), shot.points[-1].reshape(-1, 3), rtol=1e-6)
    coarse = vertices(nodes.AetherPointCloud(**shot.inputs, mask=shot.sky, voxel_size=3.0).args[0])
    often = vertices(
        nodes.AetherPointCloud(**shot.inputs, mask=shot.sky, voxel_size=3.0, min_views=FRAMES).args[0]
    )
    assert 0 < len(often) < len(coarse) < 0.5 * len(fused)
    near = vertices(nodes.AetherPointCloud(**(shot.inputs | {"far": 3.0})).args[0])
    assert 0 < len(near) < len(fused)


@pytest.mark.parametrize("axes", ["y up", "y down"])
def test_the_viewer_looks_along_the_first_camera(nodes: Any, shot: Any, axes: str):
    """In its own units: it moves the points' box to the origin, and the farthest of them to 1."""
    ply, _, view = nodes.AetherPointCloud(**shot.inputs, mask=shot.sky, axes=axes).args
    points = vertices(ply)
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = np.linalg.norm(points - center, axis=1).max()
    position, target = ([view[name][axis] for axis in "xyz"] for name in ("position", "target"))
    signs = [1, -1, -1] if axes == "y up" else [1, 1, 1]
    seen = np.array([position, target]) * radius + center
    seen = (np.column_stack([seen * signs, [1, 1]]) @ np.linalg.inv(shot.cameras.poses[0]).T)[:, :3]
    (_, up, behind), (right, down, middle) = seen
    np.testing.assert_allclose([right, down], 0, atol=1e-4)
    assert up < 0 < middle and behind < middle
    # As wide at the target as the clip's first frame, in a square window of 35 degrees.
    wide = middle * np.tan(shot.cameras.fov_x[0] / 2)
    assert (middle - behind) * np.tan(np.radians(35 / 2)) == pytest.approx(wide, rel=1e-4)


def test_a_frame_as_a_mesh(nodes: Any, shot: Any, part: Any):
    counts = []
    for step in (1, 2):
        file = nodes.AetherMesh(**shot.inputs, step=step).args[0]
        document = part("aether.formats.glb").unpack(file.get_bytes()).document
        counts.append(document["accessors"][document["meshes"][0]["primitives"][0]["indices"]]["count"] // 3)
    assert 0.5 * 2 * 63 * 95 < counts[0] < 2 * 63 * 95 and counts[1] < 0.3 * counts[0]


def result_of(module: str, name: str, **given: Any) -> Any:
    """Run one of core's nodes."""
    found = getattr(pytest.importorskip(f"comfy_extras.{module}"), name)
    return found.execute(**given).args[0]


def test_cores_depth_anything_nodes_take_the_geometry(nodes: Any, shot: Any):
    da3 = nodes.AetherGeometry(**shot.inputs, mask=shot.sky).args[0]
    mesh = result_of(
        "nodes_depth_anything_3", "DA3GeometryToMesh", da3_geometry=da3, batch_index=FRAMES - 1, decimation=1,
        discontinuity_threshold=0.0, confidence_threshold=0.0, use_sky_mask=True, texture=True,
    )  # fmt: skip
    # Core's own arithmetic puts every pixel of the last frame where ours does.
    kept = ~shot.sky[-1].bool().numpy()
    expected = shot.points[-1][kept] * [1, -1, -1]
    np.testing.assert_allclose(mesh.vertices[0].numpy(), expected, rtol=2e-4, atol=2e-4)
    assert mesh.faces.shape[1] > 1000 and mesh.texture.shape == (1, 64, 96, 3)
    cut = result_of(
        "nodes_depth_anything_3", "DA3GeometryToMesh", da3_geometry=da3, batch_index=FRAMES - 1, decimation=1,
        discontinuity_threshold=0.0, confidence_threshold=0.1, use_sky_mask=True, texture=False,
    )  # fmt: skip
    assert 0.3 < cut.vertices.shape[1] / mesh.vertices.shape[1] < 1  # confidence cuts at edges
    cloud = result_of(
        "nodes_depth_anything_3", "DA3GeometryToPointCloud", da3_geometry=da3, batch_index=FRAMES - 1,
        confidence_threshold=0.0, use_sky_mask=True, downsample=1,
    )  # fmt: skip
    np.testing.assert_allclose(cloud["points"].numpy(), expected, rtol=2e-4, atol=2e-4)
    assert torch.equal(cloud["colors"], shot.inputs["image"][-1][torch.from_numpy(kept)])
    for output in (
        {"output": "depth", "normalization": "v2_style", "apply_sky_clip": True},
        {"output": "depth_colored", "normalization": "min_max", "apply_sky_clip": False},
        {"output": "confidence", "colored": False},
        {"output": "sky_mask", "colored": False},
    ):
        picture = result_of("nodes_depth_anything_3", "DA3Render", da3_geometry=da3, output=output)
        assert picture.shape == (FRAMES, 64, 96, 3) and torch.isfinite(picture).all() and picture.std() > 0.02


def test_cores_moge_nodes_take_the_geometry(nodes: Any, shot: Any):
    moge = nodes.AetherGeometry(**shot.inputs, mask=shot.sky).args[1]
    mesh = result_of(
        "nodes_moge", "MoGePointMapToMesh", moge_geometry=moge, batch_index=2, decimation=1,
        discontinuity_threshold=0.0, texture=True,
    )  # fmt: skip
    inverse = np.linalg.inv(shot.cameras.poses[2])
    own = (shot.points[2] @ inverse[:3, :3].T + inverse[:3, 3])[moge["mask"][2].numpy()]
    np.testing.assert_allclose(mesh.vertices[0].numpy(), own * [1, -1, -1], rtol=1e-4, atol=1e-4)
    for output in ("depth", "depth_colored", "normal_opengl", "normal_directx", "mask"):
        picture = result_of("nodes_moge", "MoGeRender", moge_geometry=moge, output=output)
        assert picture.shape == (FRAMES, 64, 96, 3) and torch.isfinite(picture).all() and picture.std() > 0.02
    for axis, angle in (("horizontal", shot.cameras.fov_x), ("vertical", shot.cameras.fov_y)):
        fov = result_of("nodes_moge", "MoGeGeometryToFOV", moge_geometry=moge, axis=axis, unit="degrees")
        assert fov == pytest.approx(np.degrees(angle[0]), abs=1e-3)


@pytest.mark.parametrize("nothing", [0.0, torch.inf, torch.nan])
@pytest.mark.parametrize("node", ["AetherPointCloud", "AetherMesh", "AetherGeometry"])
def test_masked_pixels_need_no_depth(nodes: Any, shot: Any, node: str, nothing: float):
    """As Aether Save Depth takes them; an alpha channel is no color."""
    depth = torch.cat([shot.inputs["depth"], torch.zeros(FRAMES, 64, 96, 1)], dim=-1)
    depth[..., :3][shot.sky > 0.5] = nothing
    given = shot.inputs | {"depth": depth, "mask": shot.sky}
    assert shot.sky.any() and getattr(nodes, node)(**given).args


def test_bad_input_names_the_input(nodes: Any, shot: Any):
    def refused(match: str, node: str = "AetherPointCloud", **changed: Any) -> None:
        with pytest.raises(ValueError, match=match):
            getattr(nodes, node)(**(shot.inputs | changed))

    nan = shot.inputs["depth"].clone()
    nan[1, 2, 3] = torch.nan
    everything = torch.ones(1, 64, 96)
    cameras = shot.cameras
    refused("^depth: is a picture of depth", depth=shot.inputs["image"])
    refused("^depth: is a picture of depth", depth=1 / shot.inputs["depth"])
    refused("^image: has shape", image=shot.inputs["image"][:3])
    refused("^cameras: there are 3 for 5", cameras={"cameras": cameras.select(slice(3)), "fps": 12})
    refused("^cameras: are of 64 x 64", cameras={"cameras": replace(cameras, width=64), "fps": 12})
    refused("^mask: has shape", mask=everything[:, :2])
    refused("^frame: 5 is not within 0 to 4", points="one frame", frame=5)
    refused("^min_views: 6 is not within 1 to the 5", min_views=6)
    for voxel_size in (0.0, -1.0, float("nan")):
        refused("^voxel_size: ", voxel_size=voxel_size)
    refused("^voxel_size: is too small", voxel_size=1e-5)
    for node in ("AetherPointCloud", "AetherMesh", "AetherGeometry"):
        refused(r"^depth \(frame 1\): holds NaN", node, depth=nan, **({"frame": 1} if "Mesh" in node else {}))
        refused("nothing is left", node, mask=everything)
        refused("^far: nan", node, far=float("nan"))
        refused("^edges: ", node, edges=-1.0)


def saved(server: Any, prompt: dict[str, Any]) -> dict[str, Any]:
    """The files that a prompt's nodes name, by node."""
    outputs = server.run(prompt).outputs
    return {node: output["result"][0] for node, output in outputs.items() if "result" in output}


@pytest.mark.slow
def test_core_previews_and_saves_the_files(server: Any):
    """From the miniature's own latent to files under output and temp, by core's nodes."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    clip = {
        "depth": ["depth", 1],
        "image": ["image", 0],
        "cameras": ["cameras", 0],
        "far": 100.0,
        "edges": 0.2,
    }
    view = {"width": 512, "height": 512, "viewport_state": ""}
    task = dict(zip(("positive", "negative", "latent"), (["task", n] for n in range(3)), strict=True))
    files = saved(
        server,
        {
            "model": node("AetherMiniature"),
            "clip": node("AetherExample", scene=8, frames="17", width=96, height=64),
            "task": node(
                "AetherReconstruct", vae=["model", 1], video=["clip", 0], width=0, height=0, frames="auto",
                fps="auto", seed=0,
            ),
            "sampler": node(
                "AetherSampler", model=["model", 0], seed=1, steps=2, guidance=0.0, scheduler="dpm",
                dynamic_guidance="auto", **task,
            ),
            "split": node("AetherSplit", latent=["sampler", 0]),
            "image": node("VAEDecode", samples=["split", 0], vae=["model", 1]),
            "depth": node(
                "AetherDepth", vae=["model", 1], disparity=["split", 1], normalize="none", colormap="gray",
                near=1.0, far=20.0, edge=0.2,
            ),
            "cameras": node("AetherCameras", raymap=["split", 2]),
            "cloud": node(
                "AetherPointCloud", **clip, points="fused", frame=0, voxel_size=1.0, min_views=1, axes="y up"
            ),
            "mesh": node("AetherMesh", frame=0, step=1, **clip | {"edges": 0.0}),
            "preview": node("PreviewPointCloud", model_3d=["cloud", 0], **view),
            "save": node("SavePointCloud", model_3d=["cloud", 0], filename_prefix="aether/cloud", **view),
            "points": node("Preview3D", model_file=["cloud", 1]),
            "surface": node("Preview3D", model_file=["mesh", 0]),
        },
    )  # fmt: skip
    folders = {"preview": "temp", "save": "output", "points": "output", "surface": "output"}
    assert set(files) == set(folders)
    starts = {name: Path(server.base, folders[name], files[name]).read_bytes()[:4] for name in files}
    assert starts == {"preview": b"ply\n", "save": b"ply\n", "points": b"glTF", "surface": b"glTF"}
    assert json.dumps(files["save"]).startswith('"aether/cloud_')
