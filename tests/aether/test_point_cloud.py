"""Clouds and meshes against surfaces that are known exactly, and the files that hold them."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aether.errors import InputError
from aether.formats.scene_glb import cloud_glb, mesh_glb
from aether.geometry.cameras import Cameras, cameras_from_fov
from aether.geometry.depth import point_map
from aether.geometry.mesh import frame_mesh
from aether.geometry.point_cloud import PointCloud, VoxelGrid, frame_cloud, fuse, write_ply
from aether.geometry.raymap import from_cameras, to_cameras
from aether.geometry.surfaces import Surfaces
from aether.miniature import random_scene, render
from aether.miniature.distance import distance_to_surfaces

FRAMES, HEIGHT, WIDTH, FPS = 9, 64, 96, 12
HELD_OUT = (9001, 9002, 9003)


def walls(frames: int = 3, height: int = 12, width: int = 16, **options) -> Surfaces:
    """A wall 4 away, blue, with a box 1 away in front, red; the camera moves to the right."""
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 0, 3] = 0.1 * np.arange(frames)
    depth = np.full((frames, height, width), 4.0)
    depth[:, 4:8, 5:11] = 1.0
    rgb = np.zeros((frames, height, width, 3))
    rgb[..., 0] = depth == 1
    rgb[..., 2] = depth == 4
    return Surfaces(depth, rgb, cameras_from_fov(poses, 1.2, 1.0, height, width), **options)


def world(seed: int, moving: bool = False) -> SimpleNamespace:
    """A clip in the unit of its nearest depth, and its scene."""
    scene = random_scene(seed)
    if not moving:
        scene = replace(scene, solids=tuple(solid for solid in scene.solids if solid.motion.is_static))
    clip = render(scene, FRAMES, HEIGHT, WIDTH, FPS, samples=1, first_camera_is_world=False)
    near = float(clip.depth.min())
    poses = clip.poses.copy()
    poses[:, :3, 3] /= near
    cameras = Cameras(poses, clip.intrinsics, HEIGHT, WIDTH)
    surfaces = Surfaces(clip.depth / near, clip.rgb, cameras, clip.sky)

    def distances(points: np.ndarray, times: list[float]) -> np.ndarray:
        """To the nearest surface at any of the times, as a share of the scene's depth."""
        found = [distance_to_surfaces(scene, near * points.astype(np.float64), time) for time in times]
        return np.min(found, axis=0) / near / surfaces.middle_depth()

    return SimpleNamespace(surfaces=surfaces, distances=distances, near=near, clip=clip)


@pytest.mark.parametrize("seed", HELD_OUT)
def test_fused_points_lie_on_the_true_surfaces(seed):
    """The issue's number: a median below 0.5 % of the scene's depth."""
    made = world(seed)
    cloud = fuse(made.surfaces)
    assert len(cloud) > 2000
    shares = made.distances(cloud.positions, [0.0])
    assert np.median(shares) < 1e-4
    assert np.percentile(shares, 99) < 0.005
    # The measure itself: a cloud that is 1 % too far away is found out.
    eye = made.surfaces.cameras.poses[0, :3, 3]
    assert np.median(made.distances(eye + 1.02 * (cloud.positions - eye), [0.0])) > 0.002


def test_moving_things_are_where_they_were_in_any_frame():
    made = world(HELD_OUT[0], moving=True)
    cloud = fuse(made.surfaces)
    trail = made.distances(cloud.positions, [frame / FPS for frame in range(FRAMES)])
    now = made.distances(cloud.positions, [0.0])
    assert np.median(trail) < 1e-4 and np.percentile(trail, 99) < 0.01
    assert np.percentile(now, 99.5) > 0.02  # the trail is there
    static = world(HELD_OUT[0])
    once, often = (
        fuse(made.surfaces, 0.03 * made.surfaces.middle_depth(), min_views=views) for views in (1, 6)
    )
    trails = [(static.distances(some.positions, [0.0]) > 0.02).mean() for some in (once, often)]
    assert len(often) > 0.2 * len(once) and trails[1] < 0.5 * trails[0]


@pytest.mark.parametrize("seed", HELD_OUT)
def test_cameras_off_exact_raymaps(seed):
    """The issue's numbers: poses within 1e-4, angles of view within 0.1 degree."""
    cameras = world(seed).surfaces.cameras.relative_to_first()
    read = to_cameras(from_cameras(cameras.poses, cameras.intrinsics, HEIGHT, WIDTH))
    assert np.abs(read.poses - cameras.poses).max() < 1e-4
    for axis in ("fov_x", "fov_y"):
        assert np.degrees(np.abs(getattr(read, axis) - getattr(cameras, axis))).max() < 0.1


