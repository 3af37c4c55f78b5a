"""Aether Metric Scale, Aether Camera Check and known lenses, in ComfyUI's libraries."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

FRAMES = 5


@pytest.fixture(scope="module")
def shot(part: Any) -> SimpleNamespace:
    """A rendered clip in Aether's unit, as the nodes take it, and its truth in meters."""
    world, geometry = part("aether.miniature"), part("aether.geometry.cameras")
    clip = world.render(world.random_scene(501), FRAMES, 64, 96, 12, samples=1)
    factor = float(clip.depth.min())
    cameras = geometry.Cameras(clip.poses, clip.intrinsics, 64, 96).scaled(1 / factor)
    depth = torch.from_numpy(np.where(clip.sky, 1000, clip.depth / factor).astype(np.float32))
    return SimpleNamespace(
        inputs={"depth": depth[..., None].expand(-1, -1, -1, 3), "cameras": {"cameras": cameras, "fps": 12}},
        factor=factor,
        meters=torch.from_numpy(clip.depth),
        sky=torch.from_numpy(clip.sky),
        poses=clip.poses,
        image=torch.from_numpy(clip.rgb),
        cameras=cameras,
    )


def test_a_baseline(nodes: Any, shot: Any):
    meters = float(np.linalg.norm(shot.poses[3, :3, 3] - shot.poses[1, :3, 3]))
    depth, cameras, scale, report = nodes.AetherMetricScale(
        **shot.inputs, known="baseline", meters=meters, frame=1, other_frame=3
    ).args
    assert scale == pytest.approx(shot.factor, rel=1e-6)
    assert cameras["cameras"].unit == "meters" and cameras["fps"] == 12
    np.testing.assert_allclose(cameras["cameras"].poses, shot.poses, atol=1e-5)
    assert torch.allclose(depth[..., 0][~shot.sky], shot.meters[~shot.sky], rtol=1e-4)
    assert json.loads(report)["meters_per_unit"] == scale


def test_a_distance_and_a_height(nodes: Any, shot: Any):
    """Both agree with the truth: 2 m above the ground."""
    by_height = nodes.AetherMetricScale(**shot.inputs, known="camera height", meters=2.0).args[2]
    assert by_height == pytest.approx(shot.factor, rel=0.01)
    near = nodes.AetherMetricScale(**shot.inputs, meters=1.0, x1=20, y1=60, x2=80, y2=60).args[2]
    twice = nodes.AetherMetricScale(**shot.inputs, meters=2.0, x1=20, y1=60, x2=80, y2=60).args[2]
    assert twice == pytest.approx(2 * near)


def geometries(shot: Any) -> dict[str, Any]:
    """What core's nodes give out for a metric model, and an IMAGE of numbers."""
    focal = shot.cameras.intrinsics[0, 0, 0] / 96 * 504
    infinite = shot.meters.masked_fill(shot.sky, torch.inf)
    return {
        "moge": {"depth": infinite, "mask": ~shot.sky, "image": shot.image},
        "moge of the first frame": {"depth": infinite[:1], "mask": ~shot.sky[:1]},
        "da3": {
            "depth": (shot.meters * (300 / focal)).masked_fill(shot.sky, 7),
            "sky": shot.sky.float(),
            "mode": "mono",
        },
        "image": infinite[..., None].expand(-1, -1, -1, 3),
    }


@pytest.mark.parametrize("kind", ["moge", "moge of the first frame", "da3", "image"])
def test_metric_depth(nodes: Any, shot: Any, kind: str):
    given = geometries(shot)[kind]
    scale = nodes.AetherMetricScale(**shot.inputs, known="metric depth", metric_depth=given).args[2]
    assert scale == pytest.approx(shot.factor, rel=1e-4)


