"""A small Sintel, and results to score."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

HEIGHT, WIDTH, FRAMES = 24, 48, 20
TAG = np.float32(202021.25).tobytes()


def depth_of(shift: float) -> np.ndarray:
    """(F, H, W) from 3 to 20, with sky at the top."""
    f, y, x = np.meshgrid(np.arange(FRAMES), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    depth = 11 + 8 * np.sin(0.1 * x + 0.05 * f + shift) * np.cos(0.2 * y)
    depth[:, :4] = 1e10
    return depth.astype(np.float32)


def poses_of(shift: float) -> np.ndarray:
    """(F, 4, 4) along a curve."""
    t = np.linspace(0, 1, FRAMES)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.outer(0.35 * t + shift, [0, 1, 0])).as_matrix()
    poses[:, :3, 3] = np.stack([np.sin(3 * t + shift), t**2, 2 * t], axis=1)
    return poses


@pytest.fixture(scope="session")
def sintel(tmp_path_factory) -> SimpleNamespace:
    """Two sequences in Sintel's layout: .root, and .depth and .poses by name."""
    root = tmp_path_factory.mktemp("sintel")
    truth = SimpleNamespace(root=root, depth={}, poses={})
    intrinsics = np.array([[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]])
    for shift, name in enumerate(("alley_2", "temple_3")):
        depth, poses = depth_of(shift), poses_of(shift)
        truth.depth[name], truth.poses[name] = depth, poses
        for kind in ("depth", "camdata_left", "final"):
            (root / "training" / kind / name).mkdir(parents=True)
        for index, (picture, pose) in enumerate(zip(depth, poses, strict=True), start=1):
            stem = f"{name}/frame_{index:04d}"
            size = np.array([WIDTH, HEIGHT], "<i4").tobytes()
            (root / f"training/depth/{stem}.dpt").write_bytes(TAG + size + picture.tobytes())
            numbers = np.concatenate([intrinsics.ravel(), np.linalg.inv(pose)[:3].ravel()])
            (root / f"training/camdata_left/{stem}.cam").write_bytes(TAG + numbers.astype("<f8").tobytes())
            Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"training/final/{stem}.png")
    return truth


@pytest.fixture
def predictions(tmp_path, sintel) -> Path:
    """A folder of .npz files: half the true depth with an error of a known size, and the true poses in
    another frame."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for name, depth in sintel.depth.items():
        guess = np.minimum(depth, 60) / 2
        guess[:, :, ::4] *= 1.1
        np.savez(
            folder / f"{name}.npz",
            depth=guess,
            poses=np.linalg.inv(sintel.poses[name][3]) @ sintel.poses[name],
        )
    return folder