def test_a_frames_pixels():
    surfaces = walls(edges=0)
    cloud = frame_cloud(surfaces, -1)
    np.testing.assert_allclose(cloud.positions, point_map(surfaces.depth, surfaces.cameras)[2].reshape(-1, 3))
    assert (cloud.colors == (surfaces.image[2] * 255).reshape(-1, 3)).all()
    assert (cloud.confidence == 1).all()


def test_edges_far_and_mask_leave_pixels_out():
    everything = 12 * 16
    # The jump around the box takes a ring of two pixels: 6 x 8 less 2 x 4.
    assert len(frame_cloud(walls(), 0)) == everything - (6 * 8 - 2 * 4)
    assert len(frame_cloud(walls(edges=5), 0)) == everything
    assert len(frame_cloud(walls(far=4, edges=0), 0)) == 4 * 6
    mask = np.ones((1, 12, 16))
    mask[0, :, :3] = 0
    assert len(frame_cloud(walls(mask=mask, edges=0), 2)) == 12 * 3


@pytest.mark.parametrize("nothing", [0, -1, np.inf, np.nan])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_what_is_masked_needs_no_depth_and_cuts_no_edge(nothing, kind):
    mask = np.zeros((3, 12, 16))
    mask[:, 9:11, 2:14] = 1
    whole = walls(mask=mask)
    depth = whole.depth.copy()
    depth[mask > 0] = nothing
    holed = replace(whole, depth=kind(depth))
    for frame in range(3):
        np.testing.assert_array_equal(holed.confidence_of(frame), whole.confidence_of(frame))
    np.testing.assert_array_equal(fuse(holed).positions, fuse(whole).positions)
    empty = replace(holed, depth=np.full_like(depth, nothing), mask=np.ones_like(mask))
    assert not empty.confidence_of(0).any()
    depth[1, 0, 0] = nothing
    with pytest.raises(InputError, match=r"^depth \(frame 1\): holds"):
        replace(whole, depth=kind(depth)).depth_of(1)


def test_confidence_falls_towards_an_edge():
    slope = np.repeat(np.linspace(1, 1.3, 16)[None, None], 12, axis=1)
    confidence = replace(walls(1), depth=slope).confidence_of(0)
    assert confidence[5, 8] == pytest.approx(1 - 0.04 / (0.2 * slope[0, 5, 8]), abs=1e-5)
    assert ((0 < confidence) & (confidence < 1)).all()
    assert (walls(1).confidence_of(0)[0] == 1).all()


def test_a_voxels_point_is_the_weighted_mean():
    grid = VoxelGrid(1.0)
    positions = np.array([[0.1, 0.1, 0.1], [0.7, 0.1, 0.1], [-0.5, 0, 0]], np.float32)
    colors = np.array([[0, 0, 0], [200, 100, 0], [9, 9, 9]], np.uint8)
    grid.add(PointCloud(positions, colors, np.array([0.25, 0.75, 0.5], np.float32)))
    grid.add(PointCloud(positions[2:], colors[2:], np.ones(1, np.float32)))
    cloud = grid.cloud()
    np.testing.assert_allclose(cloud.positions, [[-0.5, 0, 0], [0.55, 0.1, 0.1]], rtol=1e-6)
    assert cloud.colors.tolist() == [[9, 9, 9], [150, 75, 0]]
    np.testing.assert_allclose(cloud.confidence, [0.75, 0.5])
    assert len(grid.cloud(min_views=2)) == 1
    grid.coarsen()
    assert len(grid) == 2  # -1 and 0 are not neighbors of one larger voxel


@pytest.mark.parametrize("doublings", [1, 3])
def test_coarsening_is_fusing_with_larger_voxels(doublings):
    rng = np.random.default_rng(0)
    clouds = [
        PointCloud(
            rng.normal(0, 1, (500, 3)).astype(np.float32),
            rng.integers(0, 256, (500, 3), dtype=np.uint8),
            rng.uniform(0.1, 1, 500).astype(np.float32),
        )
        for _ in range(3)
    ]
    fine, coarse = VoxelGrid(0.25), VoxelGrid(0.25 * 2**doublings)
    for cloud in clouds:
        fine.add(cloud)
        coarse.add(cloud)
    for _ in range(doublings):
        fine.coarsen()
    one, other = fine.cloud(), coarse.cloud()
    assert fine.size == coarse.size and len(one) == len(other) < 1200
    np.testing.assert_allclose(one.positions, other.positions, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-5)
    assert (np.abs(one.colors.astype(int) - other.colors) <= 1).all()


def test_smaller_voxels_give_more_points_and_every_run_the_same():
    surfaces = world(HELD_OUT[1]).surfaces
    middle = surfaces.middle_depth()
    coarse, fine = (fuse(surfaces, share * middle) for share in (0.02, 0.005))
    assert 2000 < len(coarse) < len(fine) < FRAMES * HEIGHT * WIDTH
    again = fuse(surfaces)
    for one, other in zip(vars(fine).values(), vars(again).values(), strict=True):
        assert np.all(one == other)


