"""Tables of poses as text, arrays under names in use, and short JSON: read, or refused with a reason."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.formats.camera_files import Lens, read_cameras

from .camera_makers import asymmetric_path, kitti, put, realestate, record3d, rows, splatting

NO_LENS = "the file has no lens: 60 degrees and 720 x 480 were taken"
TURN = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_quat()
LENS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])


def poses(count: int = 4) -> np.ndarray:
    found = np.tile(np.eye(4), (count, 1, 1))
    found[:, :3, :3] = Rotation.from_quat(TURN).as_matrix()
    found[:, 0, 3] = range(count)
    return found


def tum(times, between: str = " ", end: str = "", w_first: bool = False) -> str:
    turn = np.roll(TURN, 1) if w_first else TURN
    lines = [
        between.join([str(time), str(n), "0", "0", *(repr(float(q)) for q in turn)]) + end
        for n, time in enumerate(times)
    ]
    return "\n".join(lines) + "\n"


def check(found, fps: float | None, *notes: str) -> None:
    np.testing.assert_allclose(found.cameras.poses, poses(len(found.cameras)), atol=1e-9)
    assert found.fps == (None if fps is None else pytest.approx(fps))
    assert found.notes == [NO_LENS, *notes]


# --- Text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        tum([0, 0.1, 0.2]),
        tum([0, 0.1, 0.2], ","),
        tum([0, 0.1, 0.2], ", "),
        tum([0, 0.1, 0.2], "; "),
        tum([0, 0.1, 0.2], "\t"),
        tum([0, 0.1, 0.2], end=" # a frame"),
        tum([0, 0.1, 0.2], end="  # 1.png").replace("\n", "\r\n\r\n"),
        "timestamp,tx,ty,tz,qx,qy,qz,qw\n" + tum([0, 0.1, 0.2], ","),
        "# timestamp tx ty tz qw qx qy qz\n" + tum([0, 0.1, 0.2], w_first=True),
        "time;x;y;z;q_w;q_x;q_y;q_z\n" + tum([0, 0.1, 0.2], ";", w_first=True),
        "# ground truth trajectory\n# file: 'a.bag'\n# timestamp tx ty tz qx qy qz qw\n" + tum([0, 0.1, 0.2]),
        "# timestamp tx ty tz qw qx qy qz\n# made by a program with w first\n\n"
        + tum([0, 0.1, 0.2], w_first=True),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_variants_of_tum(tmp_path, text, name):
    check(read_cameras(put(tmp_path, name, text)), 10)


def test_a_long_comment_takes_no_time(tmp_path):
    check(read_cameras(put(tmp_path, "a.txt", "# " + "[" * 200_000 + "\n" + tum([0, 0.1, 0.2]))), 10)


def test_utf_16(tmp_path):
    check(read_cameras(put(tmp_path, "a.txt", tum([0, 0.1, 0.2]).encode("utf-16"))), 10)


@pytest.mark.parametrize(
    "times, unit",
    [
        ([1403636579763555584 + n * 50_000_000 for n in range(4)], "nanoseconds"),
        ([n * 50_000_000 for n in range(4)], "nanoseconds"),
        ([1403636579763555 + n * 50_000 for n in range(4)], "microseconds"),
        ([5339333 + n * 50_000 for n in range(4)], "microseconds"),
        ([1700000000000 + n * 50 for n in range(4)], "milliseconds"),
    ],
)
def test_units_of_stamps(tmp_path, times, unit):
    check(read_cameras(put(tmp_path, "a.txt", tum(times))), 20, f"the stamps were read as {unit}")


def test_seconds_and_frame_numbers(tmp_path):
    check(read_cameras(put(tmp_path, "a.txt", tum([1.7e9, 1.7e9 + 0.5, 1.7e9 + 1]))), 2)
    check(read_cameras(put(tmp_path, "a.txt", tum([0, 2, 4]))), 0.5)
    check(read_cameras(put(tmp_path, "a.txt", tum([0, 7]))), 1 / 7)
    note = "the stamps 0, 1, 2 and so on were read as frame numbers: the file has no rate"
    check(read_cameras(put(tmp_path, "a.txt", tum([0, 1, 2]))), None, note)
    check(read_cameras(put(tmp_path, "a.txt", "# some path\n" + tum([5, 6, 7]))), None, note)
    check(read_cameras(put(tmp_path, "a.txt", "# timestamp tx ty tz qx qy qz qw\n" + tum([0, 1, 2]))), 1)


def test_the_poses_of_euroc_are_reported_as_the_bodys(tmp_path):
    head = (
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"
    )
    found = read_cameras(put(tmp_path, "data.csv", head + tum([0, 5e7, 1e8], ",", w_first=True)))
    body = "EuRoC's poses are those of the body, not of a camera: apply the camera's T_BS to them"
    check(found, 20, "the stamps were read as nanoseconds", body)


@pytest.mark.parametrize(
    "text",
    [rows(poses()[:, :3]), rows(poses()), rows(poses().reshape(-1, 4)), rows(poses()[:, :3], between=",")],
    ids=["KITTI", "16 in a line", "4 in 4 lines", "commas"],
)
def test_matrices(tmp_path, text):
    check(read_cameras(put(tmp_path, "a.txt", text)), None)


def test_realestate(tmp_path):
    path = asymmetric_path()
    found = read_cameras(realestate(tmp_path, path), Lens(60, 360, 10))
    assert (found.cameras.height, found.cameras.width) == (360, 540)
    assert found.notes == ["the file has no picture size: 540 x 360 was taken, by square pixels"]
    without_address = realestate(tmp_path, path).read_text().split("\n", 1)[1]
    assert len(read_cameras(put(tmp_path, "b.txt", without_address)).cameras) == len(path)
    bent = without_address.split()
    bent[5] = "0.1"
    lines = [" ".join(bent[19 * n : 19 * n + 19]) for n in range(len(path))]
    notes = read_cameras(put(tmp_path, "c.txt", "\n".join(lines))).notes
    assert notes[-1].startswith("lens distortion was left out: RADIAL with k1 = 0.1, up to 18.7 pixels")


def test_realestate_with_gaps_keeps_its_pace_and_zoom(tmp_path):
    path = asymmetric_path()
    table = np.loadtxt(realestate(tmp_path, path), skiprows=1)[[0, 1, 6]]
    table[:, 1:3] *= [[1], [2], [4]]
    found = read_cameras(put(tmp_path, "a.txt", rows(table)))
    assert found.fps == pytest.approx(24, rel=1e-3) and len(found.cameras) == 13
    focals = found.cameras.intrinsics[:, 0, 0] / found.cameras.intrinsics[0, 0, 0]
    np.testing.assert_allclose(focals[[0, 1, 2, 7, 12]], [1, 1.5, 2, 3, 4], rtol=1e-3)
    np.testing.assert_allclose(found.cameras.poses[12], path.poses[6], atol=1e-6)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("pose_left.txt", rows(np.ones((4, 7))), "has 7 numbers a line; expected are 8"),
        ("a.txt", "1 2 3\n", "has 3 numbers a line; .*RealEstate10K"),
        ("a.csv", "frame,roll,pitch\n1,2,3\n", "has 3 numbers a line"),
        ("a.txt", rows(np.eye(4)), "single pose"),
        ("a.txt", rows(np.ones((4, 4))), "4 numbers a line are no 4 x 4 matrices"),
        ("a.txt", rows(np.eye(4)[:3]), "4 numbers a line are no 4 x 4 matrices"),
        ("a.txt", tum([0, 0.1]).replace(".", ","), "line 1 has decimal commas; write decimal points"),
        ("a.txt", tum([0, 0.1]) + "0 1 2\n", "line 3 has 3 numbers, those before 8"),
        ("a.txt", tum([0, 0.1]) + "0.2 1 2 x 4 5 6 7\n", "line 3: x is not a number"),
        ("a.txt", "x.1 0 0 0 0 0 0 1\n" + tum([0, 0.1]), "line 1: x.1 is not a number"),
        ("a.txt", "# nothing\n", "has no lines of numbers; expected are 8"),
        ("a.txt", "# Bundle file v0.3\n4 0\n", "file: a.txt is a Bundler file"),
        ("a.txt", "NVM_V3\n\n4\n", "file: a.txt is a VisualSFM file"),
        ("a.txt", "extrinsic\n" + rows(np.eye(4)), "file: a.txt is one camera of MVSNet's"),
        ("bundle.out", "# Bundle file v0.3\n", "file: bundle.out is a Bundler file"),
        ("a.nvm", "NVM_V3\n", "file: a.nvm is a VisualSFM file"),
        ("a.fbx", "", "file: a.fbx is not read; export a GLB"),
        ("a.pkl", "", "file: a.pkl is a pickle, which can run code"),
    ],
)  # fmt: skip
def test_refusals_of_text(tmp_path, name, text, words):
    with pytest.raises(InputError, match=words):
        read_cameras(put(tmp_path, name, text))


# --- Arrays -----------------------------------------------------------------------------------------------

BY_MIDDLE = "the file has no height and width: 640 x 480 was taken, with the principal point in the middle"


def matrix_4x4() -> np.ndarray:
    found = np.eye(4)
    found[:3, :3] = LENS
    return found


@pytest.mark.parametrize(
    "arrays, focals, notes",
    [
        ({"cam_c2w": poses(), "intrinsic": LENS}, (500, 510), [BY_MIDDLE]),
        ({"c2w": poses()[:, :3], "K": np.tile(LENS, (4, 1, 1)), "H": 480, "W": np.array([640])}, (500, 510),
         []),
        ({"C2W": poses(), "intrinsics": np.tile([500.0, 510, 320, 240], (4, 1))}, (500, 510), [BY_MIDDLE]),
        ({"c2w": poses(), "K": matrix_4x4()}, (500, 510), [BY_MIDDLE]),
        ({"c2w": poses(), "K": np.tile(matrix_4x4(), (1, 4, 1, 1))}, (500, 510), [BY_MIDDLE]),
        ({"poses": poses(), "focals": np.full((4, 1), 500.0), "pp": np.tile([320.0, 240], (4, 1))},
         (500, 500), [BY_MIDDLE]),
        ({"poses": poses(), "focals": np.tile([500.0, 510], (4, 1)), "height": 480, "width": 640},
         (500, 510), []),
        ({"poses": poses(), "fx": 500.0, "fy": 510.0, "cx": 320.0, "cy": 240.0}, (500, 510), [BY_MIDDLE]),
        ({"poses": poses(), "fx": np.full(4, 500.0), "H": 480, "W": 640}, (500, 500), []),
        ({"poses": poses(), "focal": [500.0, 510.0], "H": 480, "W": 640}, (500, 510), []),
        ({"poses": poses(), "focal": 500.0, "height": 480, "width": 640}, (500, 500), []),
        ({"extrinsic": np.linalg.inv(poses())[None, :, :3], "intrinsic": np.tile(LENS, (1, 4, 1, 1))},
         (500, 510), ["extrinsic was read as world to camera", BY_MIDDLE]),
        ({"c2w": poses(), "w2c": np.eye(4), "K": LENS}, (500, 510), ["c2w was read, not w2c", BY_MIDDLE]),
        ({"c2w": poses(), "K": LENS / [[640], [480], [1]], "height": 480, "width": 640}, (500, 510),
         ["intrinsics were read as shares of the picture's size"]),
        ({"c2w": poses(), "K": LENS / [[640], [480], [1]]}, (500 / 640 * 653, 510),
         ["intrinsics were read as shares of the picture's size",
          "the file has no picture size: 653 x 480 was taken, by square pixels"]),
    ],
)  # fmt: skip
def test_arrays_under_their_names(tmp_path, arrays, focals, notes):
    found = read_cameras(put(tmp_path, "a.npz", arrays | {"images": np.zeros(3), "depths": np.zeros(2)}))
    np.testing.assert_allclose(found.cameras.poses, poses(), atol=1e-12)
    np.testing.assert_allclose(found.cameras.intrinsics[:, [0, 1], [0, 1]], np.tile(focals, (4, 1)))
    assert found.notes == notes


@pytest.mark.parametrize(
    "arrays, words",
    [
        (
            {"depth": np.zeros(3), "cams": poses()},
            "a.npz holds depth, cams; expected are poses or c2w",
        ),
        ({"c2w": poses(), "K": np.tile(LENS, (3, 1, 1))}, "k: has 3 lenses for 4 poses"),
        ({"c2w": poses(), "K": np.zeros(5)}, r"k: has shape \(5,\); it must be"),
        ({"c2w": poses(), "focals": np.full(4, 500.0)}, "focals: have no picture size; add height and width"),
        ({"c2w": poses() + 0j}, "c2w: are complex numbers"),
        ({"w2c": np.zeros((4, 4, 4))}, "w2c: cannot be inverted"),
        ({"w2c": np.zeros((4, 7))}, r"w2c: has shape \(4, 7\); it must be \(frames, 4, 4\)"),
        ({"c2w": np.tile(poses(), (2, 1, 1, 1))}, r"c2w: has shape \(2, 4, 4, 4\)"),
    ],
)
def test_refusals_of_arrays(tmp_path, arrays, words):
    with pytest.raises(InputError, match=words):
        read_cameras(put(tmp_path, "a.npz", arrays))


def test_npy(tmp_path):
    for array in (poses()[:, :3].reshape(4, 12), poses().reshape(4, 16), poses()[None], poses()[:, :3]):
        check(read_cameras(put(tmp_path, "a.npy", array)), None)
    with pytest.raises(InputError, match=r"poses: has shape \(4, 7\); it must be"):
        read_cameras(put(tmp_path, "a.npy", np.zeros((4, 7))))


# --- JSON -------------------------------------------------------------------------------------------------


def test_splatting_in_the_order_of_its_pictures(tmp_path):
    found = read_cameras(splatting(tmp_path, asymmetric_path()))
    np.testing.assert_allclose(found.cameras.poses, asymmetric_path().poses, atol=1e-12)
    assert found.fps is None and found.notes == []


def test_record3d(tmp_path):
    path = asymmetric_path()
    found = read_cameras(record3d(tmp_path, path))
    np.testing.assert_allclose(found.cameras.poses, path.poses, atol=1e-12)
    document = json.loads(record3d(tmp_path, path).read_text())
    zoom = np.linspace([500, 510, 320, 240], [900, 910, 321, 241], len(path)).tolist()
    found = read_cameras(put(tmp_path, "b.json", document | {"perFrameIntrinsicCoeffs": zoom, "w": None}))
    np.testing.assert_allclose(found.cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]], zoom)
    assert found.notes == ["the file has no w: 640 x 480 was taken, with the principal point in the middle"]


def test_extrinsics_in_json(tmp_path):
    content = {"extrinsics": np.linalg.inv(poses()).tolist(), "intrinsics": LENS.tolist(), "fps": 8}
    found = read_cameras(put(tmp_path, "a.json", content))
    np.testing.assert_allclose(found.cameras.poses, poses(), atol=1e-12)
    assert found.fps == 8 and found.notes == ["extrinsics was read as world to camera", BY_MIDDLE]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"views": [1]}, "poses: a.json holds views; expected are poses"),
        ([{"a": 1}], "poses: a.json: camera 0 has no position, rotation, fx, fy, width, height"),
        (
            {"frames": [{"pose": np.eye(4).tolist()}, {}]},
            "poses: frame 1 has no pose, which other frames have",
        ),
        ([], r"poses: has shape \(0,\)"),
    ],
)
def test_refusals_of_json(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        read_cameras(put(tmp_path, "a.json", content))


def test_kitti_has_no_rate(tmp_path):
    assert read_cameras(kitti(tmp_path, asymmetric_path())).fps is None
