"""A run's files: what is in them, and that there are all of them or none."""

import json
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aether.clips.clip import read_clip
from aether.errors import InputError
from aether.formats.contact import color_depth, color_rays, contact_sheet
from aether.formats.export import check_out_dir, write_run, write_video
from aether.frames import Frames
from aether.geometry.cameras import cameras_from_fov
from aether.geometry.depth import disparity_to_depth
from aether.geometry.raymap import from_cameras, to_cameras

FRAMES, HEIGHT, WIDTH = 17, 48, 64
FILES = ["cameras.json", "contact.png", "depth.mp4", "depth.npz", "rgb.mp4", "scene.ply"]

pytest.importorskip("av")
pytest.importorskip("plyfile")


@pytest.fixture(scope="module")
def run():
    """A wall 4 away with a near box in front, seen by a camera that moves to the right."""
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, FRAMES)
    rig = cameras_from_fov(poses, 1.2, 1.0, HEIGHT, WIDTH)
    disparity = np.full((FRAMES, HEIGHT, WIDTH), 0.25, dtype=np.float32)
    disparity[:, 16:32, 20:40] = 0.8
    column, row = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    rgb = np.stack([column, row, np.full_like(row, 0.5)], axis=-1).astype(np.float32)
    rgb = np.broadcast_to(rgb, (FRAMES, HEIGHT, WIDTH, 3))
    raymap = from_cameras(rig.poses, rig.intrinsics, HEIGHT, WIDTH)
    return SimpleNamespace(rgb=rgb, disparity=disparity, raymap=raymap), to_cameras(raymap)


def changed(decoded, **arrays):
    return SimpleNamespace(**{**vars(decoded), **arrays})


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_all_files(tmp_path, run):
    decoded, rig = run
    report, picture = {"full_steps": 27}, b"\x89PNG not looked at"
    written = write_run(
        tmp_path / "deep" / "out", decoded, rig, 12, report=report, report_png=picture,
        source=decoded.rgb, notes=["cut"], extras={"more.json": [1], "raw.bin": b"x"},
    )  # fmt: skip
    assert sorted(written) == sorted([*FILES, "report.json", "report.png", "more.json", "raw.bin"])
    assert everything(tmp_path) == sorted(["deep", "deep/out", *(f"deep/out/{name}" for name in written)])
    assert json.loads(written["report.json"].read_text()) == report
    assert written["report.png"].read_bytes() == picture
    assert json.loads(written["more.json"].read_text()) == [1]

    clip = read_clip(written["rgb.mp4"])
    assert (clip.fps, clip.frames.shape) == (12, (FRAMES, HEIGHT, WIDTH, 3))
    assert np.abs(clip.frames - decoded.rgb).mean() < 0.02
    assert read_clip(written["depth.mp4"]).frames.shape == (FRAMES, HEIGHT, WIDTH, 3)

    with np.load(written["depth.npz"]) as arrays:
        assert {arrays[name].dtype for name in ("depth", "disparity", "raymap")} == {np.dtype(np.float32)}
        np.testing.assert_allclose(arrays["raymap"], decoded.raymap, rtol=1e-6)
        assert (arrays["disparity"] == decoded.disparity).all()
        assert (arrays["depth"] == disparity_to_depth(decoded.disparity)).all()

    cameras = json.loads(written["cameras.json"].read_text())
    assert (cameras["width"], cameras["height"], cameras["fps"]) == (WIDTH, HEIGHT, 12)
    assert "camera-to-world" in cameras["convention"] and "OpenCV" in cameras["convention"]
    assert cameras["notes"] == ["cut"] and len(cameras["frames"]) == FRAMES
    np.testing.assert_allclose([f["pose"] for f in cameras["frames"]], rig.poses)
    np.testing.assert_allclose([f["intrinsics"] for f in cameras["frames"]], rig.intrinsics)
    assert cameras["frames"][0]["fov_x_degrees"] == pytest.approx(np.degrees(1.2), abs=1e-3)

    with Image.open(written["contact.png"]) as sheet:
        assert sheet.size[0] > 6 * 240 and sheet.size[1] > 5 * 180


def test_points_are_where_the_surfaces_are(tmp_path, run):
    from plyfile import PlyData

    decoded, rig = run
    path = write_run(tmp_path / "out", decoded, rig, 12)["scene.ply"]
    assert b"format binary_little_endian" in path.read_bytes()[:60]
    points = PlyData.read(str(path))["vertex"].data
    assert np.unique(points["z"].round(3)).tolist() == [1.25, 4]
    wall, box = points[points["z"] > 3], points[points["z"] < 3]
    assert wall["x"].max() == pytest.approx(1 + 4 * np.tan(0.6) * (1 - 1 / WIDTH), abs=0.02)
    # The box, less a pixel all around, which the jump takes; it comes along with the camera.
    pixel = 1.25 * 2 * np.tan(0.5) / HEIGHT
    assert np.ptp(box["y"]) == pytest.approx(13 * pixel, abs=0.02)
    assert 12 * pixel < np.ptp(box["x"]) - 1 < 24 * pixel
    # All frames' pixels, those together that share a voxel.
    assert 2 * HEIGHT * WIDTH < len(points) < 0.8 * FRAMES * HEIGHT * WIDTH
    assert points["blue"].min() == points["blue"].max() == 128