def test_points_are_bounded():
    surfaces = world(HELD_OUT[1]).surfaces
    bounded = fuse(surfaces, max_points=3000)
    assert 300 < len(bounded) <= 3000
    done = []
    fuse(surfaces, 0.1, progress=done.append)
    assert done == list(range(1, FRAMES + 1))
    middle = surfaces.middle_depth()
    with pytest.raises(InputError, match=r"voxel_size: makes more than 3,000 points by frame 1 .* times"):
        fuse(surfaces, 0.005 * middle, max_points=3000)
    with pytest.raises(InputError, match="voxel_size: is too small for how far"):
        fuse(surfaces, 1e-6 * middle)


def test_voxels_of_no_given_size_grow_with_how_far_the_points_reach():
    surfaces = walls()
    poses = surfaces.cameras.poses.copy()
    poses[2, 0, 3] = 1e7
    cloud = fuse(replace(surfaces, cameras=replace(surfaces.cameras, poses=poses)))
    assert 1 < len(cloud) < 3 * 12 * 16 and np.ptp(cloud.positions[:, 0]) == pytest.approx(1e7, rel=1e-3)


def test_cameras_of_another_size_of_the_picture():
    surfaces = walls()
    resized = replace(surfaces, cameras=surfaces.cameras.resized(24, 32))
    np.testing.assert_allclose(fuse(resized).positions, fuse(surfaces).positions, rtol=1e-6)


def test_frames_that_are_made_when_asked_for_and_tensors():
    surfaces = walls()

    class Lazy:
        shape = surfaces.depth.shape

        def __getitem__(self, frame):
            return surfaces.depth[int(frame)]

    for depth in (Lazy(), torch.from_numpy(surfaces.depth)):
        assert len(fuse(replace(surfaces, depth=depth))) == len(fuse(surfaces))


def test_a_ply_file_reads_back(tmp_path):
    from plyfile import PlyData

    cloud = fuse(walls())
    write_ply(tmp_path / "cloud.ply", cloud)
    stream = io.BytesIO()
    write_ply(stream, cloud)
    assert (tmp_path / "cloud.ply").read_bytes() == stream.getvalue()
    points = PlyData.read(str(tmp_path / "cloud.ply"))["vertex"]
    assert (np.stack([points[axis] for axis in "xyz"], axis=1) == cloud.positions).all()
    assert (np.stack([points[name] for name in ("red", "green", "blue")], axis=1) == cloud.colors).all()
    assert (points["confidence"] == cloud.confidence).all()
    assert {tuple(color) for color in cloud.colors} == {(255, 0, 0), (0, 0, 255)}


def test_a_mesh_covers_what_is_kept_and_faces_the_camera():
    surfaces = walls()
    mesh = frame_mesh(surfaces, 1)
    # 11 x 15 squares, without the 7 x 9 that touch the ring of the jump; with the 1 x 3 inside it.
    assert len(mesh.faces) == 2 * (11 * 15 - 7 * 9 + 1 * 3)
    corners = mesh.vertices[mesh.faces]
    assert set(np.ptp(corners[..., 2], axis=1)) == {0}  # no triangle from the box to the wall
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] < 0).all()  # towards a camera that looks along +z
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)
    area = np.linalg.norm(normals, axis=1)[corners[:, 0, 2] == 1].sum() / 2
    pixel = 4 * np.tan(0.6) * np.tan(0.5) / (12 * 16)
    assert area == pytest.approx(3 * pixel, rel=1e-4)


def test_a_vertex_has_its_pixels_color():
    mesh = frame_mesh(walls(), 0)
    columns, rows = (mesh.uvs * [16, 12]).T.astype(int)
    red = mesh.picture[rows, columns, 0]
    assert ((mesh.vertices[:, 2] == 1) == (red == 255)).all()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_coarser_mesh_is_cut_at_the_same_edges(step):
    mesh = frame_mesh(walls(1, 60, 80), 0, step)
    assert set(np.ptp(mesh.vertices[mesh.faces][..., 2], axis=1)) == {0}
    assert len(mesh.faces) == pytest.approx(2 * 59 * 79 / step**2, rel=0.2)


