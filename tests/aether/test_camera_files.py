"""Camera paths as files: written and read back, read by other libraries, and refused."""

import codecs
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.formats.camera_files import FORMATS, Lens, read_cameras, write_cameras
from aether.geometry import trajectory
from aether.geometry.cameras import Cameras, from_quaternions, to_gltf, to_quaternions

from .camera_makers import glb_of, put

NO_LENS = {"tum"}
NO_RATE = {"colmap"}


def random_path(seed: int) -> Cameras:
    """A path that starts anywhere, turns more than once around, and zooms."""
    rng = np.random.default_rng(seed)
    frames = 25
    poses = np.tile(np.eye(4), (frames, 1, 1))
    axis = rng.normal(size=3)
    turns = Rotation.from_rotvec(np.linspace(0, 9, frames)[:, None] * axis / np.linalg.norm(axis))
    poses[:, :3, :3] = (Rotation.random(random_state=seed) * turns).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(size=(frames, 3)), axis=0)
    zoom = trajectory.preset("static", frames=frames, fov=30, start_fov=80)
    return Cameras(poses, zoom.intrinsics + [[0, 0, 3.5], [0, 0, -2], [0, 0, 0]], 480, 720)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("seed", range(5))
def test_written_and_read_back(tmp_path, format, seed):
    path = random_path(seed)
    target = write_cameras(tmp_path / "shot_", path, 12, format)
    assert [target] == list(tmp_path.iterdir())  # nothing temporary is left
    lens = Lens(50, 320, 640)
    found = read_cameras(target, lens)
    assert np.abs(found.cameras.poses - path.poses).max() < 5e-6
    assert found.fps == (None if format in NO_RATE else pytest.approx(12))
    if format in NO_LENS:
        np.testing.assert_allclose(np.degrees(found.cameras.fov_x), 50)
        assert (found.cameras.height, found.cameras.width) == (320, 640)
        assert found.notes == ["the file has no lens: 50 degrees and 640 x 320 were taken"]
    else:
        np.testing.assert_allclose(found.cameras.intrinsics, path.intrinsics, rtol=1e-9)
        assert (found.cameras.height, found.cameras.width) == (480, 720)


def move() -> Cameras:
    """Trucks right, then looks up: its last camera is at x = 1 and looks towards -y."""
    truck = trajectory.preset("truck right", 1, frames=9)
    return trajectory.chain(truck, trajectory.preset("tilt up", 1, frames=9))