def test_points_are_bounded(tmp_path, run):
    from plyfile import PlyData

    path = write_run(tmp_path / "out", *run, 12, max_points=1000)["scene.ply"]
    assert 200 < len(PlyData.read(str(path))["vertex"].data) <= 1000


def test_a_scene_without_surfaces_is_an_empty_cloud(tmp_path, run):
    decoded, rig = run
    sky = changed(decoded, disparity=np.zeros_like(decoded.disparity))
    assert write_run(tmp_path / "out", sky, rig, 12)["scene.ply"].exists()


@pytest.mark.parametrize("fps", [8, 10, 12, 15, 24])
def test_video_rate_and_odd_sizes(tmp_path, fps):
    frames = np.random.default_rng(0).integers(0, 255, (20, 33, 47, 3), dtype=np.uint8)
    write_video(tmp_path / "odd.mp4", frames, fps)
    clip = read_clip(tmp_path / "odd.mp4")
    assert clip.fps == fps and clip.source_fps == pytest.approx(fps, rel=1e-3)
    assert clip.frames.shape == (17, 34, 48, 3)


def test_video_keeps_colors(tmp_path):
    colors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0.3, 0.7]])
    frames = np.repeat(np.repeat(colors, 16, axis=0)[None, None], 20, axis=0).repeat(32, axis=1)
    write_video(tmp_path / "colors.mp4", frames, 12)
    middles = read_clip(tmp_path / "colors.mp4").frames[5, 16, 8::16]
    assert np.abs(middles - colors).max() < 0.03


def test_depth_has_one_scale_for_the_sequence():
    disparity = np.linspace(0, 1, 10)[:, None, None] * np.ones((10, 8, 8))
    disparity[0, 0, 0] = 50  # one stray pixel does not darken the rest
    colored = color_depth(Frames(disparity.shape, disparity.__getitem__))
    assert colored.shape == (10, 8, 8, 3)
    colored = np.stack(list(colored))
    assert colored.dtype == np.uint8
    far, near = colored[0, 4, 4].astype(int), colored[-1, 4, 4].astype(int)
    assert near[0] > near[2] and far[2] > far[0]
    assert len({tuple(c) for c in colored[:, 4, 4]}) == 10
    flat = color_depth(Frames((2, 4, 4), lambda frame: np.ones((4, 4))))
    assert flat[1].shape == (4, 4, 3)


def test_ray_colors_are_those_of_normals():
    raymap = np.zeros((1, 6, 1, 3))
    raymap[0, :3, 0] = [[2, 0, 0], [0, 0, -3], [0, 1, 0]]
    assert color_rays(raymap)[0, 0].tolist() == [[255, 128, 128], [128, 128, 255], [128, 0, 128]]


def test_contact_sheet_takes_any_sizes_and_few_frames():
    from io import BytesIO

    rows = {"a": np.zeros((3, 20, 40, 3)), "b": np.zeros((3, 5, 5, 3), dtype=np.uint8)}
    with Image.open(BytesIO(contact_sheet(rows, cell_width=50))) as sheet:
        assert sheet.size == (4 + 3 * 54, 18 + 2 * (18 + 25) + 4)


