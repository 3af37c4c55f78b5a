"""The same move goes the same way in every format, and with the same lens where the format has one."""

from functools import partial

import numpy as np
import pytest

from aether.formats.camera_files import FORMATS, Lens, read_cameras, write_cameras

from . import camera_makers as make

POSES_ALONE = {
    "tum": make.tum_nanoseconds,
    "csv": make.tum_commas,
    "kitti": make.kitti,
    "rows": make.square_rows,
}
TO_WORLD = ("poses", "c2w", "cam_c2w", "cams2world", "camera_poses", "camera_to_worlds")
TO_CAMERA = ("w2c", "extrinsics", "extrinsic", "viewmats")
LENSES = ("intrinsics", "intrinsic", "K", "Ks")
MAKERS = {
    "colmap binary": make.colmap_binary,
    "instant-ngp": make.instant_ngp,
    "nerfstudio's viewer": make.viewer_path,
    "3D Gaussian Splatting": make.splatting,
    "Record3D": make.record3d,
    "EuRoC": make.euroc,
    "RealEstate10K": make.realestate,
    "LLFF": make.llff,
    "glb": make.glb,
    "gltf with its buffer inside": make.gltf_inline,
    "gltf with its buffer beside": make.gltf_apart,
    **POSES_ALONE,
    **{name: partial(make.arrays, name=name, lens="K") for name in TO_WORLD},
    **{name: partial(make.arrays, name=name, lens="intrinsics", inverse=True) for name in TO_CAMERA},
    **{f"lens {name}": partial(make.arrays, name="poses", lens=name) for name in LENSES},
    "a batch of one": partial(make.arrays, name="extrinsic", lens="intrinsic", inverse=True, batch=True),
}
WITHOUT_LENS = {*POSES_ALONE, "EuRoC", "tum"}


def same(found, path) -> None:
    found, path = found.relative_to_first(), path.relative_to_first()
    np.testing.assert_allclose(found.poses, path.poses, atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_move(tmp_path, name):
    path = make.asymmetric_path()
    found = read_cameras(MAKERS[name](tmp_path, path), Lens(50))
    same(found.cameras, path)
    if name in WITHOUT_LENS:
        np.testing.assert_allclose(np.degrees(found.cameras.fov_x), 50)
    else:
        np.testing.assert_allclose(found.cameras.intrinsics, path.intrinsics, rtol=1e-5)
        assert (found.cameras.height, found.cameras.width) == (path.height, path.width)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_move_in_what_we_write(tmp_path, format):
    path = make.asymmetric_path()
    same(read_cameras(write_cameras(tmp_path / "a", path, 12, format)).cameras, path)


@pytest.mark.parametrize(
    "name",
    ["nerfstudio's viewer", "Record3D", "EuRoC", "RealEstate10K", "glb", "tum", "csv"],
)
def test_rates(tmp_path, name):
    assert read_cameras(MAKERS[name](tmp_path, make.asymmetric_path())).fps == pytest.approx(12, rel=1e-4)
