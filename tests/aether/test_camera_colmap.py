"""COLMAP's models: its grammar, its lenses, its folders."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from aether.errors import InputError
from aether.formats.camera_files import files_beside, is_offered, read_cameras

from .camera_makers import asymmetric_path, colmap_binary, colmap_cameras_bin, colmap_images_bin, put

PINHOLE = "1 PINHOLE 640 480 500 510 320 240\n"


def picture(number: int, name: str | None = None, camera: int = 1) -> str:
    """A camera that is ``number`` to the right."""
    return f"{number + 1} 1 0 0 0 {-number} 0 0 {camera} {name or f'{number}.png'}\n"


def two_lines(points: str = "") -> str:
    return "".join(picture(number) + points + "\n" for number in range(4))


def model(folder: Path, images: str, cameras: str = PINHOLE) -> Path:
    put(folder, "cameras.txt", cameras)
    put(folder, "images.txt", images)
    return folder


def places(folder: Path) -> list[float]:
    return read_cameras(folder).cameras.poses[:, 0, 3].tolist()


@pytest.mark.parametrize(
    "images",
    [
        two_lines(),
        two_lines("1.5 2.5 -1 3.5 4.5 17"),
        "# head\n\n" + two_lines(),
        "\n\n" + two_lines() + "\n\n\n",
        two_lines().replace("\n\n", "\n\n\n\n"),
        two_lines("1 2 -1").replace("-1\n", "-1\n\n"),
        two_lines("1 2 -1").replace("\n", "\r\n"),
        "".join(picture(number) for number in range(4)),
        "".join(picture(number) + "# no points\n\n" for number in range(4)),
        picture(0) + "1 2 -1\n" + picture(1) + picture(2) + "\n" + picture(3) + "1 2 3 4 5 6\n",
        "".join(picture(number) for number in range(4)).rstrip("\n"),
    ],
    ids=[
        *("two lines", "points", "blank after head", "blank around", "blank between", "blank after points"),
        *("CRLF", "one line", "comments between", "mixed", "no end of line"),
    ],
)
def test_the_grammar(tmp_path, images):
    assert places(model(tmp_path, images)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "names",
    [
        ["my picture 1.png", "my picture 2.png"],
        ["0001", "0002"],
        ["ünï 1.png", "ünï 2.png"],
        ["a#1.png", "a#2.png"],
    ],
)
@pytest.mark.parametrize("points", ["", "\n", "1 2 -1\n"])
def test_names(tmp_path, names, points):
    assert places(model(tmp_path, "".join(picture(n, name) + points for n, name in enumerate(names)))) == [
        0,
        1,
    ]


@pytest.mark.parametrize(
    "images, cameras, words",
    [
        (two_lines() + "5 1 0 0", PINHOLE, "images.txt: line 9 is not IMAGE_ID QW"),
        (picture(0) + "1 2\n" + picture(1), PINHOLE, "images.txt: line 2 is not IMAGE_ID QW"),
        (picture(0) + "\n1 2 -1\n" + picture(1), PINHOLE, "images.txt: line 3 is not IMAGE_ID QW"),
        ("# nothing\n", PINHOLE, "images.txt: has no pictures"),
        (two_lines(), PINHOLE.replace("1 P", "3 P"), "cameras.txt: has no camera 1, which 0.png was"),
        (two_lines(), "1 PINHOLE 640\n", "cameras.txt: line 1 is not CAMERA_ID MODEL WIDTH"),
        (two_lines(), "1 PINHOLE 640 480 500 x 320 240\n", "cameras.txt: line 1 is not CAMERA_ID MODEL"),
        (two_lines(), "1 PINHOLE 640 480 500 320 240\n", "cameras.txt: PINHOLE has 4 parameters, not 3"),
        (two_lines(), "1 PERSPECTIVE 640 480 500 320\n", "cameras.txt: PERSPECTIVE has"),
        (two_lines(), "1 FISHEYE 640 480 500 500 320 240\n", "and FISHEYE is a fisheye lens; undistort"),
        (two_lines(), "1 FOV 640 480 500 500 320 240 0.9\n", "and FOV is a fisheye lens"),
        (picture(0) + picture(1, camera=2), PINHOLE + PINHOLE.replace("1 PINHOLE 640", "2 PINHOLE 641"),
         r"cameras.txt: pictures have 2 sizes \(640 x 480, 641 x 480\); a path has one"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, images, cameras, words):
    with pytest.raises(InputError, match=words):
        read_cameras(model(tmp_path, images, cameras))


@pytest.mark.parametrize(
    "unused", ["2 OPENCV_FISHEYE 640 480 300 300 320 240 0 0 0 0\n", "2 MAGIC 1 1 1\n", "2\n"]
)
def test_a_lens_that_no_picture_uses_does_not_count(tmp_path, unused):
    found = read_cameras(model(tmp_path, two_lines(), unused + PINHOLE))
    assert len(found.cameras) == 4 and found.notes == []


def test_several_lenses(tmp_path):
    cameras = PINHOLE + "7 SIMPLE_RADIAL 640 480 600 310 250 0.02\n9 RADIAL 640 480 600 310 250 0.001 0\n"
    images = picture(0) + picture(1, camera=7) + picture(2, camera=9)
    found = read_cameras(model(tmp_path, images, cameras))
    focals = found.cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    np.testing.assert_array_equal(focals, [[500, 510, 320, 240], [600, 600, 310, 250], [600, 600, 310, 250]])
    (note,) = found.notes
    # The corner at (0.55, -0.417): r^2 = 0.476, 414 pixels from the principal point.
    assert note.startswith("lens distortion was left out: SIMPLE_RADIAL with k1 = 0.02, up to 3.94 pixels")
    assert note.endswith("the largest of 2 lenses")


def test_pictures_of_several_folders_are_reported(tmp_path):
    images = "".join(picture(n, f"cam{n % 2}/{n}.png") for n in range(4))
    found = read_cameras(model(tmp_path, images))
    assert found.cameras.poses[:, 0, 3].tolist() == [0, 2, 1, 3]
    note = "pictures lie in 2 folders (cam0, cam1): the path goes through one after another"
    assert found.notes == [note]


# --- Binary -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [0, 3])
def test_binary(tmp_path, points):
    path = asymmetric_path()
    put(tmp_path, "images.bin", colmap_images_bin(path, points))
    put(tmp_path, "cameras.bin", colmap_cameras_bin(path))
    for chosen in (tmp_path, tmp_path / "images.bin", tmp_path / "cameras.bin"):
        found = read_cameras(chosen)
        np.testing.assert_allclose(found.cameras.poses, path.poses, atol=1e-12)
        np.testing.assert_array_equal(found.cameras.intrinsics, path.intrinsics)
        assert found.notes == []


def test_binary_lenses(tmp_path):
    path = asymmetric_path()
    put(tmp_path, "images.bin", colmap_images_bin(path))
    put(tmp_path, "cameras.bin", colmap_cameras_bin(path, 4, (0.1, 0, 0, 0)))
    (note,) = read_cameras(tmp_path).notes
    assert note.startswith("lens distortion was left out: OPENCV with k1 = 0.1, up to 18.7 pixels")
    put(tmp_path, "cameras.bin", colmap_cameras_bin(path, 5, (0, 0, 0, 0)))
    with pytest.raises(InputError, match="cameras.bin: .* OPENCV_FISHEYE is a fisheye lens"):
        read_cameras(tmp_path)
    put(tmp_path, "cameras.bin", colmap_cameras_bin(path, 99))
    with pytest.raises(InputError, match="cameras.bin: has a lens model of number 99"):
        read_cameras(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data + b"\0",
        lambda data: struct.pack("<Q", 2**60) + data[8:],
        lambda data: data[:8],
        lambda data: data[:-56] + struct.pack("<Q", 2**62) + data[-48:],
        lambda data: b"",
    ],
)
def test_damaged_binary_files(tmp_path, damage):
    colmap_binary(tmp_path, asymmetric_path())
    put(tmp_path, "images.bin", damage(colmap_images_bin(asymmetric_path())))
    with pytest.raises(InputError, match="images.bin: is no COLMAP binary file, or a damaged one"):
        read_cameras(tmp_path)


# --- Folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["sparse/0", "sparse", "colmap/sparse/0", "0"])
def test_models_below_a_folder(tmp_path, below):
    model(tmp_path / below, two_lines())
    assert places(tmp_path) == [0, 1, 2, 3] and read_cameras(tmp_path).notes == []


def test_several_models_are_reported(tmp_path):
    for number in range(3):
        model(tmp_path / "sparse" / str(number), two_lines())
    assert read_cameras(tmp_path).notes == ["COLMAP made several models: 0 was read, not 1, 2"]


def test_a_binary_and_a_text_model(tmp_path):
    path = asymmetric_path()
    colmap_binary(model(tmp_path, two_lines()), path)
    found = read_cameras(tmp_path)
    assert len(found.cameras) == len(path)
    assert found.notes == ["the folder has a binary and a text model: the binary one was read"]
    assert len(read_cameras(tmp_path / "images.txt").cameras) == 4
    (tmp_path / "cameras.bin").unlink()
    assert places(tmp_path) == [0, 1, 2, 3]
    (tmp_path / "cameras.txt").unlink()
    with pytest.raises(
        InputError, match="file: a COLMAP model has images.bin and cameras.bin: cameras.bin is"
    ):
        read_cameras(tmp_path)


def test_rigs_and_frames_change_nothing(tmp_path):
    model(tmp_path, two_lines())
    put(tmp_path, "rigs.txt", "1 1 CAMERA 1\n")
    put(tmp_path, "frames.txt", "1 1 1 0 0 0 9 9 9 1 CAMERA 1 1\n")
    assert places(tmp_path) == places(tmp_path / "frames.txt") == [0, 1, 2, 3]


def test_a_model_under_another_name(tmp_path):
    model(tmp_path, "# Image list with two lines of data per image:\n" + two_lines())
    shutil.copy(tmp_path / "images.txt", tmp_path / "mine.txt")
    with pytest.raises(InputError, match="file: mine.txt is COLMAP's images.txt under another name"):
        read_cameras(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="file: weights.bin is not one of a COLMAP model's files"):
        read_cameras(put(tmp_path, "weights.bin", b"x"))


def test_what_a_list_offers(tmp_path):
    names = ("images.bin", "images.txt", "a.glb", "a.csv")
    assert all(is_offered(tmp_path / name) for name in names)
    assert not any(
        is_offered(tmp_path / name) for name in ("cameras.txt", "points3D.bin", "rigs.txt", "x.bin")
    )
    assert files_beside(tmp_path / "images.bin") == [tmp_path / "cameras.bin"]
    put(tmp_path, "scene.bin", b"x")
    assert files_beside(tmp_path / "a.gltf") == [tmp_path / "scene.bin"]
    assert files_beside(tmp_path / "a.glb") == []
