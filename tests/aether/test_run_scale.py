"""A metric scale and a known lens as text, and what the command line makes of them."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from plyfile import PlyData

from aether.cli.commands import main
from aether.errors import InputError
from aether.formats.camera_files import read_cameras, write_cameras
from aether.formats.depth_files import read_depth, write_depth
from aether.formats.export import write_video
from aether.formats.known_lens import read_lens
from aether.geometry import trajectory
from aether.geometry.cameras import METERS
from aether.miniature import random_scene, render
from aether.run import job
from aether.run.scale import parse_scale


def steady(depth: float = 2.0) -> tuple[np.ndarray, object]:
    """A wall ahead of cameras that truck by 0.5."""
    path = trajectory.preset("truck right", 0.5, frames=9, fov=60, height=64, width=96)
    return np.full((9, 64, 96), depth, np.float32), path


def test_every_form(tmp_path):
    depth, path = steady()
    write_depth(tmp_path / "meters", depth * 3, 12, unit=METERS)
    np.save(tmp_path / "meters.npy", depth * 3)
    focal = path.intrinsics[0, 0, 0]
    across = 60 / focal * 2  # of 60 pixels at a depth of 2
    forms = {
        f"distance:{3 * across}:10,30:70,30": 3,
        f"distance:{3 * across}:10,30:70,30:8": 3,
        "baseline:1": 2,
        "baseline:1:0:8": 2,
        f"depth:{tmp_path / 'meters'}": 3,
        f"depth:{tmp_path / 'meters.npy'}": 3,
    }
    for text, factor in forms.items():
        assert parse_scale(text)(depth, path).factor == pytest.approx(factor, rel=1e-5), text
    # A floor 1.5 below the cameras.
    rows = (np.arange(64) + 0.5 - 32) / focal
    floor = np.where(rows > 0.05, 1.5 / np.maximum(rows, 1e-3), 1000)[None, :, None]
    floor = np.broadcast_to(floor, depth.shape).astype(np.float32)
    for text in ("height:3", "height:3:5"):
        assert parse_scale(text)(floor, path).factor == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    "text",
    ["", "height", "height:", "height:two", "baseline:1:2", "distance:1:2,3", "distance:1:2,3:4", "miles:3",
     "distance:1:2,3:4,5,6", "height:1:0:0", "depth:", "distance:1:a,b:c,d"],
)  # fmt: skip
def test_text_that_is_not_understood(text):
    with pytest.raises(InputError, match=r"^meters: .* is not understood; give distance:METERS"):
        parse_scale(text)


def test_depth_that_is_not_in_meters(tmp_path):
    depth, _ = steady()
    write_depth(tmp_path / "units", depth, 12)
    assert read_depth(tmp_path / "units").unit == "nearest depth"
    with pytest.raises(InputError, match=r"^meters: the depth in .* is in units of its clip's nearest depth"):
        parse_scale(f"depth:{tmp_path / 'units'}")
    with pytest.raises(InputError, match=r"^meters: .*none is neither a folder with depth.json nor"):
        parse_scale(f"depth:{tmp_path / 'none'}")
    np.save(tmp_path / "flat.npy", depth[0])
    with pytest.raises(InputError, match=r"^meters: .*\(64, 96\); it must be \(frames, height, width\)"):
        parse_scale(f"depth:{tmp_path / 'flat.npy'}")


def test_lenses_as_text(tmp_path):
    assert np.degrees(read_lens("50", 64, 96).fov_x) == pytest.approx([50])
    lens = read_lens("100,101,47,33", 64, 96)
    np.testing.assert_array_equal(lens.intrinsics[0], [[100, 0, 47], [0, 101, 33], [0, 0, 1]])
    shot = trajectory.preset("static", frames=9, fov=40, height=480, width=720)
    file = write_cameras(tmp_path / "shot", shot, 12, "json")
    path = trajectory.preset("dolly in", frames=17, fov=60, height=64, width=96)
    known = trajectory.with_lens(path, read_lens(str(file), 64, 96))
    assert np.degrees(known.fov_x) == pytest.approx(np.full(17, 40)) and known.lens == "given"
    np.testing.assert_array_equal(known.poses, path.poses)


def test_a_lens_is_cropped_as_pictures_are(tmp_path):
    """A square picture made 3:2 keeps its width; its height's angle narrows."""
    square = trajectory.preset("static", frames=9, fov=40, height=600, width=600)
    path = trajectory.preset("dolly in", frames=17, fov=60, height=64, width=96)
    known = trajectory.with_lens(path, square)
    assert np.degrees(known.fov_x[0]) == pytest.approx(40)
    assert np.tan(known.fov_y[0] / 2) == pytest.approx(np.tan(known.fov_x[0] / 2) * 64 / 96)


@pytest.mark.parametrize(
    "text, words",
    [
        ("wide", "'wide' is not understood; give a horizontal angle"),
        ("1,2", "'1,2' is not understood"),
        ("180", "180.0 is out of range"),
        ("0,0,1,1", "focal lengths .* must be positive"),
    ],
)
def test_lenses_that_cannot_be(text, words):
    with pytest.raises(InputError, match=words):
        read_lens(text, 64, 96)


def test_a_file_without_a_lens(tmp_path):
    file = write_cameras(tmp_path / "a", trajectory.preset("dolly in", frames=9), 12, "tum")
    assert read_cameras(file).cameras.lens == "assumed"
    with pytest.raises(InputError, match=r"^lens: .* has no lens; give a horizontal angle of view"):
        read_lens(str(file), 64, 96)


