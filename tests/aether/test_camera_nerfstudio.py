"""transforms.json of nerfstudio and instant-ngp, and camera_path.json of nerfstudio's viewer."""

import numpy as np
import pytest

from aether.errors import InputError
from aether.formats.camera_files import Lens, read_cameras

from .camera_makers import GL, put

FULL = {"w": 640, "h": 480, "fl_x": 500.0, "fl_y": 510.0, "cx": 320.0, "cy": 240.0}


def pose(number: int) -> list[list[float]]:
    """A camera that is ``number`` to the right, in OpenGL's axes."""
    matrix = GL.copy()
    matrix[0, 3] = number
    return matrix.tolist()


def frames(count: int = 4, **settings: object) -> list[dict]:
    return [{"file_path": f"f_{n}.png", "transform_matrix": pose(n), **settings} for n in range(count)]


def read(tmp_path, lens: Lens | None = None, **document: object):
    return read_cameras(put(tmp_path, "transforms.json", document), lens)


def without(settings: dict, *keys: str) -> dict:
    return {key: value for key, value in settings.items() if key not in keys}


@pytest.mark.parametrize(
    "settings, fx, fy",
    [
        ({"camera_angle_x": 0.8}, 320 / np.tan(0.4), 320 / np.tan(0.4)),
        ({"camera_angle_y": 0.8}, 240 / np.tan(0.4), 240 / np.tan(0.4)),
        ({"camera_angle_x": 1.0, "camera_angle_y": 1.0}, 320 / np.tan(0.5), 240 / np.tan(0.5)),
        ({"x_fov": 60}, 320 / np.tan(np.pi / 6), 320 / np.tan(np.pi / 6)),
        ({"y_fov": 60}, 240 / np.tan(np.pi / 6), 240 / np.tan(np.pi / 6)),
        ({"fl_x": 500}, 500, 500),
        ({"fl_y": 510}, 510, 510),
        ({"fl_x": 500, "fl_y": 510}, 500, 510),
        ({"fl_x": 500, "camera_angle_y": 0.8}, 500, 240 / np.tan(0.4)),
        ({"fl_x": 500, "camera_angle_x": 0.8}, 500, 500),
        ({"fl_x": None, "camera_angle_x": 0.8, "k1": None}, 320 / np.tan(0.4), 320 / np.tan(0.4)),
    ],
)
def test_angles_and_focal_lengths(tmp_path, settings, fx, fy):
    """Of the document, and of every frame."""
    for found in (
        read(tmp_path, w=640, h=480, **settings, frames=frames()),
        read(tmp_path, w=640, h=480, frames=frames(**settings)),
    ):
        expected = np.tile([[fx, 0, 320], [0, fy, 240], [0, 0, 1]], (4, 1, 1))
        np.testing.assert_allclose(found.cameras.intrinsics, expected)
        assert found.notes == []
        assert found.cameras.poses[:, 0, 3].tolist() == [0, 1, 2, 3]


def test_a_zoom(tmp_path):
    zooming = [one | {"camera_angle_x": 0.5 + 0.1 * n} for n, one in enumerate(frames())]
    found = read(tmp_path, w=640, h=480, frames=zooming)
    np.testing.assert_allclose(found.cameras.fov_x, [0.5, 0.6, 0.7, 0.8])


@pytest.mark.parametrize("key", [*FULL, "camera_angle_x"])
def test_a_frame_without_what_others_have_is_named(tmp_path, key):
    settings = {"w": 640, "h": 480, "camera_angle_x": 0.8} if key == "camera_angle_x" else FULL
    given = frames(**settings)
    del given[2][key]
    with pytest.raises(InputError, match=f"frames: f_2.png has no {key}, which other frames have"):
        read(tmp_path, frames=given)
    assert len(read(tmp_path, **settings, frames=given).cameras) == 4  # the document's stands in