def test_a_mesh_file_reads_back():
    gltf = pytest.importorskip("pygltflib")
    mesh = frame_mesh(walls(), 0)
    file = gltf.GLTF2.load_from_bytes(mesh_glb(mesh))
    (primitive,) = file.meshes[0].primitives
    assert file.materials[0].extensions == {"KHR_materials_unlit": {}} and file.materials[0].doubleSided
    data = file.binary_blob()

    def read(number, kind, columns):
        view = file.bufferViews[file.accessors[number].bufferView]
        assert view.byteOffset % 4 == 0
        return np.frombuffer(data[view.byteOffset :][: view.byteLength], kind).reshape(-1, columns)

    positions = read(primitive.attributes.POSITION, "<f4", 3)
    assert (positions == mesh.vertices * [1, -1, -1]).all()
    assert file.accessors[primitive.attributes.POSITION].max == positions.max(axis=0).tolist()
    assert (read(primitive.indices, "<u4", 3) == mesh.faces).all()
    assert (read(primitive.attributes.TEXCOORD_0, "<f4", 2) == mesh.uvs).all()
    view = file.bufferViews[file.images[0].bufferView]
    from PIL import Image

    picture = Image.open(io.BytesIO(data[view.byteOffset :][: view.byteLength]))
    assert np.abs(np.asarray(picture).astype(int) - mesh.picture).max() < 24


def test_a_cloud_file_reads_back():
    gltf = pytest.importorskip("pygltflib")
    cloud = PointCloud(np.ones((2, 3), np.float32), np.array([[0, 128, 255]] * 2, np.uint8), np.ones(2))
    file = gltf.GLTF2.load_from_bytes(cloud_glb(cloud))
    (primitive,) = file.meshes[0].primitives
    assert primitive.mode == 0
    assert file.accessors[primitive.attributes.POSITION].min == [1, -1, -1]
    colors = file.accessors[primitive.attributes.COLOR_0]
    # glTF has linear light: the middle of sRGB's bytes is a fifth of it.
    assert colors.normalized and colors.max == [0, round(0.21586 * 65535), 65535, 65535]


def spoiled(**changes):
    surfaces = walls()
    return lambda: fuse(replace(surfaces, **{name: value(surfaces) for name, value in changes.items()}))


def with_value(name: str, number: float):
    def change(surfaces):
        array = np.array(getattr(surfaces, name))
        array[1, 2, 3] = number
        return array

    return change


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (spoiled(depth=with_value("depth", np.nan)), r"depth \(frame 1\): holds NaN"),
        (spoiled(depth=with_value("depth", np.inf)), r"depth \(frame 1\): holds NaN or infinite"),
        (spoiled(depth=with_value("depth", 0)), r"depth \(frame 1\): holds zero"),
        (spoiled(depth=lambda s: s.depth[0]), r"depth: has shape \(12, 16\)"),
        (spoiled(depth=lambda s: s.depth[:2]), "image: has shape .* this depth takes"),
        (spoiled(image=with_value("image", np.nan)), r"image \(frame 1\): holds NaN"),
        (spoiled(cameras=lambda s: s.cameras.select(slice(2))), "cameras: there are 2 for 3 frames"),
        (spoiled(cameras=lambda s: s.cameras.resized(12, 12)), "cameras: .* one of them was cropped"),
        (spoiled(mask=lambda s: np.zeros((2, 12, 16))), "mask: has shape"),
        (spoiled(mask=lambda s: np.full((1, 12, 16), np.nan)), r"mask \(frame 0\): holds NaN"),
        (spoiled(far=lambda s: 0.0), "far: 0.0 must be a positive depth"),
        (spoiled(far=lambda s: float("nan")), "far: nan"),
        (spoiled(edges=lambda s: -1.0), "edges: -1.0"),
        (spoiled(edges=lambda s: float("nan")), "edges: nan"),
        (lambda: fuse(walls(), 0.0), "voxel_size: 0.0 must be a positive"),
        (lambda: fuse(walls(), -1.0), "voxel_size: -1.0"),
        (lambda: fuse(walls(), float("nan")), "voxel_size: nan"),
        (lambda: fuse(walls(), min_views=0), "min_views: 0 is not within 1 to the 3"),
        (lambda: fuse(walls(), min_views=4), "min_views: 4"),
        (lambda: frame_cloud(walls(), 3), "frame: 3 is not within 0 to 2"),
        (lambda: frame_mesh(walls(), -2), "frame: -2"),
        (lambda: frame_mesh(walls(), 0, 0), "step: 0 must be at least 1"),
        (lambda: frame_mesh(walls(far=0.5), 0), "frame: 0: nothing is left"),
        (lambda: cloud_glb(fuse(walls(mask=np.ones((3, 12, 16))))), "points: nothing is left"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_an_empty_cloud_is_a_file_too(tmp_path):
    write_ply(tmp_path / "empty.ply", fuse(walls(far=0.5)))
    assert b"element vertex 0" in (tmp_path / "empty.ply").read_bytes()


@pytest.mark.parametrize("fov", [0.0, np.pi, np.nan, -1.0])
def test_a_field_of_view_of_nothing_is_refused(fov):
    with pytest.raises(InputError, match="fov_x: an angle of view must be above 0"):
        cameras_from_fov(np.eye(4)[None], fov, 1.0, 4, 4)
