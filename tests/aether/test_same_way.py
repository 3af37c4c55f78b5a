"""One move in files of four programs, written by hand in the axes of each, goes the same way in Aether.

The move: half a unit to the right, a quarter up, one ahead, while the camera turns right by 30 degrees.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from aether.formats.camera_files import Lens, read_cameras
from aether.geometry import trajectory
from aether.geometry.path_check import check_path
from aether.geometry.raymap import to_cameras

from .camera_makers import glb_of

COS, SIN = np.cos(np.radians(30)), np.sin(np.radians(30))
HALF_COS, HALF_SIN = np.cos(np.radians(15)), np.sin(np.radians(15))


def colmap(folder: Path) -> Path:
    """World to camera, y down, quaternion w first: the world turns to the left, t = -R c."""
    x, y, z = 0.5, -0.25, 1.0
    t = -np.array([COS * x - SIN * z, y, SIN * x + COS * z])
    (folder / "cameras.txt").write_text("1 PINHOLE 720 480 600 600 360 240\n")
    (folder / "images.txt").write_text(
        f"1 1 0 0 0 0 0 0 1 a_1.png\n\n2 {HALF_COS} 0 {-HALF_SIN} 0 {t[0]} {t[1]} {t[2]} 1 a_2.png\n\n"
    )
    return folder / "images.txt"


def nerfstudio(folder: Path) -> Path:
    """Camera to world, camera y up and z back, world z up: ahead is +y, up is +z."""
    first = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    # Turned to the right: its own x axis points right and back, its z axis away from where it looks.
    last = [[COS, 0, -SIN, 0.5], [-SIN, 0, -COS, 1], [0, 1, 0, 0.25], [0, 0, 0, 1]]
    frames = [
        {"file_path": f"images/{number}.png", "transform_matrix": matrix}
        for number, matrix in enumerate((first, last))
    ]
    document = {"fl_x": 600, "fl_y": 600, "cx": 360, "cy": 240, "w": 720, "h": 480, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder / "transforms.json"


def blender(folder: Path) -> Path:
    """A GLB as Blender exports one: y up, the camera looks along -z; to the right is a turn about -y."""
    yfov = float(2 * np.arctan(240 / 600))
    samplers = [{"input": 0, "output": output, "interpolation": "LINEAR"} for output in (1, 2)]
    channels = [
        {"sampler": number, "target": {"node": 0, "path": path}}
        for number, path in enumerate(("translation", "rotation"))
    ]
    document = {
        "asset": {"version": "2.0"},
        "cameras": [{"type": "perspective", "perspective": {"yfov": yfov, "aspectRatio": 1.5, "znear": 0.1}}],
        "nodes": [{"camera": 0}],
        "animations": [{"samplers": samplers, "channels": channels}],
    }
    tracks = (
        np.array([[0.0], [1.0]]),
        np.array([[0.0, 0, 0], [0.5, 0.25, -1]]),
        np.array([[0.0, 0, 0, 1], [0, -HALF_SIN, 0, HALF_COS]]),
    )
    (folder / "shot.glb").write_bytes(glb_of(document, *tracks))
    return folder / "shot.glb"


def tum(folder: Path) -> Path:
    """Camera to world, y down, quaternion w last: to the right is a turn about +y."""
    (folder / "tum.txt").write_text(f"0 0 0 0 0 0 0 1\n1 0.5 -0.25 1 0 {HALF_SIN} 0 {HALF_COS}\n")
    return folder / "tum.txt"


PROGRAMS = {"COLMAP": colmap, "nerfstudio": nerfstudio, "Blender": blender, "TUM": tum}
FOV = float(2 * np.degrees(np.arctan(360 / 600)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_move_goes_the_same_way(tmp_path, name):
    path = read_cameras(PROGRAMS[name](tmp_path), Lens(FOV)).cameras.relative_to_first()
    np.testing.assert_allclose(path.poses[-1, :3, 3], [0.5, -0.25, 1], atol=1e-6)
    np.testing.assert_allclose(path.poses[-1, :3, 2], [SIN, 0, COS], atol=1e-6)  # where it looks
    np.testing.assert_allclose(path.poses[-1, :3, 1], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(path.intrinsics[-1], [[600, 0, 360], [0, 600, 240], [0, 0, 1]], rtol=1e-6)


def test_all_give_the_model_the_same_raymap(tmp_path):
    paths = {name: read_cameras(make(tmp_path), Lens(FOV)).cameras for name, make in PROGRAMS.items()}
    actions = {name: trajectory.action(path, 17, 480, 720) for name, path in paths.items()}
    for name, action in actions.items():
        np.testing.assert_allclose(action[0], actions["TUM"][0], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(action[-1], actions["TUM"][-1], atol=1e-5, err_msg=name)
        check = check_path(paths["TUM"], to_cameras(action))
        assert check.followed and check.ate_share < 0.02, name