def test_a_moves_lens():
    """A move has the given lens, and says so; without one its angle is assumed, and it says that."""
    given = job.read_path("orbit-left", 17, 12, read_lens("40", 64, 96))
    assert np.degrees(given.cameras.fov_x[0]) == pytest.approx(40) and given.cameras.lens == "given"
    assumed = job.read_path("orbit-left", 17, 12)
    assert assumed.cameras.lens == "assumed" and "60 degrees was assumed" in assumed.notes[0]


def test_a_file_in_meters_is_reported(tmp_path):
    path = trajectory.preset("truck left", frames=9).scaled(2, METERS)
    for format in ("json", "glb", "nerfstudio"):
        file = write_cameras(tmp_path / format, path, 12, format)
        found = job.read_path(str(file), 17, 12)
        assert found.cameras.unit == METERS
        assert found.notes[-1].startswith("its meters were taken as units")


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def test_a_whole_run(tmp_path):
    """Depth, cameras and points in meters by one factor; both paths drawn; the lens that was given."""
    out = tmp_path / "out"
    code, said, error = run(
        "predict", "synthetic:501", "--steps", "2", "--hero", "off", "--frames", "17",
        "--camera", "truck-left:0.4", "--lens", "70", "--meters", "baseline:5", "--out", str(out),
        "--depth-format", "exr",
    )  # fmt: skip
    assert code == 0, error
    report = json.loads((out / "report.json").read_text())
    factor = report["scale"]["meters_per_unit"]
    cameras = read_cameras(out / "cameras.json").cameras
    assert cameras.unit == METERS and cameras.lens == "given"
    assert np.degrees(cameras.fov_x) == pytest.approx(np.full(17, 70))
    assert np.linalg.norm(cameras.poses[-1, :3, 3] - cameras.poses[0, :3, 3]) == pytest.approx(5, rel=1e-6)
    arrays = np.load(out / "depth.npz")
    units = 1 / np.clip(arrays["disparity"], 1e-3, 1)
    np.testing.assert_allclose(arrays["depth"], units * factor, rtol=1e-5)
    assert arrays["meters_per_unit"] == pytest.approx([factor])
    assert read_depth(out / "depth").unit == METERS
    np.testing.assert_array_equal(read_depth(out / "depth").depth, arrays["depth"])
    assert PlyData.read(out / "scene.ply").comments == ["unit of length: meters"]
    assert report["camera"]["fov_degrees"]["asked"] == pytest.approx(70)
    assert report["lens"] == {"from": "given", "fov_x_degrees": pytest.approx(70)}
    assert (out / "path.png").read_bytes()[:4] == b"\x89PNG"
    assert "scale: 1 unit is" in said and re.search(r"camera path (not )?followed: ", said)


def test_a_plain_run_says_what_it_found(tmp_path):
    out = tmp_path / "out"
    assert run("reconstruct", "synthetic:501", "--steps", "1", "--hero", "off", "--out", str(out))[0] == 0
    document, report = (json.loads((out / name).read_text()) for name in ("cameras.json", "report.json"))
    assert document["unit"] == "nearest depth" and document["lens"] == "found"
    assert report["camera"] is None and report["scale"] is None and report["lens"]["from"] == "found"
    assert not (out / "path.png").exists() and "meters_per_unit" not in np.load(out / "depth.npz")


@pytest.mark.parametrize(
    "option, words",
    [
        (("--meters", "height:two"), "error: --meters: 'height:two' is not understood"),
        (("--lens", "wide"), "error: --lens: 'wide' is not understood"),
    ],
)
def test_options_that_cannot_be(tmp_path, option, words):
    code, _, error = run("reconstruct", "synthetic:501", *option, "--out", str(tmp_path / "out"))
    assert code == 2 and error.startswith(words) and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_windows_too(tmp_path):
    """A clip of two windows, with a known lens and in meters."""
    clip = render(random_scene(501), 23, 64, 96, samples=1).rgb
    write_video(tmp_path / "film.mp4", clip, 12)
    out = tmp_path / "out"
    code, said, error = run(
        "reconstruct", str(tmp_path / "film.mp4"), "--windows", "--steps", "1", "--hero", "off",
        "--lens", "66", "--meters", "baseline:4", "--out", str(out),
    )  # fmt: skip
    assert code == 0, error
    report, document = (json.loads((out / name).read_text()) for name in ("report.json", "cameras.json"))
    assert (document["unit"], document["lens"]) == (METERS, "given") and len(document["frames"]) == 23
    assert report["lens"]["fov_x_degrees"] == pytest.approx(66)
    assert np.load(out / "depth.npz")["meters_per_unit"] == pytest.approx(
        [report["scale"]["meters_per_unit"]]
    )
    assert "scale: 1 unit is" in said


def test_a_scale_that_is_not_found_costs_no_result(tmp_path):
    out = tmp_path / "out"
    code, _, error = run(
        "reconstruct", "synthetic:501", "--steps", "1", "--hero", "off", "--meters", "baseline:2:3:3",
        "--out", str(out),
    )  # fmt: skip
    assert (
        code == 0 and "warning: meters: baseline: the cameras of frames 3 and 3 stand in one place" in error
    )
    assert json.loads((out / "report.json").read_text())["scale"] is None
    assert json.loads((out / "cameras.json").read_text())["unit"] == "nearest depth"


def test_lenses_that_do_not_fit_are_refused_before_the_run(tmp_path):
    zoom = trajectory.preset("static", frames=9, fov=30, start_fov=60)
    file = write_cameras(tmp_path / "zoom", zoom, 12, "json")
    out = tmp_path / "out"
    code, said, error = run("reconstruct", "synthetic:501", "--lens", str(file), "--out", str(out))
    assert code == 2 and error.startswith("error: --lens: differs over 9 frames, but there are 17")
    assert "denoising" not in said and not out.exists()