def test_conventions_by_hand(tmp_path):
    """The last camera, spelled out: no code of ours reads it."""
    files = {format: write_cameras(tmp_path / "a", move(), 10, format) for format in FORMATS}
    half = 0.5**0.5
    pose = np.array(json.loads(files["json"].read_text())["frames"][-1]["pose"])
    np.testing.assert_allclose(pose[:3, 2:].T, [[0, -1, 0], [1, 0, 0]], atol=1e-9)

    tum = np.loadtxt(files["tum"])
    np.testing.assert_allclose(tum[:, 0], np.arange(17) / 10)
    np.testing.assert_allclose(tum[-1, 1:], [1, 0, 0, half, 0, 0, half], atol=1e-9)

    lines = (files["colmap"] / "images.txt").read_text().splitlines()
    words = lines[-2].split()
    assert lines[-1] == "" and words[0] == "17" and words[8:] == ["1", "frame_00017.png"]
    # World to camera: t = -R' c; the world's x stays the camera's x.
    np.testing.assert_allclose([float(w) for w in words[1:8]], [half, -half, 0, 0, -1, 0, 0], atol=1e-9)
    assert (files["colmap"] / "cameras.txt").read_text().splitlines()[1] == (
        "1 PINHOLE 720 480 623.538290725 623.538290725 360 240"
    )
    assert (files["colmap"] / "points3D.txt").read_text().startswith("#")

    document = json.loads(files["nerfstudio"].read_text())
    first, last = (np.array(document["frames"][frame]["transform_matrix"]) for frame in (0, -1))
    # z is up: the first camera looks along +y with its own y axis up, the last one straight up.
    np.testing.assert_allclose(first[:3, :3].T, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-9)
    np.testing.assert_allclose(-last[:3, 2], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(last[:3, 3], [1, 0, 0], atol=1e-9)


def test_glb_by_another_library(tmp_path):
    """pygltflib reads what we wrote; y is up and the camera looks along -z."""
    pygltflib = pytest.importorskip("pygltflib")
    file = write_cameras(tmp_path / "shot", move(), 12, "glb")
    glb = pygltflib.GLTF2().load(str(file))
    (camera,), (animation,) = glb.cameras, glb.animations
    assert glb.nodes[glb.scenes[glb.scene].nodes[0]].camera == 0
    np.testing.assert_allclose(camera.perspective.aspectRatio, 1.5)
    np.testing.assert_allclose(camera.perspective.yfov, move().fov_y[0])
    assert [channel.target.path for channel in animation.channels] == ["translation", "rotation"]
    blob = glb.binary_blob()
    values = {}
    for name, accessor in zip(("times", "places", "turns"), glb.accessors, strict=True):
        view = glb.bufferViews[accessor.bufferView]
        numbers = np.frombuffer(blob, "<f4", offset=view.byteOffset, count=view.byteLength // 4)
        values[name] = numbers.reshape(accessor.count, -1)
        np.testing.assert_array_equal(values[name].min(axis=0), np.float32(accessor.min))
    np.testing.assert_allclose(values["times"][:, 0], np.arange(17) / 12, rtol=1e-6)
    np.testing.assert_allclose(values["places"][-1], [1, 0, 0], atol=1e-6)
    looks = Rotation.from_quat(values["turns"]).apply([0, 0, -1])
    np.testing.assert_allclose(looks[0], [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(looks[-1], [0, 1, 0], atol=1e-6)


def test_quaternions_stay_on_one_side():
    quaternions, places = to_quaternions(random_path(3).poses)
    assert ((quaternions[1:] * quaternions[:-1]).sum(axis=1) > 0).all()
    np.testing.assert_allclose(from_quaternions(quaternions, places), random_path(3).poses, atol=1e-12)
    np.testing.assert_allclose(to_gltf(to_gltf(random_path(3).poses)), random_path(3).poses)


def blender_like(**lens) -> bytes:
    """A camera that hangs on a scaled, shifted empty; the empty moves, the camera turns, at other times."""
    camera = {"type": "perspective", "perspective": {"yfov": 0.6, "aspectRatio": 2, "znear": 0.1} | lens}
    samplers = [{"input": 0, "output": 1}, {"input": 2, "output": 3, "interpolation": "LINEAR"}]
    channels = [
        {"sampler": 0, "target": {"node": 1, "path": "translation"}},
        {"sampler": 1, "target": {"node": 0, "path": "rotation"}},
    ]
    return glb_of(
        {
            "asset": {"version": "2.0"},
            "cameras": [camera],
            "nodes": [{"camera": 0}, {"children": [0], "scale": [2, 2, 2]}],
            "animations": [{"samplers": samplers, "channels": channels}],
        },
        np.array([[0.0], [1]]),
        np.array([[0.0, 0, 0], [4, 0, 0]]),
        np.arange(5)[:, None] / 4,
        Rotation.from_euler("y", np.arange(5)[:, None] * -10, degrees=True).as_quat(),
    )


def test_a_glb_from_elsewhere(tmp_path):
    (tmp_path / "b.glb").write_bytes(blender_like())
    found = read_cameras(tmp_path / "b.glb")
    assert found.fps == pytest.approx(4)
    np.testing.assert_allclose(found.cameras.poses[:, 0, 3], np.arange(5), atol=1e-6)
    # Turned about -y (up) by 10 degrees a frame: to the right.
    angles = np.degrees(np.arctan2(found.cameras.poses[:, 0, 2], found.cameras.poses[:, 2, 2]))
    np.testing.assert_allclose(angles, np.arange(5) * 10, atol=1e-4)
    np.testing.assert_allclose(found.cameras.fov_y, 0.6)
    assert (found.cameras.height, found.cameras.width) == (480, 960)


def timed(tmp_path: Path, format: str, times: list[float]) -> Path:
    """A camera that moves along x to 0, 4, 5, ... and turns to the right by 40 degrees from pose to pose."""
    frames = np.arange(len(times))
    places = np.stack([frames + 3.0 * (frames > 0), 0 * frames, 0 * frames], axis=1)
    sign = {"tum": 1, "glb": -1}[format]  # of a turn to the right about y, down or up
    turns = Rotation.from_euler("y", sign * 40 * frames[:, None], degrees=True).as_quat()
    if format == "tum":
        table = np.concatenate([np.array(times)[:, None], places, turns], axis=1)
        return put(tmp_path, "a.txt", "\n".join(" ".join(map(str, row)) for row in table))
    keys = np.array(times)[:, None]
    return put(tmp_path, "a.glb", moving_glb(keys, places, keys, turns))


def moving_glb(*tracks: np.ndarray) -> bytes:
    """One camera: times and places, times and turns."""
    paths = ("translation", "rotation")
    animation = {
        "samplers": [{"input": 2 * n, "output": 2 * n + 1} for n in range(2)],
        "channels": [{"sampler": n, "target": {"node": 0, "path": paths[n]}} for n in range(2)],
    }
    camera = {"type": "perspective", "perspective": {"yfov": 0.6}}
    return glb_of({"cameras": [camera], "nodes": [{"camera": 0}], "animations": [animation]}, *tracks)


@pytest.mark.parametrize("format", ["tum", "glb"])
def test_uneven_times_are_sampled_at_even_ones(tmp_path, format):
    found = read_cameras(timed(tmp_path, format, [0, 1, 5]))
    poses = found.cameras.poses
    assert found.fps == pytest.approx(24) and len(poses) == 121
    # Half a second into the first second, then at 2.5 of 1 to 5.
    np.testing.assert_allclose(poses[[12, 60, 120], 0, 3], [2, 4.375, 5], atol=1e-6)
    angles = np.degrees(np.arctan2(poses[:, 0, 2], poses[:, 2, 2]))
    np.testing.assert_allclose(angles[[12, 60, 120]], [20, 55, 80], atol=1e-4)
    said = "the file's times are uneven: the path was sampled 24 times a second, straight between its poses"
    assert found.notes[-1] == said

    jitter = read_cameras(timed(tmp_path, format, [0, 0.011, 0.019, 0.03, 0.04]))
    assert jitter.fps == pytest.approx(100) and len(jitter.cameras) == 5
    assert len(read_cameras(timed(tmp_path, format, [0, 1, 1e5])).cameras) == trajectory.MOST_FRAMES
    even = read_cameras(timed(tmp_path, format, [1, 3, 5]))
    assert even.fps == pytest.approx(0.5) and len(even.cameras) == 3
    assert not any("uneven" in note for note in even.notes)


@pytest.mark.parametrize("times", [[0, 1, 1], [5, 1, 0]])
def test_times_that_do_not_rise_leave_the_order(tmp_path, times):
    found = read_cameras(timed(tmp_path, "tum", times))
    np.testing.assert_allclose(found.cameras.poses[:, 0, 3], [0, 4, 5])
    assert found.fps is None and "do not rise" in found.notes[-1]


def test_a_glb_lasts_as_long_as_any_track(tmp_path):
    places = np.array([[0.0, 0, 0], [4, 0, 0]])
    turns = Rotation.from_euler("y", [[0], [-5], [-10]], degrees=True).as_quat()
    keys = np.array([[0.0], [0.1], [0.2]])
    file = put(tmp_path, "a.glb", moving_glb(np.array([[0.0], [4]]), places, keys, turns))
    found = read_cameras(file)
    assert found.fps == pytest.approx(24)
    np.testing.assert_allclose(found.cameras.poses[:, 0, 3], np.linspace(0, 4, 97), atol=1e-6)
    # The same moments, differently rounded.
    file = put(tmp_path, "a.glb", moving_glb(keys[[0, 2]] + 4e-5, places, keys, turns))
    assert len(read_cameras(file).cameras) == 3 and read_cameras(file).fps == pytest.approx(10, rel=1e-3)


def test_pictures_in_the_order_of_their_numbers(tmp_path):
    """1, 2, ..., 12: not 1, 10, 11, 12, 2, nor the order in the file."""
    path = random_path(2).select(slice(12))
    images = write_cameras(tmp_path / "x", path, 12, "colmap") / "images.txt"
    images.write_text(re.sub(r"frame_0*", "", images.read_text()))
    np.testing.assert_allclose(read_cameras(images).cameras.poses, path.poses, atol=1e-9)

    document = json.loads(write_cameras(tmp_path / "x", path, 12, "nerfstudio").read_text())
    for number, frame in enumerate(document["frames"], 1):
        frame["file_path"] = f"images/{number}.png"
    document["frames"].reverse()
    file = put(tmp_path, "a.json", document)
    np.testing.assert_allclose(read_cameras(file).cameras.poses, path.poses, atol=1e-9)
    del document["frames"][3]["file_path"]
    np.testing.assert_allclose(
        read_cameras(put(tmp_path, "a.json", document)).cameras.poses, path.poses[::-1], atol=1e-9
    )


@pytest.mark.parametrize("missing", [["height", "width"], ["width"]])
def test_a_missing_size_is_told_by_the_principal_point(tmp_path, missing):
    lens = [[1600, 0, 960], [0, 1600, 540.2], [0, 0, 1]]
    content = {"poses": STILL.tolist(), "intrinsics": lens, "height": 1080, "width": 1920}
    found = read_cameras(put(tmp_path, "a.json", {k: v for k, v in content.items() if k not in missing}))
    assert (found.cameras.height, found.cameras.width) == (1080, 1920)
    (note,) = found.notes
    assert note.startswith(f"the file has no {' and '.join(missing)}: 1920 x 1080 was taken")
    assert read_cameras(put(tmp_path, "a.json", content)).notes == []


def test_poses_alone(tmp_path):
    path = random_path(1)
    np.save(tmp_path / "a.npy", path.poses[:, :3])
    np.savez(tmp_path / "b.npz", poses=path.poses, intrinsics=path.intrinsics, height=480, width=720, fps=24)
    np.savez(tmp_path / "c.npz", poses=path.poses, intrinsics=path.intrinsics[0], height=480, width=720)
    (tmp_path / "d.json").write_text(json.dumps(path.poses.tolist()))
    (tmp_path / "e.json").write_text(json.dumps({"poses": path.poses.tolist(), "fps": 8}))
    found = {file.stem: read_cameras(file, Lens(40)) for file in sorted(tmp_path.iterdir())}
    for one in found.values():
        np.testing.assert_allclose(one.cameras.poses, path.poses, atol=1e-12)
    np.testing.assert_allclose(found["b"].cameras.intrinsics, path.intrinsics)
    np.testing.assert_allclose(found["c"].cameras.intrinsics[7], path.intrinsics[0])
    np.testing.assert_allclose(np.degrees(found["a"].cameras.fov_x), 40)
    assert [found[name].fps for name in "abcde"] == [None, 24, None, None, 8]


def test_folders(tmp_path):
    """An earlier run's, nerfstudio's and COLMAP's."""
    for name in ("cameras.json", "transforms.json"):
        (tmp_path / name).mkdir()
        written = write_cameras(tmp_path / name / "x", move(), 12, {"c": "json", "t": "nerfstudio"}[name[0]])
        written.rename(tmp_path / name / name)
        np.testing.assert_allclose(read_cameras(tmp_path / name).cameras.poses, move().poses, atol=1e-9)
    colmap = write_cameras(tmp_path / "x", move(), 12, "colmap")
    for where in (colmap, colmap / "images.txt"):
        np.testing.assert_allclose(read_cameras(where).cameras.poses, move().poses, atol=1e-9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="file: empty holds none of cameras.json"):
        read_cameras(tmp_path / "empty")


def test_instant_ngp(tmp_path):
    """No fl_x, no size, no applied transform; distortion is left out and reported."""
    matrices = [np.diag([1.0, -1, -1, 1]).tolist()] * 2
    frames = [{"file_path": "a", "transform_matrix": matrix} for matrix in matrices]
    (tmp_path / "t.json").write_text(json.dumps({"camera_angle_x": 0.9, "k1": 0.1, "frames": frames}))
    found = read_cameras(tmp_path / "t.json")
    np.testing.assert_allclose(found.cameras.poses, np.tile(np.eye(4), (2, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(found.cameras.fov_x, 0.9)
    # The corner has r^2 = tan(0.45)^2 (1 + 4 / 9); its distance from the middle grows by 0.1 r^2.
    grown = 0.1 * np.tan(0.45) ** 2 * (1 + 4 / 9) * np.hypot(360, 240)
    assert found.notes == [
        "the file has no h and w: 720 x 480 was taken",
        f"lens distortion was left out: OPENCV with k1 = 0.1, up to {grown:.3g} pixels at the picture's edge",
    ]


def test_a_focal_length_without_a_size_is_told_by_the_principal_point(tmp_path):
    file = put(tmp_path, "t.json", nerfstudio(fl_x=1600, cx=960, cy=540.2))
    found = read_cameras(file)
    assert (found.cameras.height, found.cameras.width) == (1080, 1920)
    taken = "1920 x 1080 was taken, with the principal point in the middle"
    assert found.notes == [f"the file has no h and w: {taken}"]


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"glb"}))
def test_a_byte_order_mark_is_read_over(tmp_path, format):
    """Windows' editors put one first."""
    path = random_path(3)
    target = write_cameras(tmp_path / "x", path, 12, format)
    for file in target.iterdir() if target.is_dir() else [target]:
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    np.testing.assert_allclose(read_cameras(target).cameras.poses, path.poses, atol=5e-6)


def test_blank_lines_and_indented_comments_of_tum(tmp_path):
    text = write_cameras(tmp_path / "x", move(), 12, "tum").read_text()
    file = put(tmp_path, "a.txt", "  # a comment\n" + text + "   \n")
    np.testing.assert_allclose(read_cameras(file).cameras.poses, move().poses, atol=1e-9)


STILL = np.tile(np.eye(4), (3, 1, 1))


def changed(*place: int, value: float) -> np.ndarray:
    poses = STILL.copy()
    poses[place] = value
    return poses


def nerfstudio(**settings: object) -> dict:
    return settings | {"frames": [{"transform_matrix": np.eye(4).tolist()}] * 2}


@pytest.mark.parametrize(
    "name, content, field, words",
    [
        ("a.npy", STILL[:1], "poses", "single pose"),
        ("a.npy", STILL[:0], "poses", "empty"),
        ("a.npy", STILL[0], "poses", "shape"),
        ("a.npy", changed(1, 0, 3, value=np.nan), "poses", "NaN"),
        ("a.npy", changed(1, 0, 3, value=np.inf), "poses", "infinite"),
        ("a.npy", changed(1, 0, 0, value=1.1), "poses", "frame 1: .* scales or shears"),
        ("a.npy", changed(2, 0, 1, value=0.2), "poses", "frame 2: .* scales or shears"),
        ("a.npy", changed(2, 0, 0, value=-1), "poses", "frame 2: .* left-handed"),
        ("a.npy", changed(0, 3, 0, value=1), "poses", "last row"),
        ("a.npy", np.array([{}], dtype=object), "file", "cannot be read"),
        ("a.npz", b"PK nonsense", "file", "cannot be read"),
        ("a.json", "{", "file", "cannot be read"),
        ("a.json", "3", "poses", "neither poses nor frames"),
        ("a.json", {"frames": []}, "poses", "a.json holds frames; expected are poses"),
        ("a.json", {"frames": 5}, "file", "cannot be read"),
        ("a.json", {"poses": "many"}, "poses", "not numbers"),
        ("a.json", {"poses": [[1, 2], [3]]}, "poses", "not of one shape"),
        ("a.json", '{"poses": [[[NaN,0,0,0],[0,1,0,0],[0,0,1,0]]]}', "poses", "NaN"),
        ("a.json", {"poses": STILL.tolist(), "intrinsics": [[0] * 3] * 3}, "intrinsics", "positive"),
        ("a.json", {"poses": STILL.tolist(), "intrinsics": np.eye(3).tolist()}, "intrinsics", "add height"),
        ("a.json", nerfstudio(camera_angle_x=0), "camera_angle_x", "between 0 and pi"),
        ("a.json", nerfstudio(fl_x=0, w=8, h=8), "intrinsics", "positive"),
        ("a.json", nerfstudio(fl_x=500, w=0, h=8), "width", "from 1 to"),
        ("a.json", nerfstudio(fl_x=500), "intrinsics", "add h and w"),
        ("a.json", nerfstudio(fl_x=500, cx=360, w=720), "intrinsics", "add h$"),
        ("a.txt", "1 2 3\n", "poses", "no TUM trajectory"),
        ("a.txt", "0 0 0 0 0 0 0 2\n1 0 0 0 0 0 0 1\n", "poses", "frame 0: its quaternion has length 2"),
        ("a.txt", "0 0 0 nan 0 0 0 1\n1 0 0 0 0 0 0 1\n", "poses", "NaN"),
        ("a.glb", b"glTF", "file", "cannot be read"),
        ("a.glb", b"x" * 64, "file", "no GLB"),
        ("a.glb", blender_like(yfov=0), "yfov", "between 0 and pi"),
        ("a.glb", glb_of({"nodes": []}), "file", "no camera"),
        ("a.glb", glb_of({"nodes": [{"camera": 0}]}), "file", "does not move"),
        ("a.glb", moving_glb(*[np.eye(1, n) for n in (1, 3, 1, 4)]), "file", "does not move"),
        ("a.png", b"", "file", "not one of"),
        ("images.txt", "", "file", "cameras.txt is missing"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, name, content, field, words):
    with pytest.raises(InputError, match=words) as caught:
        read_cameras(put(tmp_path, name, content))
    assert caught.value.field == field


def test_more_refusals(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_cameras(tmp_path / "absent.json")
    np.save(tmp_path / "a.npy", STILL)
    for fov in (0, 180, float("nan")):
        with pytest.raises(InputError, match="fov: "):
            read_cameras(tmp_path / "a.npy", Lens(fov))


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    for format in FORMATS:
        write_cameras(tmp_path / "a", move(), 12, format)
        with pytest.raises(InputError, match="exists; give another name"):
            write_cameras(tmp_path / "a", move(), 12, format)
        with pytest.raises(InputError, match="fps: "):
            write_cameras(tmp_path / "b", move(), 0, format)
    with pytest.raises(InputError, match="format: "):
        write_cameras(tmp_path / "b", move(), 12, "fbx")

    def full(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "rename", full)
    before = sorted(tmp_path.rglob("*"))
    for format in FORMATS:
        with pytest.raises(OSError, match="disk full"):
            write_cameras(tmp_path / "c", move(), 12, format)
    assert sorted(tmp_path.rglob("*")) == before