def test_what_has_no_meters_is_refused(nodes: Any, shot: Any, part: Any):
    run = nodes.AetherMetricScale
    with pytest.raises(ValueError, match=r"^metric_depth: is not connected"):
        run(**shot.inputs, known="metric depth")
    views = nodes.AetherGeometry(**shot.inputs, image=shot.image, far=100.0).args[0]
    with pytest.raises(ValueError, match=r"^metric_depth: several views of Depth Anything 3 have no meters"):
        run(**shot.inputs, known="metric depth", metric_depth=views)
    with pytest.raises(ValueError, match=r"^meters: 0 must be a positive number"):
        run(**shot.inputs, known="camera height", meters=0.0)
    with pytest.raises(ValueError, match=r"^pixels: are one and the same"):
        run(**shot.inputs)
    again = run(**shot.inputs, known="baseline").args[1]
    with pytest.raises(ValueError, match=r"^cameras: are in meters already"):
        run(**(shot.inputs | {"cameras": again}), known="baseline")
    with pytest.raises(ValueError, match=r"^depth: is a picture in color"):
        run(**(shot.inputs | {"depth": shot.image}))


def test_what_follows_takes_meters(nodes: Any, shot: Any, tmp_path: Any, monkeypatch: Any):
    """Points in meters, even where all is nearer than 1; files say their unit."""
    import folder_paths
    from plyfile import PlyData

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    depth, cameras, _, _ = nodes.AetherMetricScale(**shot.inputs, known="baseline", meters=1e-3).args
    assert depth[~shot.sky].max() < 1
    ply, glb, _ = nodes.AetherPointCloud(depth=depth, cameras=cameras, image=shot.image).args
    file = PlyData.read(ply.get_data())
    assert file.comments == ["unit of length: meters"] and len(file["vertex"]) > 100
    assert b'"unit": "meters"' in glb.get_bytes().replace(b'"unit":"meters"', b'"unit": "meters"')
    nodes.AetherSaveDepth(depth=depth, unit="meters")
    nodes.AetherSaveCameras(cameras=cameras, format="json")
    about = json.loads(next(tmp_path.rglob("depth.json")).read_text())
    saved = json.loads(next(tmp_path.rglob("cameras*.json")).read_text())
    assert about["unit"] == saved["unit"] == "meters" and "in meters" in about["scale"]


def test_a_path_that_was_followed(nodes: Any):
    asked, raymap = nodes.AetherCamera(preset="truck left", amount=0.5, frames=17).args[:2]
    for given in (asked, raymap):
        output = nodes.AetherCameraCheck(asked=given, obtained=asked)
        picture, followed, report = output.args
        assert followed and json.loads(report)["warning"] is None
        assert picture.shape == (1, 512, 768, 3) and output.ui.as_dict()["images"]


def test_a_path_at_half_the_scale(nodes: Any):
    asked = nodes.AetherCamera(preset="truck left", amount=0.6).args[0]
    short = {"cameras": asked["cameras"].scaled(0.5), "fps": 12}
    picture, followed, report = nodes.AetherCameraCheck(asked=asked, obtained=short).args
    assert not followed and "0.5 times" in json.loads(report)["warning"]
    blue = ((picture[0] * 255).round() - torch.tensor([96, 165, 250])).abs().amax(dim=-1) < 20
    assert blue.sum() > 50


def test_known_lenses(nodes: Any, part: Any):
    raymap = nodes.AetherCamera(preset="static", frames=17, fov=60.0).args[1]
    found = nodes.AetherCameras(raymap=raymap).args[0]["cameras"]
    assert found.lens == "found" and np.degrees(found.fov_x[0]) == pytest.approx(60, abs=1e-3)
    known = nodes.AetherCameras(raymap=raymap, fov=40.0).args[0]["cameras"]
    assert known.lens == "given" and np.degrees(known.fov_x) == pytest.approx(np.full(17, 40))
    np.testing.assert_array_equal(known.poses, found.poses)
    other = nodes.AetherCamera(preset="static", frames=9, fov=33.0).args[0]
    output = nodes.AetherCameras(raymap=raymap, lens=other).args
    assert np.degrees(output[0]["cameras"].fov_x) == pytest.approx(np.full(17, 33))
    assert json.loads(output[2])["lens"] == "given"
    zoom = nodes.AetherCamera(preset="static", frames=9, fov=20.0, before=other).args[0]
    with pytest.raises(ValueError, match=r"^lens: differs over 17 frames, but there are 25"):
        part("nodes.lenses").with_known_lens(found.select([0] * 25), 0.0, zoom)