def test_a_frame_without_a_pose_is_named(tmp_path):
    for number in (0, 2):
        given = frames()
        del given[number]["transform_matrix"]
        with pytest.raises(InputError, match=f"transform_matrix: f_{number}.png has none"):
            read(tmp_path, **FULL, frames=given)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model: .* OPENCV_FISHEYE is a fisheye lens"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model: .* EQUIRECTANGULAR is a panorama"),
        ({"camera_model": "VR180_L"}, "camera_model: .* VR180_L is a panorama"),
        ({"camera_model": "ORTHOPHOTO"}, "camera_model: .* ORTHOPHOTO is an orthographic camera"),
        ({"camera_model": "fisheye624"}, "camera_model: .* FISHEYE624 is a fisheye lens"),
        ({"camera_model": "MAGIC"}, "camera_model: the lens model MAGIC is not known"),
        ({"is_fisheye": True}, "is_fisheye: .* OPENCV_FISHEYE is a fisheye lens"),
        ({"latlong": True}, "latlong: .* LATLONG is a panorama"),
        ({"equirectangular": 1}, "equirectangular: .* EQUIRECTANGULAR is a panorama"),
        ({"orthographic": True}, "orthographic: .* ORTHOGRAPHIC is an orthographic camera"),
        ({"ftheta_p0": 0.1, "ftheta_p1": 0.2}, "ftheta: .* FTHETA is a fisheye lens"),
    ],
)
def test_lenses_that_are_no_pinhole(tmp_path, settings, words):
    for document in ({**settings, "frames": frames()}, {"frames": frames(**settings)}):
        with pytest.raises(InputError, match=words):
            read(tmp_path, **FULL, **document)


@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "opencv"])
def test_lenses_without_distortion(tmp_path, model):
    zeros = dict.fromkeys(("k1", "k2", "k3", "k4", "p1", "p2"), 0.0)
    found = read(tmp_path, **FULL, **zeros, camera_model=model, is_fisheye=False, frames=frames())
    assert found.notes == [] and found.cameras.intrinsics[0, 1, 1] == 510


@pytest.mark.parametrize("bent", [{"k1": 0.0, "p2": 0.01}, {"distortion_params": [0, 0, 0, 0, 0, 0.01]}])
def test_distortion_is_reported(tmp_path, bent):
    (note,) = read(tmp_path, **FULL, **bent, frames=frames()).notes
    # The corner (0.64, 0.471): p2 (r^2 + 2 x^2) to the right, 2 p2 x y down.
    size = 0.01 * np.hypot(500 * (3 * 0.64**2 + 0.4706**2), 510 * 2 * 0.64 * 0.4706)
    words = f"OPENCV with p2 = 0.01, up to {size:.3g} pixels at the picture's edge"
    assert note == f"lens distortion was left out: {words}"


@pytest.mark.parametrize("rows", [3, 4])
def test_applied_transform(tmp_path, rows):
    applied = np.array([[0.0, 1, 0, 3], [1, 0, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]])
    given = frames()
    for frame in given:
        moved = applied @ frame["transform_matrix"]
        moved[:3, 3] *= 0.5
        frame["transform_matrix"] = moved.tolist()
    transform = applied.copy()
    found = read(
        tmp_path, **FULL, applied_transform=transform[:rows].tolist(), applied_scale=0.5, frames=given
    )
    expected = np.tile(np.eye(4), (4, 1, 1))
    expected[:, 0, 3] = range(4)
    np.testing.assert_allclose(found.cameras.poses, expected, atol=1e-12)
    assert found.notes == ["applied_scale 0.5 was undone: lengths are those before it"]


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"applied_transform": np.eye(3).tolist()},
            r"applied_transform: has shape \(3, 3\); it must be \(3, 4\)",
        ),
        ({"applied_transform": np.zeros((4, 4)).tolist()}, "applied_transform: cannot be inverted"),
        ({"applied_scale": 0}, "applied_scale: 0 must be a positive number"),
        ({"fl_y": -1}, "intrinsics: fl_y = -1: focal lengths must be positive"),
    ],
)
def test_refusals(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, **{**FULL, **settings}, frames=frames())