@pytest.mark.parametrize("kind", ["folder", "empty", "file"])
def test_an_existing_place_is_refused(tmp_path, run, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
    if kind == "folder":
        (out / "mine.txt").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="^out: .* exists"):
        write_run(out, *run, 12)
    if kind != "empty":
        with pytest.raises(InputError, match="something other than an earlier run"):
            write_run(out, *run, 12, overwrite=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("place", ["file/out", "file/deep/out", "/proc/out", "/proc/deep/out"])
def test_a_place_that_cannot_be_written_to_is_seen_before_a_run(tmp_path, place):
    if place.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc, where nobody can write")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="^out: .* cannot be written to: "):
        check_out_dir(tmp_path / place)
    assert everything(tmp_path) == ["file"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_whole_drive_is_no_place_for_a_run(tmp_path, overwrite):
    with pytest.raises(InputError, match="^out: .* is a whole drive; give a folder in it"):
        check_out_dir(tmp_path.anchor, overwrite=overwrite)


def test_overwrite_replaces_an_earlier_run(tmp_path, run):
    write_run(tmp_path / "out", *run, 12, extras={"old.txt": b"old"})
    assert check_out_dir(tmp_path / "out", overwrite=True) == (tmp_path / "out").resolve()
    write_run(tmp_path / "out", *run, 8, overwrite=True)
    assert everything(tmp_path) == ["out", *(f"out/{name}" for name in FILES)]
    assert json.loads((tmp_path / "out" / "cameras.json").read_text())["fps"] == 8


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
@pytest.mark.parametrize(
    "stage",
    [
        *(f"formats.export.{name}" for name in ("write_video", "write_ply", "contact_sheet")),
        "files._put_in_place",
    ],
)
def test_nothing_is_left_of_a_failed_run(tmp_path, run, monkeypatch, error, stage):
    def fail(*args, **kwargs):
        raise error("stop")

    monkeypatch.setattr(f"aether.{stage}", fail)
    with pytest.raises(error):
        write_run(tmp_path / "new" / "out", *run, 12)
    assert everything(tmp_path) == []


def test_the_earlier_run_survives_a_failure(tmp_path, run, monkeypatch):
    write_run(tmp_path / "out", *run, 12)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    rename, calls = os.rename, []

    def second_fails(old, new):
        calls.append(old)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path / "out", *run, 8, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("arrays", "field"),
    [
        ({"rgb": np.full((FRAMES, HEIGHT, WIDTH, 3), np.nan)}, "rgb"),
        ({"disparity": np.full((FRAMES, HEIGHT, WIDTH), np.inf)}, "disparity"),
        ({"raymap": np.full((FRAMES, 6, 6, 8), np.nan)}, "raymap"),
        ({"disparity": np.zeros((FRAMES, HEIGHT, 8))}, "disparity"),
        ({"rgb": np.zeros((3, HEIGHT, WIDTH, 3)), "disparity": np.zeros((3, HEIGHT, WIDTH))}, "raymap"),
    ],
)
def test_bad_arrays_are_refused_before_anything_is_written(tmp_path, run, arrays, field):
    decoded, rig = run
    with pytest.raises(InputError) as error:
        write_run(tmp_path / "new" / "out", changed(decoded, **arrays), rig, 12)
    assert error.value.field == field
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"fps": float("nan")}, "fps"),
        ({"fps": 0}, "fps"),
        ({"source": np.zeros((3, 4, 4, 3))}, "source"),
        ({"extras": {"../up.txt": b""}}, "extras"),
        ({"extras": {"rgb.mp4": b""}}, "extras"),
        ({"cameras": "other"}, "cameras"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, run, options, field):
    decoded, rig = run
    options = {"fps": 12, "cameras": rig, **options}
    if options["cameras"] == "other":
        options["cameras"] = rig.select(slice(3))
    with pytest.raises(InputError) as error:
        write_run(tmp_path / "out", decoded, **options)
    assert error.value.field == field
    assert everything(tmp_path) == []


def test_pictures_are_asked_for_one_at_a_time_and_give_the_same_files(tmp_path, run):
    decoded, rig = run
    alive, most = weakref.WeakSet(), []

    class Picture(np.ndarray):
        """One that can be counted."""

        __hash__ = object.__hash__

    def lazily(array):
        def read(frame):
            picture = array[frame].copy().view(Picture)
            alive.add(picture)
            most.append(len(alive))
            return picture

        return Frames(array.shape, read)

    source = decoded.rgb[:, ::2, ::2]
    streams = changed(decoded, **{name: lazily(array) for name, array in vars(decoded).items()})
    whole = write_run(tmp_path / "whole", *run, 12, source=source)
    lazy = write_run(tmp_path / "lazy", streams, rig, 12, source=lazily(source))
    assert whole.keys() == lazy.keys()
    for name in ("cameras.json", "scene.ply", "contact.png"):
        assert whole[name].read_bytes() == lazy[name].read_bytes()
    with np.load(whole["depth.npz"]) as one, np.load(lazy["depth.npz"]) as other:
        assert all(np.array_equal(one[name], other[name]) for name in ("depth", "disparity", "raymap"))
    assert len(most) > 5 * FRAMES and max(most) <= 4


def test_bytes_and_floats_are_the_same_colors(tmp_path, run):
    decoded, rig = run
    bytes_ = (decoded.rgb * 255 + 0.5).astype(np.uint8)
    one = write_run(tmp_path / "bytes", changed(decoded, rgb=bytes_), rig, 12)
    other = write_run(tmp_path / "floats", changed(decoded, rgb=bytes_ / np.float32(255)), rig, 12)
    assert all(one[name].read_bytes() == other[name].read_bytes() for name in ("scene.ply", "contact.png"))


def test_a_report_that_is_not_json_writes_nothing(tmp_path, run):
    with pytest.raises(TypeError):
        write_run(tmp_path / "out", *run, 12, report={"tensor": object()})
    assert everything(tmp_path) == []