def test_what_is_missing_is_reported_with_the_numbers_taken(tmp_path):
    lens = Lens(50, 320, 640)
    assert read(tmp_path, lens, camera_angle_x=0.8, frames=frames()).notes == [
        "the file has no h and w: 640 x 320 was taken"
    ]
    assert read(tmp_path, lens, w=640, h=480, frames=frames()).notes == [
        "the file has no lens: 50 degrees and 640 x 480 were taken"
    ]
    assert read(tmp_path, lens, frames=frames()).notes == [
        "the file has no lens: 50 degrees and 640 x 320 were taken"
    ]
    found = read(tmp_path, **without(FULL, "w", "h"), frames=frames())
    assert found.notes[0].startswith("the file has no h and w: 640 x 480 was taken")
    with pytest.raises(InputError, match="add h$"):
        read(tmp_path, w=640, camera_angle_x=0.8, frames=frames())


# --- The viewer -------------------------------------------------------------------------------------------


def viewer(tmp_path, count: int = 4, frame: dict | None = None, **document: object):
    poses = [
        {"camera_to_world": np.ravel(pose(n)).tolist(), "fov": 50, **(frame or {})} for n in range(count)
    ]
    whole = {
        "camera_type": "perspective",
        "render_height": 1080,
        "render_width": 1920,
        "fps": 24,
        "seconds": 2,
    }
    whole |= {"camera_path": poses} | document
    return read_cameras(
        put(tmp_path, "camera_path.json", without(whole, *(k for k, v in whole.items() if v is None)))
    )


def test_the_viewers_path(tmp_path):
    found = viewer(tmp_path, frame={"aspect": 16 / 9})
    np.testing.assert_allclose(np.degrees(found.cameras.fov_y), 50)
    np.testing.assert_allclose(found.cameras.intrinsics[:, 0, 0], found.cameras.intrinsics[:, 1, 1])
    assert (found.cameras.height, found.cameras.width, found.fps, found.notes) == (1080, 1920, 24, [])
    assert found.cameras.poses[:, 0, 3].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.cameras.poses[:, :3, :3], np.tile(np.eye(3), (4, 1, 1)))


@pytest.mark.parametrize("matrix", [np.array(pose(1)), np.array(pose(1))[:3], np.ravel(pose(1))[:12]])
def test_the_viewers_matrices(tmp_path, matrix):
    found = viewer(tmp_path, frame={"camera_to_world": matrix.tolist()})
    assert found.cameras.poses[:, 0, 3].tolist() == [1, 1, 1, 1]


def test_the_viewers_zoom_size_and_rate(tmp_path):
    found = viewer(
        tmp_path, fps=None, camera_path=[{"camera_to_world": pose(n), "fov": 40 + n} for n in range(4)]
    )
    np.testing.assert_allclose(np.degrees(found.cameras.fov_y), [40, 41, 42, 43])
    assert found.fps == 2  # 4 frames in 2 seconds
    assert viewer(tmp_path, fps=None, seconds=None).fps is None
    assert viewer(tmp_path, frame={"fov": None}, default_fov=30).cameras.fov_y[0] == pytest.approx(
        np.radians(30)
    )
    found = viewer(tmp_path, frame={"aspect": 2.0}, render_height=None)
    assert found.notes == ["the file has no render size: 960 x 480 was taken"]
    assert viewer(tmp_path, frame={"aspect": 2.0}).notes == [
        "aspect 2 is not that of 1920 x 1080, which was taken"
    ]


@pytest.mark.parametrize(
    "document, words",
    [
        ({"camera_type": "fisheye"}, "camera_type: .* FISHEYE is a fisheye lens"),
        ({"camera_type": "equirectangular"}, "camera_type: .* EQUIRECTANGULAR is a panorama"),
        ({"camera_type": "omnidirectional"}, "camera_type: .* OMNIDIRECTIONAL is a panorama"),
        ({"camera_path": []}, "camera_path: is empty; add keyframes"),
        ({"count": 1}, "poses: .* single pose"),
        ({"frame": {"fov": None}}, "fov: frame 0: None must be between 0 and 180"),
        ({"frame": {"fov": 180}}, "fov: frame 0: 180 must be between 0 and 180"),
        (
            {"frame": {"camera_to_world": [1, 2]}},
            "camera_to_world: frame 0 has 2 numbers; a pose has 16 or 12",
        ),
        ({"fps": 0}, "fps"),
    ],
)
def test_the_viewers_refusals(tmp_path, document, words):
    with pytest.raises(InputError, match=words):
        viewer(tmp_path, **document)
